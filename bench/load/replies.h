/* Replies to NATS requests: whose they are, and what a JSON reply says. */
#ifndef REPLIES_H
#define REPLIES_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"
#include "frames.h"

#define TOKEN_DIGITS 8

struct reply_key {
    char quoted[64]; /* with quotes and colon, as it stands in a reply */
    size_t size;
};

struct inbox {
    char subject[64]; /* of a reply, up to its last token, which is the request's number */
    size_t size;
};

/* Subscribes a connection to all below a reply subject of its own, and returns when the server has taken note. */
void inbox_open(struct inbox *inbox, struct connection *connection, uint32_t number);

/* A request's number as the last token of its reply subject: TOKEN_DIGITS of hexadecimal. */
void write_token(char *destination, uint64_t number);

/* The number of the request of connection `number` that the frame is the reply to; ends the process when it is to
 * another connection's. */
uint64_t inbox_number(const struct inbox *inbox, const struct frame *frame, uint32_t number);

/* Ends the process unless the frame is the reply to request `expected` of connection `number`; or if none is `awaited`.
 */
void inbox_check_turn(const struct inbox *inbox, const struct frame *frame, uint32_t number, uint64_t expected,
                      bool awaited);

/* Ends the process when a reply is a refusal. */
void reply_check(const struct frame *frame);

struct reply_key reply_key(const char *name);

/* What a successful JSON reply has under the key: a string without its quotes, or anything else up to its end. */
struct text reply_value(const struct frame *frame, const struct reply_key *key);

/* The same where it must be a number. */
uint64_t reply_number(const struct frame *frame, const struct reply_key *key);

#endif
