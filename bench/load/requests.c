/* Messages to be stored, over several connections, from one thread; each connection keeps some unanswered. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "modes.h"
#include "outcome.h"
#include "payload.h"
#include "report.h"
#include "sending.h"
#include "serving.h"

struct run {
    const struct options *options;
    const struct sending *sending;
    struct sender *senders;
    int epoll;
    uint64_t answered;
    struct histogram latencies;
};

static const struct sending *sending_of(enum dialect dialect) {
    return dialect == DIALECT_REDIS ? &sending_redis : dialect == DIALECT_AMQP ? &sending_amqp : &sending_nats;
}

/* Spread, a sender goes round over every `connections`th subject; otherwise it has one. */
static uint64_t subject_index(const struct sender *sender, uint64_t number) {
    const struct options *options = sender->options;
    uint64_t step = options->spread ? number * options->connections : 0;
    return (sender->number + step) % options->subject_count;
}

const char *sending_subject(const struct sender *sender, uint64_t number) {
    return sender->options->subjects[subject_index(sender, number)];
}

/* After how many of its messages a sender comes back to a subject. */
static uint64_t round_size(const struct options *options) {
    return options->spread ? options->subject_count / options->connections : 1;
}

static void open_sender(struct run *run, uint32_t number) {
    const struct options *options = run->options;
    struct sender *sender = &run->senders[number];
    sender->options = options;
    sender->number = number;
    sender->sent_at = allocate(options->in_flight * sizeof *sender->sent_at);
    sender->done = allocate_zeroed(options->in_flight, sizeof *sender->done);
    sender->ids = allocate(options->count * sizeof *sender->ids);
    run->sending->open(sender);
    connection_watch(&sender->connection, run->epoll, sender);
}

/* Sends as many requests as may be in flight. */
static void fill(struct run *run, struct sender *sender) {
    const struct options *options = run->options;
    uint64_t now = clock_now();
    while (sender->sent < options->count && sender->sent - sender->oldest < options->in_flight) {
        char *payload = run->sending->write(sender, sending_subject(sender, sender->sent));
        payload_write(payload, options->size, sender->number, sender->sent, now);
        sender->sent_at[sender->sent % options->in_flight] = now;
        sender->done[sender->sent % options->in_flight] = false;
        sender->sent++;
    }
    connection_flush_watched(&sender->connection);
}

/* The number under which a message was stored must be above that of the sender's one before it for the same subject. */
static void check_id(const struct sender *sender, uint64_t request, uint64_t id) {
    uint64_t before = round_size(sender->options);
    uint64_t last = request < before ? 0 : sender->ids[request - before];
    if (id <= last)
        fail_promise("connection %u got %s %llu after %llu", sender->number, sender->options->id_key,
                     (unsigned long long)id, (unsigned long long)last);
}

static void take_answer(struct run *run, struct sender *sender, const struct answer *answer, uint64_t now) {
    uint32_t in_flight = run->options->in_flight;
    for (uint64_t request = answer->first; request <= answer->last; request++) {
        if (request < sender->oldest || sender->done[request % in_flight]) {
            if (answer->first == answer->last)
                fail_promise("connection %u got two answers to request %llu", sender->number,
                             (unsigned long long)request);
            continue; /* a confirm of all up to one says again what was said of some of them */
        }
        if (answer->numbered)
            check_id(sender, request, answer->id);
        sender->ids[request] = answer->id;
        sender->done[request % in_flight] = true;
        histogram_add(&run->latencies, now - sender->sent_at[request % in_flight]);
        sender->answered++;
        run->answered++;
    }
    while (sender->oldest < sender->sent && sender->done[sender->oldest % in_flight])
        sender->oldest++;
}

static void serve(void *of_run, void *client, uint32_t events) {
    struct run *run = of_run;
    struct sender *sender = client;
    struct answer answer;
    if (events & ~(uint32_t)EPOLLOUT) {
        connection_read(&sender->connection, false);
        uint64_t now = clock_now();
        while (run->sending->next(sender, &answer))
            take_answer(run, sender, &answer, now);
    }
    fill(run, sender);
}

struct identity {
    uint64_t subject; /* 0 for all, where numbers are distinct over all subjects */
    uint64_t id;
};

static int compare_identities(const void *left_pointer, const void *right_pointer) {
    const struct identity *left = left_pointer;
    const struct identity *right = right_pointer;
    if (left->subject != right->subject)
        return left->subject < right->subject ? -1 : 1;
    return (left->id > right->id) - (left->id < right->id);
}

/* No two messages were stored under the same number. */
static void check_distinct(const struct run *run) {
    const struct options *options = run->options;
    uint64_t total = options->count * options->connections;
    struct identity *identities = allocate(total * sizeof *identities);
    uint64_t filled = 0;
    for (uint32_t number = 0; number < options->connections; number++) {
        const struct sender *sender = &run->senders[number];
        for (uint64_t request = 0; request < options->count; request++)
            if (sender->ids[request] != 0)
                identities[filled++] = (struct identity){
                    .subject = options->ids_per_subject ? subject_index(sender, request) : 0,
                    .id = sender->ids[request],
                };
    }
    qsort(identities, filled, sizeof *identities, compare_identities);
    for (uint64_t place = 1; place < filled; place++)
        if (compare_identities(&identities[place - 1], &identities[place]) == 0)
            fail_promise("two messages got %s %llu", options->id_key, (unsigned long long)identities[place].id);
    free(identities);
}

static void close_sender(struct run *run, struct sender *sender) {
    run->sending->close(sender); /* would find an answer too many */
    free(sender->sent_at);
    free(sender->done);
    free(sender->ids);
}

void run_requests(const struct options *options) {
    struct run run = {.options = options, .sending = sending_of(options->dialect)};
    struct stopwatch stopwatch;
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run.epoll < 0)
        fail_io("cannot make an epoll descriptor");
    run.senders = allocate_zeroed(options->connections, sizeof *run.senders);
    for (uint32_t number = 0; number < options->connections; number++)
        open_sender(&run, number);
    stopwatch_start(&stopwatch);
    for (uint32_t number = 0; number < options->connections; number++)
        fill(&run, &run.senders[number]);
    serve_until_answered(options, run.epoll, &run.answered, serve, &run);
    stopwatch_stop(&stopwatch, clock_now());
    check_distinct(&run);
    for (uint32_t number = 0; number < options->connections; number++)
        close_sender(&run, &run.senders[number]);
    free(run.senders);
    close(run.epoll);
    report_print("requests", &stopwatch, run.answered, options->size, &run.latencies, NULL);
}
