/* Every request has a reply subject of its own, below one subscription of its connection, as the clients people use do
 * it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nats.h"
#include "outcome.h"
#include "replies.h"
#include "sending.h"

#define INPUT_CAPACITY (256 * 1024)
#define SUBJECT_SIZE_MAX 512

struct speech {
    struct inbox inbox;
    struct reply_key id_key;
    char tail[32]; /* of a request's line, behind the reply subject, and its end */
    size_t tail_size;
};

static void open_sender(struct sender *sender) {
    const struct options *options = sender->options;
    struct speech *speech = sender->speech = allocate_zeroed(1, sizeof *speech);
    speech->id_key = reply_key(options->id_key);
    size_t frame_size = SUBJECT_SIZE_MAX + sizeof speech->inbox + sizeof speech->tail + options->size;
    speech->tail_size = (size_t)snprintf(speech->tail, sizeof speech->tail, " %u\r\n", options->size);
    nats_open(&sender->connection, options->port, INPUT_CAPACITY, 8192 + (options->in_flight + 1) * frame_size);
    inbox_open(&speech->inbox, &sender->connection, sender->number);
}

static char *append(char *at, const char *bytes, size_t size) {
    memcpy(at, bytes, size);
    return at + size;
}

static char *write_request(struct sender *sender, const char *subject) {
    const struct speech *speech = sender->speech;
    size_t subject_size = strlen(subject);
    uint32_t payload_size = sender->options->size;
    size_t size = 4 + subject_size + 1 + speech->inbox.size + TOKEN_DIGITS + speech->tail_size + payload_size + 2;
    char *at = connection_room(&sender->connection, size);
    if (at == NULL || subject_size > SUBJECT_SIZE_MAX)
        fail_usage("a subject of %zu bytes is too long", subject_size);
    at = append(at, "PUB ", 4);
    at = append(at, subject, subject_size);
    *at++ = ' ';
    at = append(at, speech->inbox.subject, speech->inbox.size);
    write_token(at, sender->sent);
    at = append(at + TOKEN_DIGITS, speech->tail, speech->tail_size);
    memcpy(at + payload_size, "\r\n", 2);
    connection_wrote(&sender->connection, size);
    return at;
}

/* The reply must be the one to the oldest unanswered request: mailboxes and streams answer a connection in order. */
static bool next(struct sender *sender, struct answer *answer) {
    const struct speech *speech = sender->speech;
    struct frame frame;
    while (nats_next(&sender->connection, &frame)) {
        if (frame.kind != FRAME_MESSAGE)
            continue;
        inbox_check_turn(&speech->inbox, &frame, sender->number, sender->oldest, sender->oldest < sender->sent);
        *answer = (struct answer){sender->oldest, sender->oldest, true, reply_number(&frame, &speech->id_key)};
        return true;
    }
    return false;
}

static void close_sender(struct sender *sender) {
    nats_settle(&sender->connection);
    connection_close(&sender->connection);
    free(sender->speech);
}

const struct sending sending_nats = {open_sender, write_request, next, close_sender};
