#define _GNU_SOURCE
#include "redis.h"

#include <stdio.h>
#include <string.h>

#include "outcome.h"

#define SEQUENCE_BITS 22 /* of an id's number; the milliseconds since 1970 take 41 of the others */

void redis_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity) {
    connection_open(connection, port, input_capacity, output_capacity);
    redis_settle(connection);
}

void redis_command(struct connection *connection, const char *const *words) {
    size_t count = 0;
    while (words[count] != NULL)
        count++;
    connection_print(connection, "*%zu\r\n", count);
    for (size_t index = 0; index < count; index++)
        connection_print(connection, "$%zu\r\n%s\r\n", strlen(words[index]), words[index]);
}

static noreturn void fail_garbage(const char *at, const char *end) {
    size_t size = (size_t)(end - at);
    fail_promise("not the protocol of Redis: %.*s", (int)(size < 80 ? size : 80), at);
}

enum part { PART_WHOLE, PART_MISSING };

/* Reads one value, an array's head counting as one, and moves the walk behind it. */
static enum part read_value(struct redis_walk *walk, struct redis_value *value) {
    const char *at = walk->at;
    const char *line_end = memchr(at, '\n', (size_t)(walk->end - at));
    if (line_end == NULL)
        return PART_MISSING;
    if (line_end - at < 2 || line_end[-1] != '\r')
        fail_garbage(at, walk->end);
    *value = (struct redis_value){.text = {at + 1, (size_t)(line_end - 1 - (at + 1))}};
    walk->at = line_end + 1;
    if (*at == '-')
        fail_promise("the server said %.*s", (int)value->text.size + 1, at);
    if (*at == '+') {
        value->kind = REDIS_STATUS;
        return PART_WHOLE;
    }
    const char *digit = at + 1;
    bool negative = *digit == '-';
    for (digit += negative; digit < line_end - 1; digit++) {
        if (*digit < '0' || *digit > '9' || value->number > INT64_MAX / 10 - 9)
            fail_garbage(at, walk->end);
        value->number = value->number * 10 + (*digit - '0');
    }
    if (*at == ':') {
        value->kind = REDIS_NUMBER;
        value->number = negative ? -value->number : value->number;
        return PART_WHOLE;
    }
    if (*at != '$' && *at != '*')
        fail_garbage(at, walk->end);
    if (negative) {
        value->kind = REDIS_NOTHING;
        return PART_WHOLE;
    }
    value->kind = *at == '*' ? REDIS_ARRAY : REDIS_BULK;
    if (value->kind == REDIS_ARRAY)
        return PART_WHOLE;
    if (walk->end - walk->at < value->number + 2)
        return PART_MISSING;
    value->text = (struct text){walk->at, (size_t)value->number};
    walk->at += value->number + 2;
    if (walk->at[-2] != '\r' || walk->at[-1] != '\n')
        fail_garbage(at, walk->end);
    return PART_WHOLE;
}

bool redis_reply(struct connection *connection, struct redis_walk *reply) {
    struct text input = connection_input(connection);
    struct redis_walk walk = {input.start, input.start + input.size};
    int64_t missing = 1; /* values until the reply is whole */
    while (missing > 0) {
        struct redis_value value;
        if (walk.at == walk.end || read_value(&walk, &value) == PART_MISSING)
            return false;
        missing += (value.kind == REDIS_ARRAY ? value.number : 0) - 1;
    }
    *reply = (struct redis_walk){input.start, walk.at};
    connection_take(connection, (size_t)(walk.at - input.start));
    return true;
}

static struct redis_value next_value(struct redis_walk *walk, const char *what) {
    struct redis_value value;
    if (walk->at == walk->end || read_value(walk, &value) == PART_MISSING)
        fail_promise("a reply ends where %s should be", what);
    return value;
}

struct redis_value redis_next(struct redis_walk *walk, enum redis_kind kind, const char *what) {
    const char *start = walk->at;
    struct redis_value value = next_value(walk, what);
    if (value.kind != kind)
        fail_promise("a reply has something else where %s should be: %.*s", what, (int)(walk->at - start), start);
    return value;
}

struct redis_value redis_next_array_or_nothing(struct redis_walk *walk, const char *what) {
    const char *start = walk->at;
    struct redis_value value = next_value(walk, what);
    if (value.kind != REDIS_ARRAY && value.kind != REDIS_NOTHING)
        fail_promise("a reply has something else where %s should be: %.*s", what, (int)(walk->at - start), start);
    return value;
}

struct redis_walk redis_await(struct connection *connection) {
    struct redis_walk reply;
    connection_drain(connection);
    while (!redis_reply(connection, &reply))
        connection_await(connection);
    return reply;
}

void redis_settle(struct connection *connection) {
    redis_command(connection, (const char *const[]){"PING", NULL});
    struct redis_walk reply = redis_await(connection);
    struct redis_value value = next_value(&reply, "PONG");
    if (value.kind != REDIS_STATUS || value.text.size != 4 || memcmp(value.text.start, "PONG", 4) != 0)
        fail_promise("a connection got a reply it was not waiting for: %.*s", (int)value.text.size, value.text.start);
}

uint64_t redis_id_number(struct text id) {
    char copy[64];
    unsigned long long milliseconds, sequence;
    char rest;
    size_t size = id.size < sizeof copy - 1 ? id.size : sizeof copy - 1;
    memcpy(copy, id.start, size);
    copy[size] = '\0';
    if (sscanf(copy, "%llu-%llu%c", &milliseconds, &sequence, &rest) != 2 || sequence >> SEQUENCE_BITS != 0)
        fail_promise("no id of a stream's entry: %s", copy);
    return (uint64_t)milliseconds << SEQUENCE_BITS | sequence;
}
