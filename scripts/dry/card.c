/* The card that dry CUDA plays, read from LATENTMETER_DRY_CARD.
 *
 * Real: every number stands in the card's file, configs/gpus/<id>.yaml, which names its source. Not real: the UUID.
 * The text is what scripts/dry/start.py writes: JSON of one level, no escapes, lists of numbers only.
 */
#include "card.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CARD_VARIABLE "LATENTMETER_DRY_CARD"

static void stop(const char *what) {
    fprintf(stderr, "dry CUDA: %s: start the program through scripts/dry_cuda\n", what);
    exit(1);
}

const char *card_record(void) {
    const char *record = getenv(CARD_VARIABLE);
    if (record == NULL) stop(CARD_VARIABLE " is not set");
    return record;
}

/* Where the value of `key` begins. */
static const char *value_of(const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *found = strstr(card_record(), quoted);
    if (found == NULL) stop(key);
    found += strlen(quoted);
    return found + strspn(found, ": ");
}

uint64_t card_number(const char *key, int index) {
    const char *value = value_of(key);
    if (*value == '[') value++;
    while (index-- > 0) {
        value += strcspn(value, ",]");
        if (*value != ',') stop(key);
        value++;
    }
    value += strspn(value, " ");
    if (!isdigit((unsigned char)*value)) stop(key);
    return strtoull(value, NULL, 10);
}

void card_name(char *text, unsigned size) {
    const char *value = value_of("deviceName");
    if (*value != '"') stop("deviceName");
    snprintf(text, size, "%.*s", (int)strcspn(value + 1, "\""), value + 1);
}

int card_major(void) {
    return (int)(card_number("deviceVer", 0) / 100);
}

int card_minor(void) {
    return (int)(card_number("deviceVer", 0) / 10 % 10);
}

void card_uuid(unsigned char uuid[16]) {
    char name[256];
    card_name(name, sizeof name);
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a: two cards of one box would differ, as real ones do */
    for (const char *c = name; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3;
    memcpy(uuid, "dry CUDA", 8);
    memcpy(uuid + 8, &hash, 8);
}

void card_uuid_text(char text[41]) {
    unsigned char uuid[16];
    card_uuid(uuid);
    text += sprintf(text, "GPU-");
    for (int i = 0; i < 16; i++) text += sprintf(text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}
