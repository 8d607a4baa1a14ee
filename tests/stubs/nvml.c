/* A stub of libnvidia-ml.so.1 for tests of the real pynvml without a GPU.
 *
 * Two cards and one MIG slice; index 0 is the idle "Stub Other", so a look-up by index finds the wrong one. Layouts
 * follow nvml.h as nvidia-ml-py declares it. LATENTMETER_STUB_NVML holds the scenario: words joined by commas, "ok" for
 * none.
 *
 *   no_driver         nvmlInit answers DRIVER_NOT_LOADED
 *   v1_only           memory: no v2; v1 counts reserved as used
 *   v2_fails          memory: v2 answers UNKNOWN, v1 works
 *   includes_reserved memory: used of v2 counts reserved too
 *   unreserved        memory: nothing is reserved
 *   unified           memory: total 0
 *   sentinel_total    memory: total not available
 *   sentinel          memory: used and free, processes: not available (all bits set)
 *   above_total       memory: used above total
 *   not_supported     every question about the card: NOT_SUPPORTED
 *   no_permission     every question about the card: NO_PERMISSION
 *   gpu_lost_after_N  every question about the card from the N+1st memory question on: GPU_IS_LOST
 *   hang_after_N      the N+1st memory question never returns
 *   container         processes: host pids only, this process not under its own
 *   nobody            processes: none
 *   zero_process      processes: this one with 0 bytes
 *   huge_process      processes: this one with more than the device uses
 *   old_driver        no v3 processes
 *   new_driver        no v2 processes
 *   growing           each memory question finds 1 MiB more, half of it another process's
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
typedef int nvmlReturn_t;
enum {
    SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, FUNCTION_NOT_FOUND = 13, GPU_IS_LOST = 15, ARGUMENT_VERSION_MISMATCH = 25, UNKNOWN = 999
};

typedef struct { u64 total, free, used; } memory_v1;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } process;
_Static_assert(sizeof(memory_v2) == 0x28 && sizeof(process) == 24, "as in nvml.h");

typedef struct { const char *uuid, *name, *bus; u64 total; } card;
static card cards[] = {
    {"GPU-11111111-1111-1111-1111-111111111111", "Stub Other", "00000000:01:00.0", 8ull << 30},
    {"GPU-22222222-2222-2222-2222-222222222222", "Stub Card", "00000000:02:00.0", 80ull << 30},
    {"MIG-33333333-3333-3333-3333-333333333333", "Stub Card MIG 1g.10gb", "", 10ull << 30},
};
enum { CARDS = 2, SLICES = 3 };

#define MIB (1ull << 20)
#define ABSENT (~0ull)
static unsigned asked; /* memory questions so far */

static int in(const char *word) {
    const char *scenario = getenv("LATENTMETER_STUB_NVML");
    size_t length = strlen(word);
    for (const char *at = scenario; at && (at = strstr(at, word)); at += length)
        if ((at == scenario || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return 1;
    return 0;
}

/* Whether the scenario has "<word>N" and N memory questions have been answered. */
static int past(const char *word) {
    const char *scenario = getenv("LATENTMETER_STUB_NVML");
    const char *at = scenario ? strstr(scenario, word) : NULL;
    return at && asked >= strtoul(at + strlen(word), NULL, 10);
}

static nvmlReturn_t trouble(void) {
    if (in("not_supported")) return NOT_SUPPORTED;
    if (in("no_permission")) return NO_PERMISSION;
    return past("gpu_lost_after_") ? GPU_IS_LOST : SUCCESS;
}

static u64 growth(void) { return in("growing") ? asked * MIB : 0; }
static u64 ours(void) { return 700 * MIB + growth() / 2; }
static u64 theirs(void) { return 300 * MIB + growth() / 2; }
static u64 reserved(void) { return in("unreserved") ? 0 : 600 * MIB; }

/* What is used without the reserved bytes; only the second card does work. */
static u64 working(const card *device) { return device == &cards[1] ? ours() + theirs() + 24 * MIB : 4 * MIB; }

static nvmlReturn_t text(char *to, unsigned size, const char *from) {
    return snprintf(to, size, "%s", from) < (int)size ? SUCCESS : INSUFFICIENT_SIZE;
}

static nvmlReturn_t lookup(const char *wanted, int by_bus, card **device) {
    for (int i = 0; i < SLICES; i++)
        if (!strcmp(wanted, by_bus ? cards[i].bus : cards[i].uuid)) return *device = &cards[i], SUCCESS;
    return NOT_FOUND;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) { return (void)flags, in("no_driver") ? DRIVER_NOT_LOADED : SUCCESS; }
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t code) { return (void)code, "an error of the stub"; }
nvmlReturn_t nvmlSystemGetDriverVersion(char *to, unsigned size) { return text(to, size, "600.00.stub"); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) { return *count = CARDS, SUCCESS; }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, card **device) {
    return index < CARDS ? (*device = &cards[index], SUCCESS) : INVALID_ARGUMENT;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, card **device) { return lookup(uuid, 0, device); }
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, card **device) { return lookup(bus, 1, device); }
nvmlReturn_t nvmlDeviceGetUUID(card *device, char *to, unsigned size) { return text(to, size, device->uuid); }
nvmlReturn_t nvmlDeviceGetName(card *device, char *to, unsigned size) { return text(to, size, device->name); }

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(card *device, memory_v2 *info) {
    nvmlReturn_t code = trouble();
    if (in("v1_only")) return FUNCTION_NOT_FOUND;
    if (in("v2_fails")) return UNKNOWN;
    while (past("hang_after_")) pause();
    if (code) return code;
    if (info->version != 0x02000028) return ARGUMENT_VERSION_MISMATCH;
    asked++;
    u64 used = working(device) + (in("includes_reserved") ? reserved() : 0);
    *info = (memory_v2){info->version, device->total, reserved(), device->total - working(device) - reserved(), used};
    if (in("unified")) info->total = info->reserved = info->free = info->used = 0;
    if (in("sentinel_total")) info->total = ABSENT;
    if (in("sentinel")) info->free = info->used = ABSENT;
    if (in("above_total")) info->used = device->total + 1;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(card *device, memory_v1 *info) {
    nvmlReturn_t code = trouble();
    if (code) return code;
    asked++;
    u64 used = working(device) + reserved();
    *info = (memory_v1){device->total, device->total - used, used};
    return SUCCESS;
}

static nvmlReturn_t list(const card *device, unsigned *count, process *to) {
    nvmlReturn_t code = trouble();
    unsigned size = *count, busy = device == &cards[1] && !in("nobody") ? 2 : 0;
    if (code) return code;
    *count = busy;
    if (size < busy) return INSUFFICIENT_SIZE;
    if (!busy) return SUCCESS;
    to[0] = (process){4194304, theirs(), ~0u, ~0u}; /* above the largest pid that Linux gives */
    to[1] = (process){in("container") ? 4194305 : (unsigned)getpid(), ours(), ~0u, ~0u};
    if (in("zero_process")) to[1].used = 0;
    if (in("huge_process")) to[1].used = device->total - MIB;
    if (in("sentinel")) to[0].used = to[1].used = ABSENT;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(card *device, unsigned *count, process *to) {
    return in("old_driver") ? FUNCTION_NOT_FOUND : list(device, count, to);
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(card *device, unsigned *count, process *to) {
    return in("new_driver") ? FUNCTION_NOT_FOUND : list(device, count, to);
}
