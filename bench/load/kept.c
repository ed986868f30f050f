#include "kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outcome.h"

#define BYTES_AT_FIRST (64UL * 1024 * 1024)
#define COUNT_AT_FIRST 65536
#define ITEM_SIZE_MAX 200 /* without its payload */

void kept_add(struct kept *kept, struct text payload) {
    if (kept->size + payload.size > kept->capacity) {
        kept->capacity = kept->capacity == 0 ? BYTES_AT_FIRST : kept->capacity * 2;
        kept->bytes = reallocate(kept->bytes, kept->capacity);
    }
    if (kept->count == kept->room) {
        kept->room = kept->room == 0 ? COUNT_AT_FIRST : kept->room * 2;
        kept->ends = reallocate(kept->ends, kept->room * sizeof *kept->ends);
    }
    memcpy(kept->bytes + kept->size, payload.start, payload.size);
    kept->size += payload.size;
    kept->ends[kept->count++] = kept->size;
}

struct text kept_payload(const struct kept *kept, uint64_t index) {
    uint64_t start = index == 0 ? 0 : kept->ends[index - 1];
    return (struct text){kept->bytes + start, kept->ends[index] - start};
}

/* Writes base64 and returns the place behind it. */
static char *encode(char *at, struct text source) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = (const unsigned char *)source.start;
    size_t size = source.size;
    for (; size >= 3; from += 3, size -= 3) {
        *at++ = digits[from[0] >> 2];
        *at++ = digits[(from[0] & 3) << 4 | from[1] >> 4];
        *at++ = digits[(from[1] & 15) << 2 | from[2] >> 6];
        *at++ = digits[from[2] & 63];
    }
    if (size > 0) {
        unsigned second = size == 2 ? from[1] : 0U;
        *at++ = digits[from[0] >> 2];
        *at++ = digits[(from[0] & 3U) << 4 | second >> 4];
        *at++ = size == 2 ? digits[(second & 15) << 2] : '=';
        *at++ = '=';
    }
    return at;
}

struct text kept_hand_out(struct kept *kept, uint64_t limit) {
    static char *reply;
    static size_t capacity;
    uint64_t left = kept->count - kept->handed_out;
    uint64_t count = left < limit ? left : limit;
    size_t needed = 64;
    for (uint64_t index = kept->handed_out; index < kept->handed_out + count; index++)
        needed += ITEM_SIZE_MAX + kept_payload(kept, index).size / 3 * 4 + 4;
    if (needed > capacity)
        reply = reallocate(reply, capacity = 2 * needed);
    char *at = reply + sprintf(reply, "{\"error\":\"\",\"messages\":[");
    for (uint64_t index = kept->handed_out; index < kept->handed_out + count; index++) {
        at += sprintf(at, "%s{\"msg_id\":%llu,\"priority\":\"normal\",\"payload\":\"",
                      index > kept->handed_out ? "," : "", (unsigned long long)index + 1);
        at = encode(at, kept_payload(kept, index));
        at += sprintf(at, "\",\"create_time\":0,\"header\":null,\"headers\":{},\"attempt\":1}");
    }
    at += sprintf(at, "]}");
    kept->handed_out += count;
    return (struct text){reply, (size_t)(at - reply)};
}
