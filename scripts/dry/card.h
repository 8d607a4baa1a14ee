/* The card that dry CUDA plays: cuDNN's device property record, JSON text in the environment. No CUDA header. */
#ifndef CARD_H
#define CARD_H

#include <stdint.h>

/* The whole record, as cuDNN takes it. Ends the process with a message where scripts/dry_cuda did not set it. */
const char *card_record(void);

/* A number of the record; `index` counts within a list ("maxGridSize"), else 0. Ends the process where it is absent. */
uint64_t card_number(const char *key, int index);

/* `deviceName`, cut to `size` - 1 characters. */
void card_name(char *text, unsigned size);

/* Compute capability: 8 and 9 for sm_89. */
int card_major(void);
int card_minor(void);

/* An identity made from the name, the same in CUDA (bytes) and NVML (text, 41 bytes with its end). */
void card_uuid(unsigned char uuid[16]);
void card_uuid_text(char text[41]);

#endif
