/* The loop of those who wait for answers. */
#ifndef SERVING_H
#define SERVING_H

#include <stdint.h>

struct answers {
    int epoll;
    const uint64_t *count; /* how many there have been; whoever serves counts */
    uint64_t total;
    uint64_t patience_ns;
};

/* Calls `serve` for each client that has something to read or may be written to, `client` as it was registered, until all
 * answers are there. Fails when none comes for as long as patience lasts. */
void serve_until_answered(const struct answers *answers, void (*serve)(void *run, void *client, uint32_t events), void *run);

#endif
