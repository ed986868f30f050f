/* FETCH and ACK. An ACK names every message of the batch, and the next FETCH goes with it; both are answered. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nats.h"
#include "outcome.h"
#include "replies.h"
#include "working.h"

#define INPUT_CAPACITY (2 * 1024 * 1024)
#define OUTPUT_CAPACITY (256 * 1024)
#define BATCH_MAX 1000
#define ID_DIGITS_MAX 21 /* with the comma */
#define GROUP "workers"
#define WAIT_MS 1000
#define LEASE_MS 30000

struct speech {
    struct inbox inbox;
    char fetch[300]; /* the lines of a request up to its number */
    char ack[300];
    char fetch_body[200];
    uint64_t fetches; /* sent */
    bool fetching;    /* one is not answered */
    bool holds_back;  /* the next one is sent when an ACK has been answered */
    struct confirms confirms;
    const char *at; /* where the reply that is being read goes on; NULL between two */
    const char *end;
    struct text ids[BATCH_MAX];
    uint32_t id_count;
    char *payload; /* the latest, decoded */
};

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Decodes base64 to `destination`, which has room for 3/4 of its size; returns the size, or ends the process. */
static size_t decode(struct text source, char *destination) {
    static unsigned char values[256];
    static bool prepared;
    if (!prepared) {
        memset(values, 64, sizeof values);
        for (unsigned value = 0; value < 64; value++)
            values[(unsigned char)digits[value]] = (unsigned char)value;
        prepared = true;
    }
    const unsigned char *at = (const unsigned char *)source.start;
    size_t size = source.size;
    char *to = destination;
    unsigned wrong = size % 4 == 0 ? 0 : 64;
    while (size > 0 && at[size - 1] == '=')
        size--;
    for (; size >= 4; at += 4, size -= 4, to += 3) {
        unsigned a = values[at[0]], b = values[at[1]], c = values[at[2]], d = values[at[3]];
        wrong |= a | b | c | d;
        to[0] = (char)(a << 2 | b >> 4);
        to[1] = (char)(b << 4 | c >> 2);
        to[2] = (char)(c << 6 | d);
    }
    for (size_t place = 0; place < size; place++)
        wrong |= values[at[place]];
    if (size >= 2)
        *to++ = (char)(values[at[0]] << 2 | values[at[1]] >> 4);
    if (size == 3)
        *to++ = (char)(values[at[1]] << 4 | values[at[2]] >> 2);
    if (wrong & 64 || size == 1)
        fail_promise("a payload is not base64: %.*s", (int)source.size, source.start);
    return (size_t)(to - destination);
}

static void open_worker(struct worker *worker) {
    const struct options *options = worker->options;
    struct speech *speech = worker->speech = allocate_zeroed(1, sizeof *speech);
    const char *mail_id = options->subjects[0];
    if (options->batch > BATCH_MAX || strlen(mail_id) > 128)
        fail_usage("a batch has at most %d messages, and a mail_id 128 bytes", BATCH_MAX);
    nats_open(&worker->connection, options->port, INPUT_CAPACITY, OUTPUT_CAPACITY);
    inbox_open(&speech->inbox, &worker->connection, worker->number);
    snprintf(speech->fetch, sizeof speech->fetch, "PUB $mq9.AI.MSG.FETCH.%s %s", mail_id, speech->inbox.subject);
    snprintf(speech->ack, sizeof speech->ack, "PUB $mq9.AI.MSG.ACK.%s %s", mail_id, speech->inbox.subject);
    snprintf(speech->fetch_body, sizeof speech->fetch_body,
             "{\"group_name\":\"" GROUP "\",\"config\":{\"num_msgs\":%u,\"max_wait_ms\":%d},\"lease_ms\":%d}",
             options->batch, WAIT_MS, LEASE_MS);
    speech->payload = allocate(options->size + 64U);
}

/* Even numbers are those of FETCHes, odd ones those of ACKs. */
static void request(struct worker *worker, const char *head, uint64_t number, const char *body) {
    char token[TOKEN_DIGITS + 1] = {0};
    write_token(token, number);
    connection_print(&worker->connection, "%s%s %zu\r\n", head, token, strlen(body));
    connection_append(&worker->connection, body, strlen(body));
    connection_append(&worker->connection, "\r\n", 2);
}

static void ask(struct worker *worker) {
    struct speech *speech = worker->speech;
    speech->fetching = true;
    request(worker, speech->fetch, 2 * speech->fetches++, speech->fetch_body);
}

static void ack(struct worker *worker) {
    struct speech *speech = worker->speech;
    char body[64 + BATCH_MAX * ID_DIGITS_MAX];
    char *at = body + sprintf(body, "{\"group_name\":\"" GROUP "\",\"msg_ids\":[");
    for (uint32_t index = 0; index < speech->id_count; index++) {
        memcpy(at, speech->ids[index].start, speech->ids[index].size);
        at += speech->ids[index].size;
        *at++ = ',';
    }
    strcpy(at - 1, "]}");
    request(worker, speech->ack, 2 * confirms_ask(&speech->confirms, speech->id_count) + 1, body);
    speech->id_count = 0;
}

/* The value behind the next `key` in the reply, which must not hold the byte `end`; empty at the reply's end. */
static struct text value_behind(struct speech *speech, const char *key, const char *ends) {
    const char *found = memmem(speech->at, (size_t)(speech->end - speech->at), key, strlen(key));
    if (found == NULL)
        return (struct text){speech->end, 0};
    const char *start = found + strlen(key);
    while (start < speech->end && *start == ' ')
        start++;
    const char *at = start;
    while (at < speech->end && strchr(ends, *at) == NULL)
        at++;
    speech->at = at;
    return (struct text){start, (size_t)(at - start)};
}

/* The next message of the reply; at its end what was in it is acked and more is asked for. */
static bool next_of_reply(struct worker *worker, struct text *payload) {
    struct speech *speech = worker->speech;
    struct text id = value_behind(speech, "\"msg_id\":", ",}");
    if (id.size == 0) {
        speech->at = NULL;
        if (speech->id_count > 0)
            ack(worker);
        speech->holds_back = confirms_are_full(&speech->confirms);
        if (!worker->finishing && !speech->holds_back)
            ask(worker);
        return false;
    }
    if (speech->id_count == worker->options->batch || id.size >= ID_DIGITS_MAX)
        fail_promise("worker %u got more messages at once than it asked for", worker->number);
    speech->ids[speech->id_count++] = id;
    struct text encoded = value_behind(speech, "\"payload\":", ",}");
    if (encoded.size < 2 || encoded.size > (worker->options->size + 2U) / 3 * 4 + 2)
        fail_promise("worker %u got a message of another size than was sent", worker->number);
    *payload =
        (struct text){speech->payload, decode((struct text){encoded.start + 1, encoded.size - 2}, speech->payload)};
    return true;
}

static void take_reply(struct worker *worker, const struct frame *frame) {
    struct speech *speech = worker->speech;
    uint64_t number = inbox_number(&speech->inbox, frame, worker->number);
    if (number % 2 == 1) {
        reply_check(frame);
        confirms_take(&speech->confirms, worker, number / 2);
        if (speech->holds_back && !worker->finishing && !confirms_are_full(&speech->confirms)) {
            speech->holds_back = false;
            ask(worker);
        }
        return;
    }
    inbox_check_turn(&speech->inbox, frame, worker->number, 2 * (speech->fetches - 1), speech->fetching);
    reply_check(frame);
    speech->fetching = false;
    speech->at = frame->payload.start;
    speech->end = frame->payload.start + frame->payload.size;
}

static bool next(struct worker *worker, struct text *payload) {
    struct speech *speech = worker->speech;
    struct frame frame;
    for (;;) {
        if (speech->at != NULL && next_of_reply(worker, payload))
            return true;
        if (!nats_next(&worker->connection, &frame))
            return false;
        if (frame.kind == FRAME_MESSAGE)
            take_reply(worker, &frame);
    }
}

static void finish(struct worker *worker) {
    (void)worker; /* each batch was acked with its last message */
}

/* What a worker still waits for must come, and be empty. */
static void close_worker(struct worker *worker) {
    struct speech *speech = worker->speech;
    struct text payload;
    while (speech->fetching) {
        connection_await(&worker->connection);
        if (next(worker, &payload))
            fail_promise("worker %u got a message after all had been handled", worker->number);
    }
    nats_settle(&worker->connection);
    connection_close(&worker->connection);
    free(speech->payload);
    free(speech);
}

const struct working working_mq9 = {open_worker, ask, next, finish, close_worker};
