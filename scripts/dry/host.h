/* Memory of the host that a copy from the card would fill. No CUDA header: tests load it through ctypes. */
#ifndef HOST_H
#define HOST_H

#include <stdint.h>
#include <stddef.h>

/* Make `bytes` at `address` read as zeros; whole pages of the process's own are dropped, others written. */
void host_zero(void *address, size_t bytes);

#endif
