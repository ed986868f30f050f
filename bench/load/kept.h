/* What the sink keeps: the payloads that it was sent, in their order. */
#ifndef KEPT_H
#define KEPT_H

#include <stdint.h>

#include "text.h"

struct kept {
    char *bytes;
    uint64_t size;
    uint64_t capacity;
    uint64_t *ends; /* of each payload, in `bytes` */
    uint64_t count;
    uint64_t room;
    uint64_t handed_out; /* to workers, of the first ones */
};

void kept_add(struct kept *kept, struct text payload);

/* Number `index`, which must be there. Valid until the next kept_add. */
struct text kept_payload(const struct kept *kept, uint64_t index);

/* Hands out up to `limit` more payloads as a reply to a FETCH, and returns the reply. Valid until the next call. */
struct text kept_hand_out(struct kept *kept, uint64_t limit);

#endif
