/* The driver functions that torch looks up by name, most of them for expandable segments. */
#ifndef VIRTUAL_MEMORY_H
#define VIRTUAL_MEMORY_H

/* The function `name` of the driver API. One that is not modelled answers CUDA_ERROR_NOT_SUPPORTED. */
void *virtual_memory_function(const char *name);

#endif
