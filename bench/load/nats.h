/* A client's connection that speaks the NATS protocol. A refusal or garbage ends the process, see outcome.h. */
#ifndef NATS_H
#define NATS_H

#include <stdbool.h>

#include "connection.h"
#include "frames.h"

/* Connects, says CONNECT, and returns when the server has answered. Capacities in bytes. */
void nats_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity);

/* Takes the next whole frame out of the input. Answers PING itself; ends the process at -ERR. False when there is none.
 * The frame is valid until the next connection_read. */
bool nats_next(struct connection *connection, struct frame *frame);

/* Whether a frame is one with which JetStream keeps a consumer alive or asks whether it keeps up. */
bool nats_is_flow_control(const struct frame *frame);

/* Sends what is in the output and a PING, and returns when the server has answered that and so has taken everything
 * before it. Any other message than flow control that comes meanwhile ends the process. */
void nats_settle(struct connection *connection);

#endif
