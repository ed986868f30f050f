#define _GNU_SOURCE
#include "replies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nats.h"
#include "outcome.h"

void inbox_open(struct inbox *inbox, struct connection *connection, uint32_t number) {
    inbox->size =
        (size_t)snprintf(inbox->subject, sizeof inbox->subject, "_INBOX.load%x.%x.", (unsigned)getpid(), number);
    connection_print(connection, "SUB %s* 1\r\n", inbox->subject);
    nats_settle(connection);
}

void write_token(char *destination, uint64_t number) {
    for (int digit = TOKEN_DIGITS - 1; digit >= 0; digit--, number >>= 4)
        destination[digit] = "0123456789abcdef"[number & 15];
}

uint64_t inbox_number(const struct inbox *inbox, const struct frame *frame, uint32_t number) {
    struct text subject = frame_token(frame, 1);
    char token[TOKEN_DIGITS + 1] = {0};
    if (subject.size != inbox->size + TOKEN_DIGITS || memcmp(subject.start, inbox->subject, inbox->size) != 0)
        fail_promise("connection %u got a reply of another one, to %.*s", number, (int)subject.size, subject.start);
    memcpy(token, subject.start + inbox->size, TOKEN_DIGITS);
    return strtoull(token, NULL, 16);
}

void inbox_check_turn(const struct inbox *inbox, const struct frame *frame, uint32_t number, uint64_t expected,
                      bool awaited) {
    struct text subject = frame_token(frame, 1);
    char token[TOKEN_DIGITS];
    write_token(token, expected);
    if (!awaited)
        fail_promise("connection %u got a reply it was not waiting for, to %.*s", number, (int)subject.size,
                     subject.start);
    if (subject.size != inbox->size + TOKEN_DIGITS || memcmp(subject.start, inbox->subject, inbox->size) != 0)
        fail_promise("connection %u got a reply of another one, to %.*s", number, (int)subject.size, subject.start);
    if (memcmp(subject.start + inbox->size, token, TOKEN_DIGITS) != 0)
        fail_promise("connection %u got the reply to request %.8s in place of %.8s: lost, repeated or out of order",
                     number, subject.start + inbox->size, token);
}

void reply_check(const struct frame *frame) {
    const struct text *reply = &frame->payload;
    const char *error = memmem(reply->start, reply->size, "\"error\":", 8);
    const char *end = reply->start + reply->size;
    if (error != NULL) /* replies to FETCH and ACK have an empty one */
        for (error += 8; error < end && *error == ' '; error++)
            ;
    if (frame_header_status(frame) != 0 || (error != NULL && (end - error < 2 || memcmp(error, "\"\"", 2) != 0)))
        fail_promise("a request was refused: %.*s%.*s", (int)frame->header.size, frame->header.start, (int)reply->size,
                     reply->start);
}

struct reply_key reply_key(const char *name) {
    struct reply_key key;
    int size = snprintf(key.quoted, sizeof key.quoted, "\"%s\":", name);
    if (size >= (int)sizeof key.quoted)
        fail_usage("a key of %zu bytes is too long", strlen(name));
    key.size = (size_t)size;
    return key;
}

struct text reply_value(const struct frame *frame, const struct reply_key *key) {
    const struct text *reply = &frame->payload;
    const char *end = reply->start + reply->size;
    reply_check(frame);
    const char *at = memmem(reply->start, reply->size, key->quoted, key->size);
    if (at == NULL)
        fail_promise("a request was refused: %.*s", (int)reply->size, reply->start);
    for (at += key->size; at < end && *at == ' '; at++)
        ;
    bool is_string = at < end && *at == '"';
    const char *start = at += is_string;
    while (at < end && (is_string ? *at != '"' : *at != ',' && *at != '}'))
        at++;
    return (struct text){start, (size_t)(at - start)};
}

uint64_t reply_number(const struct frame *frame, const struct reply_key *key) {
    struct text text = reply_value(frame, key);
    uint64_t value = 0;
    bool is_number = text.size > 0 && text.start[-1] != '"';
    for (size_t digit = 0; is_number && digit < text.size; digit++) {
        is_number = text.start[digit] >= '0' && text.start[digit] <= '9';
        value = value * 10 + (uint64_t)(text.start[digit] - '0');
    }
    if (!is_number)
        fail_promise("%.*s is no number: %.*s", (int)key->size - 3, key->quoted + 1, (int)frame->payload.size,
                     frame->payload.start);
    return value;
}
