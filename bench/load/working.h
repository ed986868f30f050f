/* How a worker takes messages off a queue and confirms them: one implementation for each broker, see work.c. */
#ifndef WORKING_H
#define WORKING_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"
#include "histogram.h"
#include "options.h"

#define WORKERS_MAX 250

struct worker { /* one connection */
    const struct options *options;
    struct connection connection;
    void *speech; /* what the protocol has to remember */
    uint32_t number;
    uint64_t handled;      /* messages that it was given */
    uint64_t confirmed;    /* of them: acked, and the broker has said so where it does that */
    bool finishing;        /* every message has been handled by somebody: it is not to ask for more */
    struct histogram acks; /* from when an ack was sent until it was confirmed */
};

struct working {
    void (*open)(struct worker *worker);
    /* Asks for the first batch. */
    void (*ask)(struct worker *worker);
    /* Takes the next message out of the input. Sees to it that messages are acked and more are asked for, and counts
     * what was confirmed. False when there is none. */
    bool (*next)(struct worker *worker, struct text *payload);
    /* Acks what is not acked yet, now that everything is handled. */
    void (*finish)(struct worker *worker);
    /* Ends the process when the broker has anything left for this worker; then closes the connection. */
    void (*close)(struct worker *worker);
};

/* Acks that have been sent and not confirmed yet, by a number of their own. */
#define CONFIRMS_MAX 16
struct confirms {
    uint64_t asked; /* the number of the next one */
    struct {
        uint64_t number;
        uint64_t messages; /* 0: none, or confirmed */
        uint64_t sent_at;
    } slots[CONFIRMS_MAX];
};

/* Notes that so many messages were acked; returns the number under which that is to be confirmed. */
uint64_t confirms_ask(struct confirms *confirms, uint64_t messages);

/* Whether so many are not confirmed yet that a worker had better wait before it asks for more. */
bool confirms_are_full(const struct confirms *confirms);

/* Counts a confirmation. Ends the process when there is none to come with this number. */
void confirms_take(struct confirms *confirms, struct worker *worker, uint64_t number);

extern const struct working working_mq9;
extern const struct working working_jetstream;
extern const struct working working_redis;
extern const struct working working_amqp;

#endif
