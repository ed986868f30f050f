#define _GNU_SOURCE
#include "amqp.h"

#include <stdio.h>
#include <string.h>

#include "outcome.h"

#define FRAME_METHOD 1
#define FRAME_HEADER 2
#define FRAME_BODY 3
#define FRAME_HEARTBEAT 8
#define FRAME_END 0xCE
#define FRAME_HEAD 7 /* bytes before a frame's payload; one follows it */
#define CHANNEL 1

#define CLASS_CONNECTION 10
#define CLASS_CHANNEL 20
#define CLASS_QUEUE 50
#define CLASS_BASIC 60
#define CLASS_CONFIRM 85

#define DURABLE 0x02
#define PASSIVE 0x01
#define NO_ACK 0x02
#define NO_WAIT 0x08
#define DELIVERY_MODE_FLAG 0x1000
#define PERSISTENT 2

/* What a method says, as it is put together. */
struct writer {
    char bytes[1024];
    size_t size;
};

static void put_number(struct writer *writer, uint64_t value, unsigned bytes) {
    if (writer->size + bytes > sizeof writer->bytes)
        fail_usage("a name is too long for AMQP");
    for (unsigned place = bytes; place > 0; place--)
        writer->bytes[writer->size++] = (char)(value >> (8 * (place - 1)));
}

static void put_bytes(struct writer *writer, const char *bytes, size_t size) {
    if (size > sizeof writer->bytes || writer->size + size > sizeof writer->bytes)
        fail_usage("a name is too long for AMQP");
    memcpy(writer->bytes + writer->size, bytes, size);
    writer->size += size;
}

static void put_short_string(struct writer *writer, const char *text) {
    size_t size = strlen(text);
    if (size > 255)
        fail_usage("%s is too long for AMQP", text);
    put_number(writer, size, 1);
    put_bytes(writer, text, size);
}

static struct writer method(uint16_t class_id, uint16_t method_id) {
    struct writer writer = {.size = 0};
    put_number(&writer, class_id, 2);
    put_number(&writer, method_id, 2);
    return writer;
}

static char *store_number(char *at, uint64_t value, unsigned bytes) {
    for (unsigned place = bytes; place > 0; place--)
        *at++ = (char)(value >> (8 * (place - 1)));
    return at;
}

/* Writes a frame's head, and its end behind `size` bytes; returns where those go. */
static char *frame_around(char *at, uint8_t type, uint16_t channel, uint32_t size) {
    at = store_number(at, type, 1);
    at = store_number(at, channel, 2);
    at = store_number(at, size, 4);
    at[size] = (char)FRAME_END;
    return at;
}

static void send_method(struct connection *connection, uint16_t channel, const struct writer *writer) {
    size_t size = FRAME_HEAD + writer->size + 1;
    char *at = connection_room(connection, size);
    if (at == NULL)
        fail_usage("no room to send %zu bytes", size);
    memcpy(frame_around(at, FRAME_METHOD, channel, (uint32_t)writer->size), writer->bytes, writer->size);
    connection_wrote(connection, size);
}

static uint64_t number_at(const char *at, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned place = 0; place < bytes; place++)
        value = value << 8 | (unsigned char)at[place];
    return value;
}

/* Reads what a method says, one value after the other. */
struct reader {
    const char *at;
    const char *end;
};

static uint64_t take_number(struct reader *reader, unsigned bytes) {
    if (reader->end - reader->at < (ptrdiff_t)bytes)
        fail_promise("an AMQP method is shorter than what it should say");
    uint64_t value = number_at(reader->at, bytes);
    reader->at += bytes;
    return value;
}

static struct text take_short_string(struct reader *reader) {
    size_t size = (size_t)take_number(reader, 1);
    if ((size_t)(reader->end - reader->at) < size)
        fail_promise("an AMQP method is shorter than what it should say");
    struct text text = {reader->at, size};
    reader->at += size;
    return text;
}

/* A short string that is a number. */
static uint32_t take_decimal(struct reader *reader) {
    struct text text = take_short_string(reader);
    uint32_t number = 0;
    for (size_t place = 0; place < text.size; place++) {
        if (text.start[place] < '0' || text.start[place] > '9' || place > 8)
            fail_promise("a delivery is for a consumer that there is not: %.*s", (int)text.size, text.start);
        number = number * 10 + (uint32_t)(text.start[place] - '0');
    }
    return number;
}

struct raw_frame {
    uint8_t type;
    struct text payload;
    size_t size;
};

/* Finds the frame at the beginning of the text. False when its end has not arrived. */
static bool find_frame(struct text input, struct raw_frame *frame) {
    if (input.size < FRAME_HEAD)
        return false;
    size_t size = (size_t)number_at(input.start + 3, 4);
    frame->type = (uint8_t)input.start[0];
    if ((frame->type > FRAME_BODY && frame->type != FRAME_HEARTBEAT) || frame->type == 0 || size > AMQP_FRAME_MAX)
        fail_promise("not AMQP: %.*s", (int)(input.size < 40 ? input.size : 40), input.start);
    if (input.size < FRAME_HEAD + size + 1)
        return false;
    if ((unsigned char)input.start[FRAME_HEAD + size] != FRAME_END)
        fail_promise("an AMQP frame of %zu bytes does not end where it should", size);
    frame->payload = (struct text){input.start + FRAME_HEAD, size};
    frame->size = FRAME_HEAD + size + 1;
    return true;
}

/* The content of a delivery: a header and, since our messages are smaller than a frame, one body. False when not all of
 * it has arrived; then `input` may have moved, and is of no use. */
static bool find_content(struct text *input, struct text *payload) {
    struct raw_frame header, body;
    if (!find_frame(*input, &header))
        return false;
    if (header.type != FRAME_HEADER || header.payload.size < 12)
        fail_promise("a delivery is not followed by its header");
    uint64_t size = number_at(header.payload.start + 4, 8);
    *input = (struct text){input->start + header.size, input->size - header.size};
    *payload = (struct text){input->start, 0};
    if (size == 0)
        return true;
    if (!find_frame(*input, &body))
        return false;
    if (body.type != FRAME_BODY || body.payload.size != size)
        fail_promise("a delivery of %llu bytes is followed by %zu", (unsigned long long)size, body.payload.size);
    *payload = body.payload;
    *input = (struct text){input->start + body.size, input->size - body.size};
    return true;
}

static noreturn void fail_closed(struct reader *reader) {
    uint64_t code = take_number(reader, 2);
    struct text text = take_short_string(reader);
    fail_promise("the broker said %llu %.*s", (unsigned long long)code, (int)text.size, text.start);
}

/* Tells what a method is. */
static void read_method(struct amqp_frame *frame, struct text payload) {
    struct reader reader = {payload.start, payload.start + payload.size};
    *frame = (struct amqp_frame){.event = AMQP_OTHER};
    frame->class_id = (uint16_t)take_number(&reader, 2);
    frame->method_id = (uint16_t)take_number(&reader, 2);
    if ((frame->class_id == CLASS_CONNECTION && frame->method_id == 50) ||
        (frame->class_id == CLASS_CHANNEL && frame->method_id == 40))
        fail_closed(&reader);
    if (frame->class_id == CLASS_BASIC && frame->method_id == 60) {
        frame->event = AMQP_DELIVERY;
        frame->consumer = take_decimal(&reader);
        frame->tag = take_number(&reader, 8);
        frame->redelivered = take_number(&reader, 1) & 1;
    } else if (frame->class_id == CLASS_BASIC && (frame->method_id == 80 || frame->method_id == 120)) {
        frame->event = AMQP_CONFIRM;
        frame->tag = take_number(&reader, 8);
        frame->multiple = take_number(&reader, 1) & 1;
        if (frame->method_id == 120)
            fail_promise("the broker refused message %llu", (unsigned long long)frame->tag);
    }
    frame->arguments = (struct text){reader.at, (size_t)(reader.end - reader.at)};
}

bool amqp_next(struct connection *connection, struct amqp_frame *frame) {
    for (;;) {
        struct text input = connection_input(connection);
        const char *start = input.start;
        struct raw_frame raw;
        if (!find_frame(input, &raw))
            return false;
        if (raw.type == FRAME_HEARTBEAT) {
            connection_take(connection, raw.size);
            continue;
        }
        if (raw.type != FRAME_METHOD)
            fail_promise("content came that belongs to no delivery");
        input = (struct text){input.start + raw.size, input.size - raw.size};
        read_method(frame, raw.payload);
        if (frame->event == AMQP_DELIVERY && !find_content(&input, &frame->payload))
            return false;
        connection_take(connection, (size_t)(input.start - start));
        return true;
    }
}

/* Waits for a method, which must be this one. */
static struct reader expect(struct connection *connection, uint16_t class_id, uint16_t method_id, const char *what) {
    struct amqp_frame frame;
    while (!amqp_next(connection, &frame))
        connection_await(connection);
    if (frame.class_id != class_id || frame.method_id != method_id)
        fail_promise("AMQP method %u.%u came in place of %s", frame.class_id, frame.method_id, what);
    return (struct reader){frame.arguments.start, frame.arguments.start + frame.arguments.size};
}

void amqp_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity) {
    connection_open(connection, port, input_capacity + AMQP_FRAME_MAX, output_capacity);
    connection_append(connection, "AMQP\0\0\11\1", 8);
    expect(connection, CLASS_CONNECTION, 10, "connection.start");
    struct writer start_ok = method(CLASS_CONNECTION, 11);
    put_number(&start_ok, 0, 4); /* an empty table: what the client is */
    put_short_string(&start_ok, "PLAIN");
    put_number(&start_ok, 12, 4);
    put_bytes(&start_ok, "\0guest\0guest", 12);
    put_short_string(&start_ok, "en_US");
    send_method(connection, 0, &start_ok);
    struct reader tune = expect(connection, CLASS_CONNECTION, 30, "connection.tune");
    uint64_t channel_max = take_number(&tune, 2);
    uint64_t frame_max = take_number(&tune, 4);
    struct writer tune_ok = method(CLASS_CONNECTION, 31);
    put_number(&tune_ok, channel_max, 2);
    put_number(&tune_ok, frame_max == 0 || frame_max > AMQP_FRAME_MAX ? AMQP_FRAME_MAX : frame_max, 4);
    put_number(&tune_ok, 0, 2); /* no heartbeats */
    send_method(connection, 0, &tune_ok);
    struct writer open = method(CLASS_CONNECTION, 40);
    put_short_string(&open, "/");
    put_number(&open, 0, 2);
    send_method(connection, 0, &open);
    expect(connection, CLASS_CONNECTION, 41, "connection.open-ok");
    struct writer channel = method(CLASS_CHANNEL, 10);
    put_number(&channel, 0, 1);
    send_method(connection, CHANNEL, &channel);
    expect(connection, CLASS_CHANNEL, 11, "channel.open-ok");
}

void amqp_close(struct connection *connection) {
    struct writer close = method(CLASS_CONNECTION, 50);
    put_number(&close, 200, 2);
    put_short_string(&close, "done");
    put_number(&close, 0, 4);
    send_method(connection, 0, &close);
    expect(connection, CLASS_CONNECTION, 51, "connection.close-ok");
    connection_close(connection);
}

static uint32_t declare(struct connection *connection, const char *queue, uint8_t flags, const char *type) {
    struct writer declare = method(CLASS_QUEUE, 10);
    put_number(&declare, 0, 2);
    put_short_string(&declare, queue);
    put_number(&declare, flags, 1);
    if (type == NULL) {
        put_number(&declare, 0, 4);
    } else {
        put_number(&declare, 1 + strlen("x-queue-type") + 1 + 4 + strlen(type), 4);
        put_short_string(&declare, "x-queue-type");
        put_number(&declare, 'S', 1);
        put_number(&declare, strlen(type), 4);
        put_bytes(&declare, type, strlen(type));
    }
    send_method(connection, CHANNEL, &declare);
    struct reader declared = expect(connection, CLASS_QUEUE, 11, "queue.declare-ok");
    take_short_string(&declared);
    return (uint32_t)take_number(&declared, 4);
}

void amqp_declare(struct connection *connection, const char *queue, const char *type) {
    declare(connection, queue, DURABLE, type);
}

uint32_t amqp_count(struct connection *connection, const char *queue) {
    return declare(connection, queue, PASSIVE, NULL);
}

void amqp_confirm(struct connection *connection) {
    struct writer select = method(CLASS_CONFIRM, 10);
    put_number(&select, 0, 1);
    send_method(connection, CHANNEL, &select);
    expect(connection, CLASS_CONFIRM, 11, "confirm.select-ok");
}

void amqp_prefetch(struct connection *connection, uint16_t count) {
    struct writer qos = method(CLASS_BASIC, 10);
    put_number(&qos, 0, 4);
    put_number(&qos, count, 2);
    put_number(&qos, 0, 1);
    send_method(connection, CHANNEL, &qos);
    expect(connection, CLASS_BASIC, 11, "basic.qos-ok");
}

void amqp_consume(struct connection *connection, const char *queue, uint32_t consumer, bool acks) {
    char tag[16];
    snprintf(tag, sizeof tag, "%u", consumer);
    struct writer consume = method(CLASS_BASIC, 20);
    put_number(&consume, 0, 2);
    put_short_string(&consume, queue);
    put_short_string(&consume, tag);
    put_number(&consume, NO_WAIT | (acks ? 0 : NO_ACK), 1);
    put_number(&consume, 0, 4);
    send_method(connection, CHANNEL, &consume);
}

char *amqp_publish(struct connection *connection, const char *queue, uint32_t size) {
    size_t name = strlen(queue);
    if (size > AMQP_FRAME_MAX - FRAME_HEAD - 1)
        fail_usage("a payload of %u bytes does not fit into one AMQP frame", size);
    uint32_t publish = (uint32_t)(2 + 2 + 2 + 1 + 1 + name + 1);
    uint32_t header = 2 + 2 + 8 + 2 + 1;
    size_t total = 3 * (FRAME_HEAD + 1) + publish + header + size;
    char *at = connection_room(connection, total);
    if (at == NULL || name > 255)
        fail_usage("no room for a message of %zu bytes", total);
    at = frame_around(at, FRAME_METHOD, CHANNEL, publish);
    at = store_number(at, (uint64_t)CLASS_BASIC << 48 | (uint64_t)40 << 32, 8) - 1; /* … no ticket, no exchange */
    at = store_number(at, name, 1);
    memcpy(at, queue, name);
    at = store_number(at + name, 0, 1) + 1;
    at = frame_around(at, FRAME_HEADER, CHANNEL, header);
    at = store_number(at, (uint64_t)CLASS_BASIC << 16, 4);
    at = store_number(at, size, 8);
    at = store_number(at, DELIVERY_MODE_FLAG, 2);
    at = store_number(at, PERSISTENT, 1) + 1;
    at = frame_around(at, FRAME_BODY, CHANNEL, size);
    connection_wrote(connection, total);
    return at;
}

void amqp_ack(struct connection *connection, uint64_t tag) {
    struct writer ack = method(CLASS_BASIC, 80);
    put_number(&ack, tag, 8);
    put_number(&ack, 1, 1);
    send_method(connection, CHANNEL, &ack);
}
