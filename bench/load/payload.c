#include "payload.h"

#include <string.h>

#define FILLER_POSITIONS 4096
#define FILLER_SIZE (FILLER_POSITIONS + (1 << 20))

static char filler[FILLER_SIZE];

void payload_prepare(void) {
    uint64_t state = 0x9E3779B97F4A7C15ULL;
    for (size_t position = 0; position < FILLER_SIZE; position++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        filler[position] = (char)state;
    }
}

static uint64_t word_at(const char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Multiplying by an odd number loses nothing, so a lane never forgets that one of its words was another. */
static uint64_t mix(uint64_t lane, uint64_t word) {
    return (lane ^ word) * 0x9FB21C651E98DF25ULL;
}

static uint64_t rotate(uint64_t lane, unsigned bits) {
    return lane << bits | lane >> (64 - bits);
}

/* Four independent lanes, since one chain of multiplications would cost more than everything else the generator does.
 */
static uint64_t checksum(const char *bytes, size_t size) {
    uint64_t first = size, second = 1, third = 2, fourth = 3;
    for (; size >= 32; bytes += 32, size -= 32) {
        first = mix(first, word_at(bytes));
        second = mix(second, word_at(bytes + 8));
        third = mix(third, word_at(bytes + 16));
        fourth = mix(fourth, word_at(bytes + 24));
    }
    for (; size >= 8; bytes += 8, size -= 8)
        first = mix(first, word_at(bytes));
    for (; size > 0; bytes++, size--)
        second = mix(second, (unsigned char)*bytes);
    return first ^ rotate(second, 16) ^ rotate(third, 32) ^ rotate(fourth, 48);
}

void payload_write(char *destination, uint32_t size, uint32_t publisher, uint64_t sequence, uint64_t sent_at) {
    struct payload_head head = {.sequence = sequence, .sent_at = sent_at, .publisher = publisher, .size = size};
    memcpy(destination, &head, sizeof head);
    memcpy(destination + sizeof head, filler + sequence % FILLER_POSITIONS, size - sizeof head);
    head.checksum = checksum(destination + sizeof head.checksum, size - sizeof head.checksum);
    memcpy(destination, &head.checksum, sizeof head.checksum);
}

const char *payload_read(const char *source, size_t size, struct payload_head *head) {
    if (size < sizeof *head)
        return "shorter than anything that was sent";
    memcpy(head, source, sizeof *head);
    if (checksum(source + sizeof head->checksum, size - sizeof head->checksum) != head->checksum)
        return "corrupted: its checksum does not match";
    if (head->size != size)
        return "not of the size it was sent with";
    return NULL;
}
