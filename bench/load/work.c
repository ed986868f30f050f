/* Several workers share what is in one queue, from one thread: each takes batches, checks every message, and acks. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "ledger.h"
#include "modes.h"
#include "outcome.h"
#include "report.h"
#include "working.h"

#define EVENTS_AT_ONCE 64
#define WAIT_MS 100

struct run {
    const struct options *options;
    const struct working *working;
    struct worker *workers;
    struct ledger *ledger;
    int epoll;
    uint64_t confirmed;
    bool finishing;
};

static const struct working *working_of(enum dialect dialect) {
    switch (dialect) {
    case DIALECT_MQ9: return &working_mq9;
    case DIALECT_JETSTREAM: return &working_jetstream;
    case DIALECT_REDIS: return &working_redis;
    case DIALECT_AMQP: return &working_amqp;
    }
    fail_usage("there are no workers for this dialect");
}

bool confirms_are_full(const struct confirms *confirms) {
    uint64_t next = confirms->asked; /* one is left for what is acked in the end */
    return confirms->slots[next % CONFIRMS_MAX].messages != 0 ||
           confirms->slots[(next + 1) % CONFIRMS_MAX].messages != 0;
}

uint64_t confirms_ask(struct confirms *confirms, uint64_t messages) {
    uint64_t number = confirms->asked++;
    if (confirms->slots[number % CONFIRMS_MAX].messages != 0)
        fail_promise("%d batches were acked and not one of the acks was confirmed", CONFIRMS_MAX);
    confirms->slots[number % CONFIRMS_MAX].number = number;
    confirms->slots[number % CONFIRMS_MAX].messages = messages;
    confirms->slots[number % CONFIRMS_MAX].sent_at = clock_now();
    return number;
}

void confirms_take(struct confirms *confirms, struct worker *worker, uint64_t number) {
    uint64_t *messages = &confirms->slots[number % CONFIRMS_MAX].messages;
    if (*messages == 0 || confirms->slots[number % CONFIRMS_MAX].number != number)
        fail_promise("worker %u got a confirmation that it was not waiting for", worker->number);
    histogram_add(&worker->acks, clock_now() - confirms->slots[number % CONFIRMS_MAX].sent_at);
    worker->confirmed += *messages;
    *messages = 0;
}

/* Everything has been handled: whoever still has something to ack does so. */
static void finish_all(struct run *run) {
    run->finishing = true;
    for (uint32_t number = 0; number < run->options->workers; number++) {
        struct worker *worker = &run->workers[number];
        uint64_t before = worker->confirmed;
        worker->finishing = true;
        run->working->finish(worker);
        run->confirmed += worker->confirmed - before;
        connection_flush_watched(&worker->connection);
    }
}

static void serve(struct run *run, struct worker *worker) {
    uint64_t before = worker->confirmed;
    struct text payload;
    connection_read(&worker->connection, false);
    while (run->working->next(worker, &payload)) {
        ledger_note(run->ledger, worker->number, payload);
        worker->handled++;
    }
    run->confirmed += worker->confirmed - before;
    connection_flush_watched(&worker->connection);
    if (!run->finishing && ledger_handled(run->ledger) == ledger_expected(run->ledger))
        finish_all(run);
}

static void serve_until_confirmed(struct run *run) {
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t total = ledger_expected(run->ledger);
    uint64_t progress = 0;
    uint64_t last_progress_at = clock_now();
    while (run->confirmed < total) {
        int ready = epoll_wait(run->epoll, events, EVENTS_AT_ONCE, WAIT_MS);
        for (int event = 0; event < ready; event++)
            serve(run, events[event].data.ptr);
        uint64_t now = clock_now();
        if (progress != ledger_handled(run->ledger) + run->confirmed) {
            progress = ledger_handled(run->ledger) + run->confirmed;
            last_progress_at = now;
        } else if (now - last_progress_at > run->options->patience_ns) {
            fail_promise("of %llu messages %llu were handed out and %llu acks confirmed, then nothing came",
                         (unsigned long long)total, (unsigned long long)ledger_handled(run->ledger),
                         (unsigned long long)run->confirmed);
        }
    }
}

void run_work(const struct options *options) {
    struct run run = {.options = options, .working = working_of(options->dialect)};
    struct histogram acks = {0};
    struct stopwatch stopwatch;
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run.epoll < 0)
        fail_io("cannot make an epoll descriptor");
    run.ledger = ledger_open(options);
    run.workers = allocate_zeroed(options->workers, sizeof *run.workers);
    for (uint32_t number = 0; number < options->workers; number++) {
        struct worker *worker = &run.workers[number];
        worker->options = options;
        worker->number = number;
        run.working->open(worker);
        connection_watch(&worker->connection, run.epoll, worker);
    }
    stopwatch_start(&stopwatch);
    for (uint32_t number = 0; number < options->workers; number++) {
        run.working->ask(&run.workers[number]);
        connection_flush_watched(&run.workers[number].connection);
    }
    serve_until_confirmed(&run);
    stopwatch_stop(&stopwatch, clock_now());
    for (uint32_t number = 0; number < options->workers; number++) {
        histogram_merge(&acks, &run.workers[number].acks);
        run.working->close(&run.workers[number]);
    }
    if (run.confirmed != ledger_expected(run.ledger))
        fail_promise("%llu acks were confirmed of %llu messages", (unsigned long long)run.confirmed,
                     (unsigned long long)ledger_expected(run.ledger));
    report_print("work", &stopwatch, run.confirmed, options->size, &acks, NULL);
    ledger_close(run.ledger);
    free(run.workers);
    close(run.epoll);
}
