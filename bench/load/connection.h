/* One TCP connection with a buffer for each direction. It knows no protocol; see nats.h, redis.h, amqp.h.
 *
 * Whatever a server does to a connection that no figure can be taken from (a hang-up, silence) ends the process, see
 * outcome.h. A connection belongs to one thread.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "text.h"

struct buffer {
    char *bytes;
    size_t start; /* of what is in it */
    size_t end;
    size_t capacity;
};

struct connection {
    int descriptor;
    int epoll; /* that watches it */
    void *owner;
    bool waits_for_room;
    struct buffer input;
    struct buffer output;
};

/* Connects to 127.0.0.1:`port`; nothing is said. Capacities in bytes. */
void connection_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity);

/* Makes a connection of an accepted socket. */
void connection_accept(struct connection *connection, int descriptor, size_t input_capacity, size_t output_capacity);

void connection_close(struct connection *connection);

/* Reads once, as much as has arrived. False when the peer has hung up, if `hung_up_is_fine`; without that, it ends the
 * process. */
bool connection_read(struct connection *connection, bool hung_up_is_fine);

/* Writes all output and waits until more has been read. A server that stays silent for long ends the process. */
void connection_await(struct connection *connection);

/* What has been read and not taken yet. Valid until the next connection_read. */
struct text connection_input(const struct connection *connection);
void connection_take(struct connection *connection, size_t size);

/* Place for `size` more bytes of output, to be claimed with connection_wrote; NULL when there is none. */
char *connection_room(struct connection *connection, size_t size);
void connection_wrote(struct connection *connection, size_t size);

/* Appends to the output. There must be room. */
void connection_append(struct connection *connection, const char *bytes, size_t size);
__attribute__((format(printf, 2, 3))) void connection_print(struct connection *connection, const char *format, ...);

/* Writes output until the socket takes no more. True when everything has been written. */
bool connection_flush(struct connection *connection);

/* Writes all output, waiting for the socket where needed. */
void connection_drain(struct connection *connection);

/* Has an epoll descriptor tell when there is something to read; `owner` comes back as the event's pointer. */
void connection_watch(struct connection *connection, int epoll, void *owner);

/* connection_flush for a watched connection: while output remains, the epoll descriptor also tells when there is room
 * for it. */
void connection_flush_watched(struct connection *connection);

#endif
