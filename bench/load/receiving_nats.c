/* A subscription to each subject, as core NATS, mailboxes and the push consumers of JetStream have it. */
#include "nats.h"
#include "outcome.h"
#include "receiving.h"

#define INPUT_CAPACITY (256 * 1024)
#define OUTPUT_CAPACITY (64 * 1024)
#define SUBSCRIPTION_SIZE_MAX 600

static void open_receiver(struct receiver *receiver) {
    const struct options *options = receiver->options;
    nats_open(&receiver->connection, options->port, INPUT_CAPACITY + 2 * options->size, OUTPUT_CAPACITY);
}

static void subscribe(struct receiver *receiver, bool settle) {
    const struct options *options = receiver->options;
    struct connection *connection = &receiver->connection;
    for (uint32_t subject = 0; subject < options->subject_count; subject++) {
        if (!receiving_wants(receiver, subject))
            continue;
        if (connection_room(connection, SUBSCRIPTION_SIZE_MAX) == NULL)
            connection_drain(connection);
        connection_print(connection, "SUB %s %u\r\n", options->subjects[subject], subject + 1);
    }
    if (settle)
        nats_settle(connection);
    else
        connection_drain(connection);
}

/* A JetStream push consumer asks now and then whether its receiver keeps up. */
static void answer_flow_control(struct receiver *receiver, const struct frame *frame) {
    struct text reply = frame_reply_subject(frame);
    if (reply.size > 0)
        connection_print(&receiver->connection, "PUB %.*s 0\r\n\r\n", (int)reply.size, reply.start);
}

/* The subscription's identifier is the number of its subject, counted from 1. */
static uint32_t subject_of(const struct receiver *receiver, const struct frame *frame) {
    struct text identifier = frame_token(frame, 2);
    uint64_t number = 0;
    for (size_t place = 0; place < identifier.size && place < 10; place++)
        number = number * 10 + (uint64_t)(identifier.start[place] - '0');
    if (number == 0 || number > receiver->options->subject_count)
        fail_promise("receiver %u got a message for a subscription that it does not have: %.*s", receiver->number,
                     (int)frame->line.size, frame->line.start);
    return (uint32_t)number - 1;
}

static bool next(struct receiver *receiver, struct delivery *delivery) {
    struct frame frame;
    while (nats_next(&receiver->connection, &frame)) {
        if (frame.kind == FRAME_PONG && receiver->received == receiver->expected)
            receiver->settled = true;
        if (frame.kind != FRAME_MESSAGE)
            continue;
        if (nats_is_flow_control(&frame)) {
            answer_flow_control(receiver, &frame);
            continue;
        }
        *delivery = (struct delivery){frame.payload, subject_of(receiver, &frame)};
        return true;
    }
    return false;
}

static void finish(struct receiver *receiver) {
    connection_print(&receiver->connection, "PING\r\n");
}

static void close_receiver(struct receiver *receiver) {
    connection_close(&receiver->connection);
}

const struct receiving receiving_nats = {open_receiver, subscribe, next, finish, close_receiver};
