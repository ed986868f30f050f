/* The loop of those who wait for answers. */
#ifndef SERVING_H
#define SERVING_H

#include <stdint.h>

struct options;

/* Calls `serve` for each client that has something to read or may be written to, `client` as it was registered, until all
 * answers are there; `serve` counts them in `answered`. Fails when none comes for as long as patience lasts. */
void serve_until_answered(const struct options *options, int epoll, const uint64_t *answered,
                          void (*serve)(void *run, void *client, uint32_t events), void *run);

#endif
