#define _GNU_SOURCE
#include "serving.h"

#include <sys/epoll.h>

#include "clock.h"
#include "options.h"
#include "outcome.h"

#define EVENTS_AT_ONCE 64
#define WAIT_MS 100

void serve_until_answered(const struct options *options, int epoll, const uint64_t *answered,
                          void (*serve)(void *run, void *client, uint32_t events), void *run) {
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t total = options->count * options->connections;
    uint64_t last_event_at = clock_now();
    while (*answered < total) {
        int ready = epoll_wait(epoll, events, EVENTS_AT_ONCE, WAIT_MS);
        for (int event = 0; event < ready; event++)
            serve(run, events[event].data.ptr, events[event].events);
        if (ready > 0)
            last_event_at = clock_now();
        else if (clock_now() - last_event_at > options->patience_ns)
            fail_promise("%llu of %llu requests were answered, then nothing came", (unsigned long long)*answered,
                         (unsigned long long)total);
    }
}
