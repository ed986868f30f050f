/* As much of AMQP 0-9-1 as it takes to publish with confirms and to consume from a durable queue, on channel 1.
 *
 * Written here and not taken from a library: the client libraries block on one connection or allocate for each message,
 * and what is to be measured is the broker. An error of the broker or garbage ends the process, see outcome.h.
 */
#ifndef AMQP_H
#define AMQP_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"

#define AMQP_FRAME_MAX 131072 /* bytes, the most that RabbitMQ agrees to by default */
#define AMQP_PUBLISH_MAX 512  /* bytes around a payload and the name of its queue */

enum amqp_event {
    AMQP_CONFIRM,  /* by the broker, of what was published */
    AMQP_DELIVERY, /* with its payload */
    AMQP_OTHER,    /* any other method */
};

struct amqp_frame {
    enum amqp_event event;
    uint16_t class_id;
    uint16_t method_id;
    uint64_t tag;          /* of a confirm or a delivery, 1 for the channel's first */
    bool multiple;         /* of a confirm: of all up to this tag */
    bool redelivered;      /* of a delivery: it was given to somebody before */
    uint32_t consumer;     /* of a delivery */
    struct text payload;   /* of a delivery */
    struct text arguments; /* of any other method */
};

/* Connects as guest, opens channel 1 and returns. Capacities in bytes. */
void amqp_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity);

/* Says goodbye, and closes the connection when the broker has answered. Anything that comes before that ends the
 * process.
 */
void amqp_close(struct connection *connection);

/* Makes a durable queue of this type ("quorum", "classic"), or finds it as it is made. */
void amqp_declare(struct connection *connection, const char *queue, const char *type);

/* How many messages wait in a queue and are with no consumer. */
uint32_t amqp_count(struct connection *connection, const char *queue);

/* From here on everything published is confirmed. */
void amqp_confirm(struct connection *connection);

/* Agrees that no more than so many deliveries of each consumer to come are unacked at a time. */
void amqp_prefetch(struct connection *connection, uint16_t count);

/* Has the broker deliver from a queue; its deliveries carry `consumer`. Does not wait for its agreement, so deliveries
 * of other consumers may be under way. */
void amqp_consume(struct connection *connection, const char *queue, uint32_t consumer, bool acks);

/* Appends the frames of one persistent message to a queue, and returns where the `size` bytes of its payload go: the
 * caller writes them. There must be room for AMQP_PUBLISH_MAX, the queue's name and the payload. */
char *amqp_publish(struct connection *connection, const char *queue, uint32_t size);

/* Appends an ack of all deliveries up to `tag`. */
void amqp_ack(struct connection *connection, uint64_t tag);

/* Takes the next whole event out of the input: a method, and of a delivery its content. Heartbeats are passed over.
 * False when there is none. Valid until the next connection_read. */
bool amqp_next(struct connection *connection, struct amqp_frame *frame);

#endif
