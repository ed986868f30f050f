#define _GNU_SOURCE
#include "receivers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "connection.h"
#include "outcome.h"
#include "payload.h"

#define INPUT_CAPACITY (256 * 1024)
#define OUTPUT_CAPACITY (64 * 1024)
#define EVENTS_AT_ONCE 64
#define WAIT_MS 100
#define STATUS_FLOW_CONTROL 100

struct receiver {
    struct connection connection;
    uint32_t number;
    bool settled;   /* everything came, and the PING after it has been answered */
    uint64_t *next; /* of each publisher, the sequence number that must come next */
    uint64_t received;
    _Atomic uint64_t told; /* `received`, for other threads to read */
};

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
    uint64_t expected; /* messages of each receiver */
    struct receiver *receivers;
    struct worker *workers;
    uint32_t worker_count;
};

static void open_receiver(struct receivers *receivers, uint32_t number) {
    const struct options *options = receivers->options;
    struct receiver *receiver = &receivers->receivers[number];
    receiver->number = number;
    receiver->next = allocate_zeroed(options->publishers, sizeof *receiver->next);
    connection_open(&receiver->connection, options->port, INPUT_CAPACITY + 2 * options->size, OUTPUT_CAPACITY);
}

struct receivers *receivers_open(const struct options *options) {
    struct receivers *receivers = allocate_zeroed(1, sizeof *receivers);
    receivers->options = options;
    receivers->expected = options->count * options->publishers;
    receivers->receivers = allocate_zeroed(options->subscribers, sizeof *receivers->receivers);
    receivers->worker_count = options->threads < options->subscribers ? options->threads : options->subscribers;
    receivers->workers = allocate_zeroed(receivers->worker_count, sizeof *receivers->workers);
    for (uint32_t number = 0; number < options->subscribers; number++)
        open_receiver(receivers, number);
    return receivers;
}

void receivers_subscribe(struct receivers *receivers, bool settle) {
    const struct options *options = receivers->options;
    for (uint32_t number = 0; number < options->subscribers; number++) {
        struct connection *connection = &receivers->receivers[number].connection;
        for (uint32_t subject = 0; subject < options->subject_count; subject++)
            connection_print(connection, "SUB %s %u\r\n", options->subjects[subject], subject + 1);
        if (settle)
            connection_settle(connection);
        else
            connection_drain(connection);
    }
}

/* A JetStream push consumer asks now and then whether its receiver keeps up. */
static void answer_flow_control(struct receiver *receiver, const struct frame *frame) {
    struct text reply = frame_reply_subject(frame);
    if (reply.size > 0)
        connection_print(&receiver->connection, "PUB %.*s 0\r\n\r\n", (int)reply.size, reply.start);
}

static void take_message(const struct receivers *receivers, struct receiver *receiver, const struct frame *frame,
                         uint64_t now, struct histogram *latencies) {
    const struct options *options = receivers->options;
    struct payload_head head;
    const char *problem = payload_read(frame->payload.start, frame->payload.size, &head);
    if (problem != NULL)
        fail_promise("receiver %u got a message that is %s: %.*s", receiver->number, problem, (int)frame->line.size,
                     frame->line.start);
    if (head.publisher >= options->publishers || head.size != options->size)
        fail_promise("receiver %u got a message of publisher %u with %u bytes, which nobody sent", receiver->number,
                     head.publisher, head.size);
    if (head.sequence != receiver->next[head.publisher] || head.sequence >= options->count)
        fail_promise("receiver %u got message %llu of publisher %u in place of %llu: lost, repeated or out of order",
                     receiver->number, (unsigned long long)head.sequence, head.publisher,
                     (unsigned long long)receiver->next[head.publisher]);
    receiver->next[head.publisher]++;
    receiver->received++;
    histogram_add(latencies, now - head.sent_at);
}

static void serve(struct worker *worker, struct receiver *receiver) {
    const struct receivers *receivers = worker->receivers;
    uint64_t before = receiver->received;
    struct frame frame;
    connection_read(&receiver->connection, false);
    uint64_t now = clock_now();
    while (connection_next(&receiver->connection, &frame)) {
        if (frame.kind == FRAME_MESSAGE && frame_header_status(&frame) == STATUS_FLOW_CONTROL)
            answer_flow_control(receiver, &frame);
        else if (frame.kind == FRAME_MESSAGE)
            take_message(receivers, receiver, &frame, now, &worker->latencies);
        else if (frame.kind == FRAME_PONG && !receiver->settled) {
            receiver->settled = true;
            worker->unsettled--;
        }
    }
    if (receiver->received != before)
        worker->last_message_at = now;
    if (before < receivers->expected && receiver->received == receivers->expected)
        connection_print(&receiver->connection, "PING\r\n");
    atomic_store_explicit(&receiver->told, receiver->received, memory_order_relaxed);
    connection_flush_watched(&receiver->connection);
}

static noreturn void give_up(const struct receivers *receivers) {
    fail_promise("the slowest of %u receivers got %llu of %llu messages, then nothing came",
                 receivers->options->subscribers, (unsigned long long)receivers_slowest(receivers),
                 (unsigned long long)receivers->expected);
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
        uint64_t received = atomic_load_explicit(&receivers->receivers[number].told, memory_order_relaxed);
        if (received < slowest)
            slowest = received;
    }
    return slowest;
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
        connection_close(&receivers->receivers[number].connection);
        free(receivers->receivers[number].next);
    }
    free(receivers->receivers);
    free(receivers->workers);
    free(receivers);
}
