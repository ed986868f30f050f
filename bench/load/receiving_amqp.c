/* Consumers without acks: what a queue has is delivered once, and gone. */
#include "amqp.h"
#include "outcome.h"
#include "receiving.h"

#define INPUT_CAPACITY (256 * 1024)
#define OUTPUT_CAPACITY (64 * 1024)

static void open_receiver(struct receiver *receiver) {
    amqp_open(&receiver->connection, receiver->options->port, INPUT_CAPACITY, OUTPUT_CAPACITY);
}

static void subscribe(struct receiver *receiver, bool settle) {
    const struct options *options = receiver->options;
    if (settle || options->subscribers != 1)
        fail_usage("AMQP queues are only read back, by one receiver");
    for (uint32_t subject = 0; subject < options->subject_count; subject++)
        amqp_consume(&receiver->connection, options->subjects[subject], subject, false);
    connection_drain(&receiver->connection);
}

static bool next(struct receiver *receiver, struct delivery *delivery) {
    struct amqp_frame frame;
    if (!amqp_next(&receiver->connection, &frame))
        return false;
    if (frame.event != AMQP_DELIVERY || frame.consumer >= receiver->options->subject_count)
        fail_promise("receiver %u got AMQP method %u.%u, which it did not ask for", receiver->number, frame.class_id,
                     frame.method_id);
    *delivery = (struct delivery){frame.payload, frame.consumer};
    return true;
}

/* A message too many would come before the count, since the consumers are still there. */
static void finish(struct receiver *receiver) {
    const struct options *options = receiver->options;
    for (uint32_t subject = 0; subject < options->subject_count; subject++)
        if (amqp_count(&receiver->connection, options->subjects[subject]) != 0)
            fail_promise("there is more in %s than was sent", options->subjects[subject]);
    receiver->settled = true;
}

static void close_receiver(struct receiver *receiver) {
    amqp_close(&receiver->connection);
}

const struct receiving receiving_amqp = {open_receiver, subscribe, next, finish, close_receiver};
