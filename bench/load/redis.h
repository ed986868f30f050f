/* The protocol of Redis (RESP2): commands out, replies in.
 *
 * A reply is looked at when all of it has arrived: redis_reply says so and gives a walk over its values, in the order
 * in which they stand in it. An error or garbage ends the process, see outcome.h.
 */
#ifndef REDIS_H
#define REDIS_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"

enum redis_kind {
    REDIS_STATUS, /* +OK */
    REDIS_NUMBER, /* :7 */
    REDIS_BULK,   /* bytes of a known size */
    REDIS_ARRAY,  /* of `number` values that follow */
    REDIS_NOTHING,
};

struct redis_value {
    enum redis_kind kind;
    int64_t number;   /* of a number; the values in an array */
    struct text text; /* of a status, a bulk */
};

struct redis_walk {
    const char *at;
    const char *end;
};

/* Connects, and returns when the server has answered a PING. Capacities in bytes. */
void redis_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity);

/* Appends a command of these words, which end with a NULL. There must be room. */
void redis_command(struct connection *connection, const char *const *words);

/* Takes the next whole reply out of the input. False when there is none. Valid until the next connection_read. */
bool redis_reply(struct connection *connection, struct redis_walk *reply);

/* The next value of a reply; ends the process when there is no more, or none of this `kind`. */
struct redis_value redis_next(struct redis_walk *walk, enum redis_kind kind, const char *what);

/* The same where an array or nothing at all may stand. */
struct redis_value redis_next_array_or_nothing(struct redis_walk *walk, const char *what);

/* Waits for a reply; there must be none before it that nobody took. */
struct redis_walk redis_await(struct connection *connection);

/* Sends a PING and returns when it has been answered. A reply that comes before that ends the process. */
void redis_settle(struct connection *connection);

/* The number that an entry's id ("1526919030474-55") stands for: larger for every later one. */
uint64_t redis_id_number(struct text id);

#endif
