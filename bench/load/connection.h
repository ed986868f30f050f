/* One TCP connection that speaks the NATS client protocol, with a buffer for each direction.
 *
 * Whatever a server does to a connection that no figure can be taken from (a refusal, a hang-up, garbage) ends the
 * process, see outcome.h. A connection belongs to one thread.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "frames.h"

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

/* Connects to 127.0.0.1:`port`, says CONNECT, and returns when the server has answered. Capacities in bytes. */
void connection_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity);

/* Makes a connection of an accepted socket; nothing is said. */
void connection_accept(struct connection *connection, int descriptor, size_t input_capacity, size_t output_capacity);

void connection_close(struct connection *connection);

/* Sends what is in the output and a PING, and returns when the server has answered that and so has taken everything
 * before it. */
void connection_settle(struct connection *connection);

/* Reads once, as much as has arrived. False when the peer has hung up, if `hung_up_is_fine`; without that, it ends the
 * process. */
bool connection_read(struct connection *connection, bool hung_up_is_fine);

/* Takes the next whole frame out of the input. Answers PING itself; ends the process at -ERR. False when there is none.
 * The frame is valid until the next connection_read. */
bool connection_next(struct connection *connection, struct frame *frame);

/* Place for `size` more bytes of output, to be claimed with connection_wrote; NULL when there is none. */
char *connection_room(struct connection *connection, size_t size);
void connection_wrote(struct connection *connection, size_t size);

/* Appends a short text to the output. There must be room. */
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
