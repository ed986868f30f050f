#define _GNU_SOURCE
#include "receivers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "outcome.h"
#include "payload.h"
#include "receiving.h"

#define EVENTS_AT_ONCE 64
#define WAIT_MS 100

struct worker { /* one thread */
    struct receivers *receivers;
    pthread_t thread;
    int epoll;
    uint32_t unsettled; /* receivers that are not yet settled */
    uint64_t last_message_at;
    struct histogram latencies;
};

struct receivers {
    const struct options *options;
    const struct receiving *receiving;
    struct receiver *receivers;
    struct worker *workers;
    uint32_t worker_count;
};

static const struct receiving *receiving_of(enum dialect dialect) {
    return dialect == DIALECT_REDIS ? &receiving_redis : dialect == DIALECT_AMQP ? &receiving_amqp : &receiving_nats;
}

bool receiving_wants(const struct receiver *receiver, uint32_t subject) {
    const struct options *options = receiver->options;
    if (subject % options->every != 0)
        return false;
    return !options->share || subject / options->every % options->subscribers == receiver->number;
}

/* Where messages were spread, subject S has every round_size-th message of publisher S modulo publishers, from number S
 * divided by publishers on: that is how requests.c goes round. */
static uint64_t round_size(const struct options *options) {
    return options->subject_count / options->publishers;
}

static uint64_t expected_of(const struct receiver *receiver) {
    const struct options *options = receiver->options;
    uint64_t expected = 0;
    if (!options->spread)
        return options->count * options->publishers;
    for (uint32_t subject = 0; subject < options->subject_count; subject++) {
        uint64_t first = subject / options->publishers;
        if (receiving_wants(receiver, subject) && first < options->count)
            expected += (options->count - first - 1) / round_size(options) + 1;
    }
    return expected;
}

static void open_receiver(struct receivers *receivers, uint32_t number) {
    const struct options *options = receivers->options;
    struct receiver *receiver = &receivers->receivers[number];
    receiver->options = options;
    receiver->number = number;
    receiver->next =
        allocate_zeroed(options->spread ? options->subject_count : options->publishers, sizeof *receiver->next);
    receiver->expected = expected_of(receiver);
    receivers->receiving->open(receiver);
}

struct receivers *receivers_open(const struct options *options) {
    struct receivers *receivers = allocate_zeroed(1, sizeof *receivers);
    receivers->options = options;
    receivers->receiving = receiving_of(options->dialect);
    receivers->receivers = allocate_zeroed(options->subscribers, sizeof *receivers->receivers);
    receivers->worker_count = options->threads < options->subscribers ? options->threads : options->subscribers;
    receivers->workers = allocate_zeroed(receivers->worker_count, sizeof *receivers->workers);
    for (uint32_t number = 0; number < options->subscribers; number++)
        open_receiver(receivers, number);
    return receivers;
}

void receivers_subscribe(struct receivers *receivers, bool settle) {
    for (uint32_t number = 0; number < receivers->options->subscribers; number++)
        receivers->receiving->subscribe(&receivers->receivers[number], settle);
}

/* The sequence number that the message after the last one of this source must have. */
static uint64_t *source_of(struct receiver *receiver, const struct delivery *delivery, const struct payload_head *head,
                           uint64_t *expected) {
    const struct options *options = receiver->options;
    uint64_t *next = &receiver->next[options->spread ? delivery->subject : head->publisher];
    *expected = *next;
    if (options->spread) {
        *expected = delivery->subject / options->publishers + *next * round_size(options);
        if (head->publisher != delivery->subject % options->publishers)
            fail_promise("receiver %u got message %llu of publisher %u from a subject that it was not sent to",
                         receiver->number, (unsigned long long)head->sequence, head->publisher);
    }
    return next;
}

static void take_message(struct receiver *receiver, const struct delivery *delivery, uint64_t now,
                         struct histogram *latencies) {
    const struct options *options = receiver->options;
    struct payload_head head;
    uint64_t expected;
    const char *problem = payload_read(delivery->payload.start, delivery->payload.size, &head);
    if (problem != NULL)
        fail_promise("receiver %u got a message from %s that is %s", receiver->number,
                     options->subjects[delivery->subject], problem);
    if (head.publisher >= options->publishers || head.size != options->size)
        fail_promise("receiver %u got a message of publisher %u with %u bytes, which nobody sent", receiver->number,
                     head.publisher, head.size);
    uint64_t *next = source_of(receiver, delivery, &head, &expected);
    if (head.sequence != expected || head.sequence >= options->count)
        fail_promise("receiver %u got message %llu of publisher %u in place of %llu: lost, repeated or out of order",
                     receiver->number, (unsigned long long)head.sequence, head.publisher, (unsigned long long)expected);
    ++*next;
    receiver->received++;
    histogram_add(latencies, now > head.sent_at ? now - head.sent_at : 0);
}

static void serve(struct worker *worker, struct receiver *receiver) {
    const struct receiving *receiving = worker->receivers->receiving;
    uint64_t before = receiver->received;
    bool was_settled = receiver->settled;
    struct delivery delivery;
    connection_read(&receiver->connection, false);
    uint64_t now = clock_now();
    while (receiving->next(receiver, &delivery))
        take_message(receiver, &delivery, now, &worker->latencies);
    if (receiver->received != before)
        worker->last_message_at = now;
    if (before < receiver->expected && receiver->received == receiver->expected)
        receiving->finish(receiver);
    if (receiver->settled && !was_settled)
        worker->unsettled--;
    atomic_store_explicit(&receiver->told, receiver->received, memory_order_relaxed);
    connection_flush_watched(&receiver->connection);
}

static uint64_t told(const struct receiver *receiver) {
    return atomic_load_explicit(&receiver->told, memory_order_relaxed);
}

static noreturn void give_up(const struct receivers *receivers) {
    const struct receiver *slowest = receivers->receivers;
    for (uint32_t number = 0; number < receivers->options->subscribers; number++)
        if (told(&receivers->receivers[number]) < told(slowest))
            slowest = &receivers->receivers[number];
    fail_promise("the slowest of %u receivers got %llu of %llu messages, then nothing came",
                 receivers->options->subscribers, (unsigned long long)told(slowest),
                 (unsigned long long)slowest->expected);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t last_event_at = clock_now();
    while (worker->unsettled > 0) {
        int ready = epoll_wait(worker->epoll, events, EVENTS_AT_ONCE, WAIT_MS);
        for (int event = 0; event < ready; event++)
            serve(worker, events[event].data.ptr);
        if (ready > 0)
            last_event_at = clock_now();
        else if (clock_now() - last_event_at > worker->receivers->options->patience_ns)
            give_up(worker->receivers);
    }
    return NULL;
}

void receivers_start(struct receivers *receivers) {
    for (uint32_t index = 0; index < receivers->worker_count; index++) {
        struct worker *worker = &receivers->workers[index];
        worker->receivers = receivers;
        worker->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (worker->epoll < 0)
            fail_io("cannot make an epoll descriptor");
        for (uint32_t number = index; number < receivers->options->subscribers; number += receivers->worker_count) {
            struct receiver *receiver = &receivers->receivers[number];
            connection_watch(&receiver->connection, worker->epoll, receiver);
            worker->unsettled++;
        }
        if (pthread_create(&worker->thread, NULL, work, worker) != 0)
            fail_io("cannot start a thread");
    }
}

uint64_t receivers_slowest(const struct receivers *receivers) {
    uint64_t slowest = UINT64_MAX;
    for (uint32_t number = 0; number < receivers->options->subscribers; number++) {
        uint64_t received = told(&receivers->receivers[number]);
        if (received < slowest)
            slowest = received;
    }
    return slowest;
}

uint64_t receivers_expected(const struct receivers *receivers) {
    uint64_t expected = 0;
    for (uint32_t number = 0; number < receivers->options->subscribers; number++)
        expected += receivers->receivers[number].expected;
    return expected;
}

uint64_t receivers_join(struct receivers *receivers, struct histogram *latencies) {
    uint64_t last_message_at = 0;
    for (uint32_t index = 0; index < receivers->worker_count; index++) {
        struct worker *worker = &receivers->workers[index];
        pthread_join(worker->thread, NULL);
        if (worker->last_message_at > last_message_at)
            last_message_at = worker->last_message_at;
        histogram_merge(latencies, &worker->latencies);
        close(worker->epoll);
    }
    return last_message_at;
}

void receivers_close(struct receivers *receivers) {
    for (uint32_t number = 0; number < receivers->options->subscribers; number++) {
        receivers->receiving->close(&receivers->receivers[number]);
        free(receivers->receivers[number].next);
    }
    free(receivers->receivers);
    free(receivers->workers);
    free(receivers);
}
