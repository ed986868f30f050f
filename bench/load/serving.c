#define _GNU_SOURCE
#include "serving.h"

#include <sys/epoll.h>

#include "clock.h"
#include "outcome.h"

#define EVENTS_AT_ONCE 64
#define WAIT_MS 100

void serve_until_answered(const struct answers *answers, void (*serve)(void *run, void *client, uint32_t events), void *run) {
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t last_event_at = clock_now();
    while (*answers->count < answers->total) {
        int ready = epoll_wait(answers->epoll, events, EVENTS_AT_ONCE, WAIT_MS);
        for (int event = 0; event < ready; event++)
            serve(run, events[event].data.ptr, events[event].events);
        if (ready > 0)
            last_event_at = clock_now();
        else if (clock_now() - last_event_at > answers->patience_ns)
            fail_promise("%llu of %llu requests were answered, then nothing came", (unsigned long long)*answers->count,
                         (unsigned long long)answers->total);
    }
}
