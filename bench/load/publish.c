/* One publisher on the main thread and some subscribers on others; and, without the publisher, receivers of what was
 * stored. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "clock.h"
#include "modes.h"
#include "nats.h"
#include "outcome.h"
#include "payload.h"
#include "receivers.h"
#include "report.h"

#define INPUT_CAPACITY (64 * 1024)
#define BATCH_BYTES (64 * 1024)
#define PAUSE_NS 50000
#define TIMER_SLACK_NS 1000
#define SPIN_NS 100000 /* before a message's time: the operating system wakes nobody up to the microsecond */

struct publisher {
    const struct options *options;
    struct connection connection;
    char head[512]; /* the line before each payload */
    size_t head_size;
    uint64_t sent;
};

static void open_publisher(struct publisher *publisher) {
    const struct options *options = publisher->options;
    int size = snprintf(publisher->head, sizeof publisher->head, "PUB %s %u\r\n", options->subjects[0], options->size);
    if (size >= (int)sizeof publisher->head)
        fail_usage("a subject of %zu bytes is too long", strlen(options->subjects[0]));
    publisher->head_size = (size_t)size;
    nats_open(&publisher->connection, options->port, INPUT_CAPACITY, BATCH_BYTES + 2 * options->size);
}

/* Appends the next message, as sent at `now`. False when there is no room for it. */
static bool write_message(struct publisher *publisher, uint64_t now) {
    uint32_t payload_size = publisher->options->size;
    size_t size = publisher->head_size + payload_size + 2;
    char *at = connection_room(&publisher->connection, size);
    if (at == NULL)
        return false;
    memcpy(at, publisher->head, publisher->head_size);
    payload_write(at + publisher->head_size, payload_size, 0, publisher->sent, now);
    memcpy(at + publisher->head_size + payload_size, "\r\n", 2);
    connection_wrote(&publisher->connection, size);
    publisher->sent++;
    return true;
}

/* Appends messages up to number `end`, as many as there is room for. */
static void write_batch(struct publisher *publisher, uint64_t end) {
    uint64_t now = clock_now();
    while (publisher->sent < end && write_message(publisher, now))
        ;
}

/* Writes what the socket takes, waits for it when it takes nothing, and listens for a PING or a refusal meanwhile. */
static void exchange(struct publisher *publisher) {
    struct connection *connection = &publisher->connection;
    bool written = connection_flush(connection);
    struct pollfd wanted = {.fd = connection->descriptor, .events = (short)(POLLIN | (written ? 0 : POLLOUT))};
    if (poll(&wanted, 1, written ? 0 : -1) < 0 && errno != EINTR)
        fail_io("cannot wait for a connection");
    if ((wanted.revents & ~POLLOUT) == 0)
        return;
    struct frame frame;
    connection_read(connection, false);
    while (nats_next(connection, &frame))
        if (frame.kind == FRAME_MESSAGE)
            fail_promise("the publisher got a message: %.*s", (int)frame.line.size, frame.line.start);
}

/* Publishes everything, never more than the window ahead of the slowest receiver: a server may cut off one that lags
 * too far. */
static void publish(struct publisher *publisher, const struct receivers *receivers) {
    const struct options *options = publisher->options;
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    while (publisher->sent < options->count) {
        uint64_t end = receivers_slowest(receivers) + options->window;
        if (end <= publisher->sent)
            nanosleep(&pause, NULL); /* the receivers' own patience ends this when nothing moves any more */
        else
            write_batch(publisher, end < options->count ? end : options->count);
        exchange(publisher);
    }
}

static void wait_until(uint64_t moment) {
    uint64_t wake_at = moment - SPIN_NS;
    const struct timespec wake = {(time_t)(wake_at / NANOSECONDS_PER_SECOND), (long)(wake_at % NANOSECONDS_PER_SECOND)};
    if (clock_now() < wake_at)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL);
    while (clock_now() < moment)
        ;
}

/* Publishes each message when its time has come, whatever the server is doing then, and counts from that time on: a
 * message that a busy server keeps from being sent is late, not missing. */
static void publish_on_schedule(struct publisher *publisher, struct histogram *lateness) {
    const struct options *options = publisher->options;
    uint64_t started_at = clock_now() + NANOSECONDS_PER_SECOND / options->rate;
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
    while (publisher->sent < options->count) {
        uint64_t due = started_at + publisher->sent * NANOSECONDS_PER_SECOND / options->rate;
        wait_until(due);
        histogram_add(lateness, clock_now() - due);
        if (!write_message(publisher, due))
            fail_promise("the server has not taken %d bytes", BATCH_BYTES);
        exchange(publisher);
    }
}

void run_publish(const struct options *options) {
    struct options receiving = *options;
    struct publisher publisher = {.options = options};
    struct histogram latencies = {0}, lateness = {0};
    struct stopwatch stopwatch;
    receiving.publishers = 1;
    if (options->subject_count == 2) { /* what is sent to the first comes from the second */
        receiving.subjects++;
        receiving.subject_count--;
    }
    struct receivers *receivers = receivers_open(&receiving);
    receivers_subscribe(receivers, true);
    open_publisher(&publisher);
    stopwatch_start(&stopwatch);
    receivers_start(receivers);
    if (options->rate > 0)
        publish_on_schedule(&publisher, &lateness);
    else
        publish(&publisher, receivers);
    nats_settle(&publisher.connection);
    connection_close(&publisher.connection);
    stopwatch_stop(&stopwatch, receivers_join(receivers, &latencies));
    receivers_close(receivers);
    report_print("publish", &stopwatch, options->count * options->subscribers, options->size, &latencies, &lateness);
}

void run_receive(const struct options *options) {
    struct histogram latencies = {0};
    struct stopwatch stopwatch;
    struct receivers *receivers = receivers_open(options);
    stopwatch_start(&stopwatch);
    receivers_subscribe(receivers, false);
    receivers_start(receivers);
    stopwatch_stop(&stopwatch, receivers_join(receivers, &latencies));
    uint64_t received = receivers_expected(receivers);
    receivers_close(receivers);
    report_print("receive", &stopwatch, received, options->size, &latencies, NULL);
}
