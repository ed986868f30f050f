/* Requests over several connections, from one thread. Every request has a reply subject of its own, below one
 * subscription of its connection, as the clients people use do it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "connection.h"
#include "modes.h"
#include "outcome.h"
#include "payload.h"
#include "report.h"

#define INPUT_CAPACITY (256 * 1024)
#define TOKEN_DIGITS 8
#define EVENTS_AT_ONCE 64
#define WAIT_MS 100

struct sender {
    struct connection connection;
    uint32_t number;
    uint64_t sent;
    uint64_t answered;
    uint64_t *sent_at; /* of request N at N modulo in_flight */
    uint64_t *ids;     /* of request N at N */
    char inbox[64];    /* the reply subject up to its last token */
    size_t inbox_size;
    char head[512]; /* a request's line up to that token */
    size_t head_size;
    char tail[32]; /* … and from there on */
    size_t tail_size;
};

struct run {
    const struct options *options;
    struct sender *senders;
    int epoll;
    char id_key[64]; /* as it stands in a reply, with quotes and colon */
    size_t id_key_size;
    uint64_t answered;
    struct histogram latencies;
};

/* A request's sequence number as the last token of its reply subject: TOKEN_DIGITS of hexadecimal. */
static void write_token(char *destination, uint64_t sequence) {
    for (int digit = TOKEN_DIGITS - 1; digit >= 0; digit--, sequence >>= 4)
        destination[digit] = "0123456789abcdef"[sequence & 15];
}

static void open_sender(struct run *run, uint32_t number) {
    const struct options *options = run->options;
    struct sender *sender = &run->senders[number];
    const char *subject = options->subjects[number % options->subject_count];
    sender->number = number;
    sender->sent_at = allocate(options->in_flight * sizeof *sender->sent_at);
    sender->ids = allocate(options->count * sizeof *sender->ids);
    sender->inbox_size =
        (size_t)snprintf(sender->inbox, sizeof sender->inbox, "_INBOX.load%x.%x.", (unsigned)getpid(), number);
    int head_size = snprintf(sender->head, sizeof sender->head, "PUB %s %s", subject, sender->inbox);
    if (head_size >= (int)sizeof sender->head)
        fail_usage("a subject of %zu bytes is too long", strlen(subject));
    sender->head_size = (size_t)head_size;
    sender->tail_size = (size_t)snprintf(sender->tail, sizeof sender->tail, " %u\r\n", options->size);
    size_t frame_size = sizeof sender->head + sizeof sender->tail + options->size;
    connection_open(&sender->connection, options->port, INPUT_CAPACITY, 8192 + (options->in_flight + 1) * frame_size);
    connection_print(&sender->connection, "SUB %s* 1\r\n", sender->inbox);
    connection_settle(&sender->connection);
    connection_watch(&sender->connection, run->epoll, sender);
}

static void write_request(const struct options *options, struct sender *sender, uint64_t now) {
    size_t size = sender->head_size + TOKEN_DIGITS + sender->tail_size + options->size + 2;
    char *at = connection_room(&sender->connection, size);
    if (at == NULL) /* not while open_sender makes room for all that may be in flight */
        fail_usage("the output of a connection is full");
    memcpy(at, sender->head, sender->head_size);
    at += sender->head_size;
    write_token(at, sender->sent);
    at += TOKEN_DIGITS;
    memcpy(at, sender->tail, sender->tail_size);
    at += sender->tail_size;
    payload_write(at, options->size, sender->number, sender->sent, now);
    memcpy(at + options->size, "\r\n", 2);
    connection_wrote(&sender->connection, size);
    sender->sent_at[sender->sent % options->in_flight] = now;
    sender->sent++;
}

/* Sends as many requests as may be in flight. */
static void fill(struct run *run, struct sender *sender) {
    const struct options *options = run->options;
    uint64_t now = clock_now();
    while (sender->sent < options->count && sender->sent - sender->answered < options->in_flight)
        write_request(options, sender, now);
    connection_flush_watched(&sender->connection);
}

/* The reply must be the one to the oldest unanswered request: mailboxes and streams answer a connection in order. */
static void check_turn(const struct sender *sender, const struct frame *frame) {
    struct text subject = frame_token(frame, 1);
    char expected[TOKEN_DIGITS];
    write_token(expected, sender->answered);
    if (sender->answered == sender->sent)
        fail_promise("connection %u got a reply it was not waiting for, to %.*s", sender->number, (int)subject.size,
                     subject.start);
    if (subject.size != sender->inbox_size + TOKEN_DIGITS ||
        memcmp(subject.start, sender->inbox, sender->inbox_size) != 0)
        fail_promise("connection %u got a reply of another one, to %.*s", sender->number, (int)subject.size,
                     subject.start);
    if (memcmp(subject.start + sender->inbox_size, expected, TOKEN_DIGITS) != 0)
        fail_promise("connection %u got the reply to request %.8s in place of %.8s: lost, repeated or out of order",
                     sender->number, subject.start + sender->inbox_size, expected);
}

/* The number under which the server says it has stored the message. */
static uint64_t read_id(const struct run *run, const struct frame *frame) {
    const struct text *reply = &frame->payload;
    const char *end = reply->start + reply->size;
    const char *found = memmem(reply->start, reply->size, run->id_key, run->id_key_size);
    if (frame_header_status(frame) != 0 || memmem(reply->start, reply->size, "\"error\"", 7) != NULL || found == NULL)
        fail_promise("a request was refused: %.*s%.*s", (int)frame->header.size, frame->header.start, (int)reply->size,
                     reply->start);
    uint64_t value = 0;
    const char *digit = found + run->id_key_size;
    while (digit < end && *digit == ' ')
        digit++;
    if (digit == end || *digit < '0' || *digit > '9')
        fail_promise("%s is no number: %.*s", run->options->id_key, (int)reply->size, reply->start);
    for (; digit < end && *digit >= '0' && *digit <= '9'; digit++)
        value = value * 10 + (uint64_t)(*digit - '0');
    return value;
}

static void take_reply(struct run *run, struct sender *sender, const struct frame *frame, uint64_t now) {
    check_turn(sender, frame);
    uint64_t id = read_id(run, frame);
    uint64_t last = sender->answered == 0 ? 0 : sender->ids[sender->answered - 1];
    if (id <= last)
        fail_promise("connection %u got %s %llu after %llu", sender->number, run->options->id_key,
                     (unsigned long long)id, (unsigned long long)last);
    sender->ids[sender->answered] = id;
    histogram_add(&run->latencies, now - sender->sent_at[sender->answered % run->options->in_flight]);
    sender->answered++;
    run->answered++;
}

static void serve(struct run *run, struct sender *sender, uint32_t events) {
    struct frame frame;
    if (events & ~(uint32_t)EPOLLOUT) {
        connection_read(&sender->connection, false);
        uint64_t now = clock_now();
        while (connection_next(&sender->connection, &frame))
            if (frame.kind == FRAME_MESSAGE)
                take_reply(run, sender, &frame, now);
    }
    fill(run, sender);
}

static void serve_until_answered(struct run *run) {
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t total = run->options->count * run->options->connections;
    uint64_t last_event_at = clock_now();
    while (run->answered < total) {
        int ready = epoll_wait(run->epoll, events, EVENTS_AT_ONCE, WAIT_MS);
        for (int event = 0; event < ready; event++)
            serve(run, events[event].data.ptr, events[event].events);
        if (ready > 0)
            last_event_at = clock_now();
        else if (clock_now() - last_event_at > run->options->patience_ns)
            fail_promise("%llu of %llu requests were answered, then nothing came", (unsigned long long)run->answered,
                         (unsigned long long)total);
    }
}

struct identity {
    uint32_t subject; /* 0 for all, where numbers are distinct over all subjects */
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
    for (uint32_t number = 0; number < options->connections; number++)
        for (uint64_t sequence = 0; sequence < options->count; sequence++)
            identities[filled++] = (struct identity){
                .subject = options->ids_per_subject ? number % options->subject_count : 0,
                .id = run->senders[number].ids[sequence],
            };
    qsort(identities, total, sizeof *identities, compare_identities);
    for (uint64_t place = 1; place < total; place++)
        if (compare_identities(&identities[place - 1], &identities[place]) == 0)
            fail_promise("two messages got %s %llu", options->id_key, (unsigned long long)identities[place].id);
    free(identities);
}

static void close_sender(struct sender *sender) {
    connection_settle(&sender->connection); /* would find a reply too many */
    connection_close(&sender->connection);
    free(sender->sent_at);
    free(sender->ids);
}

void run_requests(const struct options *options) {
    struct run run = {.options = options, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct stopwatch stopwatch;
    if (run.epoll < 0)
        fail_io("cannot make an epoll descriptor");
    int id_key_size = snprintf(run.id_key, sizeof run.id_key, "\"%s\":", options->id_key);
    if (id_key_size >= (int)sizeof run.id_key)
        fail_usage("an --id-key of %zu bytes is too long", strlen(options->id_key));
    run.id_key_size = (size_t)id_key_size;
    run.senders = allocate_zeroed(options->connections, sizeof *run.senders);
    for (uint32_t number = 0; number < options->connections; number++)
        open_sender(&run, number);
    stopwatch_start(&stopwatch);
    for (uint32_t number = 0; number < options->connections; number++)
        fill(&run, &run.senders[number]);
    serve_until_answered(&run);
    stopwatch_stop(&stopwatch, clock_now());
    check_distinct(&run);
    for (uint32_t number = 0; number < options->connections; number++)
        close_sender(&run.senders[number]);
    free(run.senders);
    close(run.epoll);
    report_print("requests", &stopwatch, run.answered, options->size, &run.latencies);
}
