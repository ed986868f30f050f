/* How what a broker has, or passes on, is received: one implementation for each protocol, see receivers.c. */
#ifndef RECEIVING_H
#define RECEIVING_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"
#include "options.h"

struct receiver { /* one connection */
    const struct options *options;
    struct connection connection;
    void *speech; /* what the protocol has to remember */
    uint32_t number;
    bool settled;   /* everything came, and the broker has shown that there is no more */
    uint64_t *next; /* of each source, the message that must come next; see receivers.c */
    uint64_t expected;
    uint64_t received;
    _Atomic uint64_t told; /* `received`, for other threads to read */
};

struct delivery {
    struct text payload;
    uint32_t subject; /* the index of the subject that it came from */
};

struct receiving {
    void (*open)(struct receiver *receiver);
    /* Asks for all messages of this receiver's subjects. With `settle` returns when the broker has taken note, which is
     * only possible when nothing has been sent to the subjects yet. */
    void (*subscribe)(struct receiver *receiver, bool settle);
    /* Takes the next message out of the input. False when there is none. Marks the receiver as settled when that has
     * been shown. */
    bool (*next)(struct receiver *receiver, struct delivery *delivery);
    /* Asks for what shows that there is no more, when everything expected has come. */
    void (*finish)(struct receiver *receiver);
    void (*close)(struct receiver *receiver);
};

/* Whether a receiver is to receive from the subject of this index: from all, or from its share. */
bool receiving_wants(const struct receiver *receiver, uint32_t subject);

extern const struct receiving receiving_nats;
extern const struct receiving receiving_redis;
extern const struct receiving receiving_amqp;

#endif
