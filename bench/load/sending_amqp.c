/* Persistent messages to a durable queue for each subject, confirmed by the broker, which may confirm several at once
 * and in any order. */
#include "amqp.h"
#include "outcome.h"
#include "sending.h"

#define INPUT_CAPACITY (256 * 1024)

static void open_sender(struct sender *sender) {
    const struct options *options = sender->options;
    amqp_open(&sender->connection, options->port, INPUT_CAPACITY,
              8192 + (options->in_flight + 1) * (AMQP_PUBLISH_MAX + options->size));
    for (uint32_t subject = 0; subject < options->subject_count; subject++)
        amqp_declare(&sender->connection, options->subjects[subject], options->queue_type);
    amqp_confirm(&sender->connection);
}

static char *write_message(struct sender *sender, const char *subject) {
    return amqp_publish(&sender->connection, subject, sender->options->size);
}

static bool next(struct sender *sender, struct answer *answer) {
    struct amqp_frame frame;
    if (!amqp_next(&sender->connection, &frame))
        return false;
    if (frame.event != AMQP_CONFIRM)
        fail_promise("connection %u got AMQP method %u.%u while it waited for confirms", sender->number, frame.class_id,
                     frame.method_id);
    if (frame.tag == 0 || frame.tag > sender->sent || (frame.multiple && frame.tag <= sender->oldest))
        fail_promise("connection %u got a confirm that it was not waiting for, of message %llu", sender->number,
                     (unsigned long long)frame.tag);
    *answer = (struct answer){frame.multiple ? sender->oldest : frame.tag - 1, frame.tag - 1, false, 0};
    return true;
}

static void close_sender(struct sender *sender) {
    amqp_close(&sender->connection);
}

const struct sending sending_amqp = {open_sender, write_message, next, close_sender};
