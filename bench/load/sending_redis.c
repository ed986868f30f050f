/* XADD to a stream for each subject. Redis answers a connection's commands in their order. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outcome.h"
#include "redis.h"
#include "sending.h"

#define INPUT_CAPACITY (256 * 1024)
#define COMMAND_SIZE_MAX 512 /* without its payload */

struct speech {
    const char *subject; /* that the head is for */
    char head[COMMAND_SIZE_MAX];
    size_t head_size;
};

static void open_sender(struct sender *sender) {
    const struct options *options = sender->options;
    sender->speech = allocate_zeroed(1, sizeof(struct speech));
    redis_open(&sender->connection, options->port, INPUT_CAPACITY,
               8192 + (options->in_flight + 1) * (COMMAND_SIZE_MAX + options->size));
}

static void prepare_head(struct speech *speech, const char *subject, uint32_t payload_size) {
    int size =
        snprintf(speech->head, sizeof speech->head, "*5\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$1\r\np\r\n$%u\r\n",
                 strlen(subject), subject, payload_size);
    if (size >= (int)sizeof speech->head)
        fail_usage("a subject of %zu bytes is too long", strlen(subject));
    speech->subject = subject;
    speech->head_size = (size_t)size;
}

static char *write_command(struct sender *sender, const char *subject) {
    struct speech *speech = sender->speech;
    uint32_t payload_size = sender->options->size;
    if (speech->subject != subject)
        prepare_head(speech, subject, payload_size);
    size_t size = speech->head_size + payload_size + 2;
    char *at = connection_room(&sender->connection, size);
    if (at == NULL)
        fail_usage("the output of a connection is full");
    memcpy(at, speech->head, speech->head_size);
    at += speech->head_size;
    memcpy(at + payload_size, "\r\n", 2);
    connection_wrote(&sender->connection, size);
    return at;
}

static bool next(struct sender *sender, struct answer *answer) {
    struct redis_walk reply;
    if (!redis_reply(&sender->connection, &reply))
        return false;
    struct redis_value id = redis_next(&reply, REDIS_BULK, "an entry's id");
    if (sender->oldest == sender->sent)
        fail_promise("connection %u got a reply it was not waiting for: %.*s", sender->number, (int)id.text.size,
                     id.text.start);
    *answer = (struct answer){sender->oldest, sender->oldest, true, redis_id_number(id.text)};
    return true;
}

static void close_sender(struct sender *sender) {
    redis_settle(&sender->connection);
    connection_close(&sender->connection);
    free(sender->speech);
}

const struct sending sending_redis = {open_sender, write_command, next, close_sender};
