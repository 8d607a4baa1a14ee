/* Memory of the host that a copy from the card would fill. No CUDA header: tests load it through ctypes. */
#ifndef HOST_H
#define HOST_H

#include <stdint.h>
#include <stddef.h>

/* Make `bytes` at `address` read as zeros; whole pages of the process's own are dropped, others written. */
void host_zero(void *address, size_t bytes);

/* Whole pages of zeros take no RAM any more, and read as before. */
void host_give_back_zeros(void *address, size_t bytes);

/* Who knows what memory of the card holds: values.cpp, once torch is there. It fills `to`, or says that nobody knows. */
enum { HOST_UNKNOWN = 0, HOST_READ = 1, HOST_REFUSED = 2 };
typedef int (*HostReader)(void *to, const void *from, size_t bytes);
extern HostReader host_reader;

/* Who wants to know that a kernel starts. */
extern void (*host_launching)(void);

/* A copy from the card: what is known, zeros where nobody asks for numbers. Returns 0 where it must fail. */
int host_receive(void *to, const void *from, size_t bytes);

#endif
