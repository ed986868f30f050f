/* JSON requests that are not messages, over several connections, from one thread: each must be answered once, in any
 * order, with a success, and with a value that no other answer has. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "modes.h"
#include "nats.h"
#include "outcome.h"
#include "replies.h"
#include "report.h"
#include "serving.h"

#define INPUT_CAPACITY (1024 * 1024)
#define REQUEST_SIZE_MAX 1024
#define VALUE_SIZE_MAX 64

struct asker {
    struct connection connection;
    struct inbox inbox;
    uint32_t number;
    uint64_t sent;
    uint64_t oldest;   /* the oldest unanswered one's number */
    uint64_t *sent_at; /* of request N at N modulo in_flight; 0 when it is answered */
};

struct run {
    const struct options *options;
    struct reply_key key;
    struct asker *askers;
    int epoll;
    uint64_t answered;
    char (*values)[VALUE_SIZE_MAX]; /* of all requests, in the order of their answers */
    struct histogram latencies;
};

/* Copies `pattern` with the request's number in place of %. */
static size_t fill_in(char *destination, const char *pattern, uint64_t number) {
    char *at = destination;
    for (; *pattern != '\0' && at - destination < REQUEST_SIZE_MAX - 32; pattern++) {
        if (*pattern == '%')
            at += sprintf(at, "%llu", (unsigned long long)number);
        else
            *at++ = *pattern;
    }
    if (*pattern != '\0')
        fail_usage("a request is longer than %d bytes", REQUEST_SIZE_MAX);
    return (size_t)(at - destination);
}

/* Of all connections' requests the first go to connection 0, 1, …, and so on. */
static void write_request(const struct options *options, struct asker *asker) {
    uint64_t number = asker->sent * options->connections + asker->number;
    char subject[REQUEST_SIZE_MAX], body[REQUEST_SIZE_MAX], token[TOKEN_DIGITS];
    size_t subject_size = fill_in(subject, options->subjects[number % options->subject_count], options->first + number);
    size_t body_size = fill_in(body, options->body, options->first + number);
    write_token(token, asker->sent);
    connection_print(&asker->connection, "PUB %.*s %s%.*s %zu\r\n", (int)subject_size, subject, asker->inbox.subject,
                     TOKEN_DIGITS, token, body_size);
    connection_append(&asker->connection, body, body_size);
    connection_append(&asker->connection, "\r\n", 2);
}

static void fill(struct run *run, struct asker *asker) {
    const struct options *options = run->options;
    uint64_t now = clock_now();
    while (asker->sent < options->count && asker->sent - asker->oldest < options->in_flight) {
        write_request(options, asker);
        asker->sent_at[asker->sent++ % options->in_flight] = now;
    }
    connection_flush_watched(&asker->connection);
}

static void take_reply(struct run *run, struct asker *asker, const struct frame *frame, uint64_t now) {
    uint32_t in_flight = run->options->in_flight;
    uint64_t number = inbox_number(&asker->inbox, frame, asker->number);
    if (number < asker->oldest || number >= asker->sent || asker->sent_at[number % in_flight] == 0)
        fail_promise("connection %u got a reply it was not waiting for, to request %llu", asker->number,
                     (unsigned long long)number);
    struct text value = reply_value(frame, &run->key);
    if (value.size == 0 || value.size >= VALUE_SIZE_MAX)
        fail_promise("a reply has %zu bytes as %s", value.size, run->options->id_key);
    memcpy(run->values[run->answered++], value.start, value.size);
    histogram_add(&run->latencies, now - asker->sent_at[number % in_flight]);
    asker->sent_at[number % in_flight] = 0;
    while (asker->oldest < asker->sent && asker->sent_at[asker->oldest % in_flight] == 0)
        asker->oldest++;
}

static void serve(void *of_run, void *client, uint32_t events) {
    struct run *run = of_run;
    struct asker *asker = client;
    struct frame frame;
    if (events & ~(uint32_t)EPOLLOUT) {
        connection_read(&asker->connection, false);
        uint64_t now = clock_now();
        while (nats_next(&asker->connection, &frame))
            if (frame.kind == FRAME_MESSAGE)
                take_reply(run, asker, &frame, now);
    }
    fill(run, asker);
}

static int compare_values(const void *left, const void *right) {
    return strcmp(left, right);
}

/* Writes the values to a file, one on a line, and sees to it that no two are the same. */
static void check_values(const struct run *run) {
    const char *path = run->options->values_path;
    FILE *file = path == NULL ? NULL : fopen(path, "w");
    if (path != NULL && file == NULL)
        fail_io("cannot write %s", path);
    for (uint64_t place = 0; file != NULL && place < run->answered; place++)
        if (fprintf(file, "%s\n", run->values[place]) < 0)
            fail_io("cannot write %s", path);
    if (file != NULL && fclose(file) != 0)
        fail_io("cannot write %s", path);
    qsort(run->values, run->answered, sizeof *run->values, compare_values);
    for (uint64_t place = 1; place < run->answered; place++)
        if (strcmp(run->values[place - 1], run->values[place]) == 0)
            fail_promise("two requests were answered with the same %s", run->options->id_key);
}

void run_ask(const struct options *options) {
    struct run run = {.options = options, .key = reply_key(options->id_key), .epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct stopwatch stopwatch;
    if (run.epoll < 0)
        fail_io("cannot make an epoll descriptor");
    run.values = allocate_zeroed(options->count * options->connections, sizeof *run.values);
    run.askers = allocate_zeroed(options->connections, sizeof *run.askers);
    for (uint32_t number = 0; number < options->connections; number++) {
        struct asker *asker = &run.askers[number];
        asker->number = number;
        asker->sent_at = allocate(options->in_flight * sizeof *asker->sent_at);
        nats_open(&asker->connection, options->port, INPUT_CAPACITY,
                  8192 + (options->in_flight + 1) * 2UL * REQUEST_SIZE_MAX);
        inbox_open(&asker->inbox, &asker->connection, number);
        connection_watch(&asker->connection, run.epoll, asker);
    }
    stopwatch_start(&stopwatch);
    for (uint32_t number = 0; number < options->connections; number++)
        fill(&run, &run.askers[number]);
    serve_until_answered(options, run.epoll, &run.answered, serve, &run);
    stopwatch_stop(&stopwatch, clock_now());
    check_values(&run);
    for (uint32_t number = 0; number < options->connections; number++) {
        nats_settle(&run.askers[number].connection); /* would find a reply too many */
        connection_close(&run.askers[number].connection);
        free(run.askers[number].sent_at);
    }
    free(run.askers);
    free(run.values);
    close(run.epoll);
    report_print("ask", &stopwatch, run.answered, (uint32_t)strlen(options->body), &run.latencies, NULL);
}
