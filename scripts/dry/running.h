/* What each running process holds on the card, for NVML. No CUDA header. */
#ifndef RUNNING_H
#define RUNNING_H

#include <stdint.h>

typedef struct {
    int pid;
    uint64_t bytes;
} Process;

/* Say that this process holds `bytes` (context included) from now on. */
void running_publish(uint64_t bytes);

/* The processes that live and hold something: fills at most `room`, returns how many there are. */
unsigned running_list(Process *processes, unsigned room);

#endif
