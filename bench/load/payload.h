/* What a message carries, so that its receiver can tell whether it is the right one, whole, and in its turn.
 *
 * A payload opens with 32 bytes: checksum, sequence number, time of sending, publisher number, size; the rest are bytes
 * that differ from message to message. The checksum covers everything behind it.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#define PAYLOAD_SIZE_MIN 32

struct payload_head {
    uint64_t checksum;
    uint64_t sequence;  /* 0 for a publisher's first message, then one more each time */
    uint64_t sent_at;   /* clock_now() of the publisher */
    uint32_t publisher; /* 0 for the first publisher of a run */
    uint32_t size;      /* of the whole payload, in bytes */
};

/* Fills the bytes that payloads are made of; to be called once, before any thread starts. */
void payload_prepare(void);

/* Writes the payload of one message, `size` >= PAYLOAD_SIZE_MIN bytes, to `destination`. */
void payload_write(char *destination, uint32_t size, uint32_t publisher, uint64_t sequence, uint64_t sent_at);

/* Reads the head of the payload of `size` bytes at `source`. NULL when it is whole, else what is wrong with it. */
const char *payload_read(const char *source, size_t size, struct payload_head *head);

#endif
