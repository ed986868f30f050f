/* Consumers that ack a whole batch at a time. A broker does not confirm acks; that all were taken shows when the
 * workers have gone and the queue is empty, since it would get back what was not acked. */
#include "amqp.h"
#include "outcome.h"
#include "working.h"

#include <stdlib.h>

#define INPUT_CAPACITY (512 * 1024)
#define OUTPUT_CAPACITY (64 * 1024)
#define BATCHES_AHEAD 4 /* that a worker may have unacked, so that it never waits for an ack to be taken */

struct speech {
    uint64_t tag; /* of the latest delivery */
    uint64_t unacked;
};

static void open_worker(struct worker *worker) {
    uint32_t prefetch = worker->options->batch * BATCHES_AHEAD;
    worker->speech = allocate_zeroed(1, sizeof(struct speech));
    amqp_open(&worker->connection, worker->options->port, INPUT_CAPACITY, OUTPUT_CAPACITY);
    amqp_prefetch(&worker->connection, (uint16_t)(prefetch < UINT16_MAX ? prefetch : UINT16_MAX));
}

static void ask(struct worker *worker) {
    amqp_consume(&worker->connection, worker->options->subjects[0], 0, true);
}

static void ack(struct worker *worker) {
    struct speech *speech = worker->speech;
    amqp_ack(&worker->connection, speech->tag);
    worker->confirmed += speech->unacked;
    speech->unacked = 0;
}

static bool next(struct worker *worker, struct text *payload) {
    struct speech *speech = worker->speech;
    struct amqp_frame frame;
    if (speech->unacked >= worker->options->batch)
        ack(worker);
    if (!amqp_next(&worker->connection, &frame))
        return false;
    if (frame.event != AMQP_DELIVERY)
        fail_promise("worker %u got AMQP method %u.%u, which it did not ask for", worker->number, frame.class_id,
                     frame.method_id);
    if (frame.tag != speech->tag + 1 || frame.redelivered)
        fail_promise("worker %u got delivery %llu%s in place of %llu", worker->number, (unsigned long long)frame.tag,
                     frame.redelivered ? ", given to somebody before," : "", (unsigned long long)speech->tag + 1);
    speech->tag = frame.tag;
    speech->unacked++;
    *payload = frame.payload;
    return true;
}

static void finish(struct worker *worker) {
    struct speech *speech = worker->speech;
    if (speech->unacked > 0)
        ack(worker);
}

static void close_worker(struct worker *worker) {
    const struct options *options = worker->options;
    amqp_close(&worker->connection);
    free(worker->speech);
    if (worker->number + 1 < options->workers)
        return;
    struct connection connection;
    amqp_open(&connection, options->port, INPUT_CAPACITY, OUTPUT_CAPACITY);
    uint32_t left = amqp_count(&connection, options->subjects[0]);
    if (left != 0)
        fail_promise("%u messages are not acked", left);
    amqp_close(&connection);
}

const struct working working_amqp = {open_worker, ask, next, finish, close_worker};
