/* One publisher on the main thread and some subscribers on others; and, without the publisher, subscribers to what was
 * stored. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "connection.h"
#include "modes.h"
#include "outcome.h"
#include "payload.h"
#include "receivers.h"
#include "report.h"

#define INPUT_CAPACITY (64 * 1024)
#define BATCH_BYTES (64 * 1024)
#define PAUSE_NS 50000

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
    connection_open(&publisher->connection, options->port, INPUT_CAPACITY, BATCH_BYTES + 2 * options->size);
}

/* Appends messages up to number `end`, as many as there is room for. */
static void write_batch(struct publisher *publisher, uint64_t end) {
    uint32_t payload_size = publisher->options->size;
    size_t size = publisher->head_size + payload_size + 2;
    uint64_t now = clock_now();
    for (; publisher->sent < end; publisher->sent++) {
        char *at = connection_room(&publisher->connection, size);
        if (at == NULL)
            return;
        memcpy(at, publisher->head, publisher->head_size);
        payload_write(at + publisher->head_size, payload_size, 0, publisher->sent, now);
        memcpy(at + publisher->head_size + payload_size, "\r\n", 2);
        connection_wrote(&publisher->connection, size);
    }
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
    while (connection_next(connection, &frame))
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
    connection_settle(&publisher->connection);
    connection_close(&publisher->connection);
}

void run_publish(const struct options *options) {
    struct options receiving = *options;
    struct publisher publisher = {.options = options};
    struct histogram latencies = {0};
    struct stopwatch stopwatch;
    receiving.publishers = 1;
    struct receivers *receivers = receivers_open(&receiving);
    receivers_subscribe(receivers, true);
    open_publisher(&publisher);
    stopwatch_start(&stopwatch);
    receivers_start(receivers);
    publish(&publisher, receivers);
    stopwatch_stop(&stopwatch, receivers_join(receivers, &latencies));
    receivers_close(receivers);
    report_print("publish", &stopwatch, options->count * options->subscribers, options->size, &latencies);
}

void run_receive(const struct options *options) {
    struct histogram latencies = {0};
    struct stopwatch stopwatch;
    struct receivers *receivers = receivers_open(options);
    stopwatch_start(&stopwatch);
    receivers_subscribe(receivers, false);
    receivers_start(receivers);
    stopwatch_stop(&stopwatch, receivers_join(receivers, &latencies));
    receivers_close(receivers);
    report_print("receive", &stopwatch, options->count * options->publishers * options->subscribers, options->size,
                 &latencies);
}
