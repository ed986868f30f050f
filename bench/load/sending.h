/* How a broker is asked to store messages and says that it has: one implementation for each protocol, see requests.c.
 */
#ifndef SENDING_H
#define SENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"
#include "options.h"

struct sender { /* one connection */
    const struct options *options;
    struct connection connection;
    void *speech; /* what the protocol has to remember */
    uint32_t number;
    uint64_t sent;     /* requests, the next one's number */
    uint64_t answered; /* of them */
    uint64_t oldest;   /* the oldest unanswered one's number */
    uint64_t *sent_at; /* of request N at N modulo in_flight */
    bool *done;        /* whether request N is answered, at N modulo in_flight */
    uint64_t *ids;     /* of request N at N */
};

struct answer { /* to the requests `first` to `last` */
    uint64_t first;
    uint64_t last;
    bool numbered; /* the broker says under which number it has stored the message: */
    uint64_t id;
};

struct sending {
    /* Connects, makes what the subjects need, and returns when the broker is ready. */
    void (*open)(struct sender *sender);
    /* Appends request number `sent`, and returns where its payload goes, for which there is room. */
    char *(*write)(struct sender *sender, const char *subject);
    /* Takes the next answer out of the input. False when there is none. Ends the process when it is a refusal, or the
     * protocol shows that it is not in its turn. */
    bool (*next)(struct sender *sender, struct answer *answer);
    /* Ends the process when there is an answer too many; then closes the connection. */
    void (*close)(struct sender *sender);
};

/* The subject that request `number` of a sender is for. */
const char *sending_subject(const struct sender *sender, uint64_t number);

extern const struct sending sending_nats;
extern const struct sending sending_redis;
extern const struct sending sending_amqp;

#endif
