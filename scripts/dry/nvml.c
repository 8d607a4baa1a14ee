/* libnvidia-ml.so.1 of dry CUDA: NVML over the books of the processes that run.
 *
 * Real: the arithmetic of total, used, free and reserved in both versions of the structure, and each process's bytes.
 * Not real: the bytes that a driver reserves (invented, here), a complete list of processes with their own pids (a driver in a
 * container lists the host's, or none). Power, clocks and temperature are not there: NOT_SUPPORTED, never a made-up number.
 * Layouts follow nvml.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "card.h"
#include "running.h"

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

/* Invented: what the driver keeps for itself. CUDA's total is NVML's total less these. */
#define RESERVED_BYTES (512ull << 20)

typedef struct {
    uint64_t total, free, used;
} MemoryV1;

typedef struct {
    unsigned version;
    uint64_t total, reserved, free, used;
} MemoryV2;

typedef struct {
    unsigned pid;
    uint64_t used;
    unsigned gpu_instance, compute_instance;
} ProcessInfo;

typedef struct {
    unsigned pid;
    uint64_t used;
} ProcessInfoV1;

static char the_card; /* its address is the handle */

/* ---- library ---- */

int nvmlInit_v2(void) {
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    return SUCCESS;
}

int nvmlShutdown(void) {
    return SUCCESS;
}

const char *nvmlErrorString(int error) {
    switch (error) {
        case SUCCESS: return "Success";
        case NOT_SUPPORTED: return "Not Supported by dry CUDA";
        case NOT_FOUND: return "Not Found";
        case INSUFFICIENT_SIZE: return "Insufficient Size";
        default: return "Unknown Error";
    }
}

static int give(const char *text, char *room, unsigned size) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(room, text);
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    return give("dry", text, size);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 13000;
    return SUCCESS;
}

/* ---- the card ---- */

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 1;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = &the_card;
    return index == 0 ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **handle) {
    *handle = &the_card;
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    char own[41];
    card_uuid_text(own);
    *handle = &the_card;
    return strcmp(uuid, own) == 0 ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    char own[41];
    card_uuid_text(own);
    return give(own, text, size);
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    char name[256];
    card_name(name, sizeof name);
    return give(name, text, size);
}

/* ---- memory ---- */

enum { MOST_PROCESSES = 1024 };

static uint64_t used_bytes(void) {
    Process processes[MOST_PROCESSES];
    unsigned count = running_list(processes, MOST_PROCESSES);
    uint64_t used = 0, total = card_number("totalGlobalMem", 0);
    for (unsigned i = 0; i < count && i < MOST_PROCESSES; i++) used += processes[i].bytes;
    return used < total ? used : total; /* each process has the whole card: together they may take more */
}

/* `used` counts what the driver reserves. */
int nvmlDeviceGetMemoryInfo(void *handle, MemoryV1 *memory) {
    memory->used = used_bytes() + RESERVED_BYTES;
    memory->total = card_number("totalGlobalMem", 0) + RESERVED_BYTES;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

/* `used` does not. */
int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *memory) {
    memory->used = used_bytes();
    memory->reserved = RESERVED_BYTES;
    memory->total = card_number("totalGlobalMem", 0) + RESERVED_BYTES;
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, ProcessInfo *found) {
    Process processes[MOST_PROCESSES];
    unsigned room = *count;
    *count = running_list(processes, MOST_PROCESSES);
    if (*count > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count && i < MOST_PROCESSES; i++)
        found[i] = (ProcessInfo){(unsigned)processes[i].pid, processes[i].bytes, ~0u, ~0u};
    return SUCCESS;
}

/* What torch asks for its out-of-memory message. */
int nvmlDeviceGetComputeRunningProcesses(void *handle, unsigned *count, ProcessInfoV1 *found) {
    Process processes[MOST_PROCESSES];
    unsigned room = *count;
    *count = running_list(processes, MOST_PROCESSES);
    if (*count > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count && i < MOST_PROCESSES; i++)
        found[i] = (ProcessInfoV1){(unsigned)processes[i].pid, processes[i].bytes};
    return SUCCESS;
}

/* ---- connections: none; torch asks before it makes expandable segments ---- */

typedef struct {
    unsigned version;
    unsigned char cluster[16];
    int status;
    unsigned clique;
    unsigned char state;
    unsigned health;
} FabricInfo;

int nvmlDeviceGetGpuFabricInfoV(void *handle, FabricInfo *info) {
    info->status = SUCCESS;
    info->state = 0; /* not supported */
    return SUCCESS;
}

/* ---- what a card that does not work has not ---- */

#define ABSENT(name) \
    int name(void) { return NOT_SUPPORTED; }

ABSENT(nvmlDeviceGetPowerUsage)
ABSENT(nvmlDeviceGetClockInfo)
ABSENT(nvmlDeviceGetTemperature)
ABSENT(nvmlDeviceGetTemperatureV)
ABSENT(nvmlDeviceGetCurrentClocksEventReasons)
ABSENT(nvmlDeviceGetCurrentClocksThrottleReasons)
ABSENT(nvmlDeviceGetNvLinkRemoteDeviceType)
ABSENT(nvmlDeviceGetNvLinkRemotePciInfo_v2)
