/* A pull consumer with explicit acks. Each message is acked by itself; the last ack of a batch asks for a confirmation,
 * which covers those before it since a consumer takes the acks of one connection in their order. The subject is that of
 * the pull request. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nats.h"
#include "outcome.h"
#include "replies.h"
#include "working.h"

#define INPUT_CAPACITY (512 * 1024)
#define OUTPUT_CAPACITY (512 * 1024)
#define ACK_SUBJECT_MAX 512
#define EXPIRES_NS 5000000000LL
#define STATUS_NO_MESSAGES 404
#define STATUS_TIMEOUT 408
#define STATUS_CONFLICT 409

struct speech {
    struct inbox inbox;
    struct confirms confirms;
    char held[ACK_SUBJECT_MAX]; /* the latest message's ack subject, not acked yet; empty: all are */
    uint64_t unconfirmed;       /* messages that no asked-for confirmation covers, the held one included */
    uint32_t batch_left;        /* messages until the pull request is used up */
    bool holds_back;            /* the next one is sent when an ack has been confirmed */
};

static void open_worker(struct worker *worker) {
    struct speech *speech = worker->speech = allocate_zeroed(1, sizeof *speech);
    nats_open(&worker->connection, worker->options->port, INPUT_CAPACITY, OUTPUT_CAPACITY);
    inbox_open(&speech->inbox, &worker->connection, worker->number);
}

static void ask(struct worker *worker) {
    struct speech *speech = worker->speech;
    char body[100];
    int size = snprintf(body, sizeof body, "{\"batch\":%u,\"expires\":%lld}", worker->options->batch, EXPIRES_NS);
    speech->batch_left = worker->options->batch;
    connection_print(&worker->connection, "PUB %s %spull %d\r\n%s\r\n", worker->options->subjects[0],
                     speech->inbox.subject, size, body);
}

static void ack_held(struct worker *worker, bool confirmed) {
    struct speech *speech = worker->speech;
    char token[TOKEN_DIGITS + 1] = {0};
    if (speech->held[0] == '\0')
        return;
    if (confirmed) {
        write_token(token, confirms_ask(&speech->confirms, speech->unconfirmed));
        connection_print(&worker->connection, "PUB %s %s%s 4\r\n+ACK\r\n", speech->held, speech->inbox.subject, token);
        speech->unconfirmed = 0;
    } else {
        connection_print(&worker->connection, "PUB %s 4\r\n+ACK\r\n", speech->held);
    }
    speech->held[0] = '\0';
}

static void take_delivery(struct worker *worker, struct text ack_subject) {
    struct speech *speech = worker->speech;
    if (speech->batch_left == 0)
        fail_promise("worker %u got more messages than it asked for", worker->number);
    if (ack_subject.size >= sizeof speech->held)
        fail_promise("an ack subject of %zu bytes came", ack_subject.size);
    ack_held(worker, false);
    memcpy(speech->held, ack_subject.start, ack_subject.size);
    speech->held[ack_subject.size] = '\0';
    speech->unconfirmed++;
    speech->batch_left--;
}

/* The pull request is used up or has ended: what came is confirmed, and more is asked for. */
static void end_batch(struct worker *worker) {
    struct speech *speech = worker->speech;
    ack_held(worker, true);
    speech->batch_left = 0;
    speech->holds_back = confirms_are_full(&speech->confirms);
    if (!worker->finishing && !speech->holds_back)
        ask(worker);
}

static void take_reply(struct worker *worker, const struct frame *frame) {
    struct speech *speech = worker->speech;
    struct text subject = frame_token(frame, 1);
    char token[TOKEN_DIGITS + 1] = {0};
    int status = frame_header_status(frame);
    if (status == STATUS_NO_MESSAGES || status == STATUS_TIMEOUT || status == STATUS_CONFLICT) {
        end_batch(worker);
        return;
    }
    if (status != 0 || subject.size != speech->inbox.size + TOKEN_DIGITS || frame->payload.size != 0)
        fail_promise("worker %u got something else than messages: %.*s %.*s%.*s", worker->number, (int)frame->line.size,
                     frame->line.start, (int)frame->header.size, frame->header.start, (int)frame->payload.size,
                     frame->payload.start);
    memcpy(token, subject.start + speech->inbox.size, TOKEN_DIGITS);
    confirms_take(&speech->confirms, worker, strtoull(token, NULL, 16));
    if (speech->holds_back && !worker->finishing && !confirms_are_full(&speech->confirms)) {
        speech->holds_back = false;
        ask(worker);
    }
}

static bool next(struct worker *worker, struct text *payload) {
    struct speech *speech = worker->speech;
    struct frame frame;
    if (speech->batch_left == 0 && speech->held[0] != '\0')
        end_batch(worker);
    while (nats_next(&worker->connection, &frame)) {
        if (frame.kind != FRAME_MESSAGE || nats_is_flow_control(&frame))
            continue;
        struct text reply = frame_reply_subject(&frame);
        if (reply.size < 8 || memcmp(reply.start, "$JS.ACK.", 8) != 0) {
            take_reply(worker, &frame);
            continue;
        }
        take_delivery(worker, reply);
        *payload = frame.payload;
        return true;
    }
    return false;
}

static void finish(struct worker *worker) {
    ack_held(worker, true);
}

static void close_worker(struct worker *worker) {
    nats_settle(&worker->connection);
    connection_close(&worker->connection);
    free(worker->speech);
}

const struct working working_jetstream = {open_worker, ask, next, finish, close_worker};
