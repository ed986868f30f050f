/* XREAD from each stream's beginning, again and again, until it has no more. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outcome.h"
#include "receiving.h"
#include "redis.h"

#define INPUT_CAPACITY (4 * 1024 * 1024)
#define OUTPUT_CAPACITY (64 * 1024)
#define ENTRIES_AT_ONCE_MAX 1000
#define ENTRY_SIZE_MAX 100 /* without its payload */
#define ID_SIZE_MAX 48

struct speech {
    char (*last_ids)[ID_SIZE_MAX]; /* of each subject, the entry that was read last */
    bool asked;                    /* an XREAD is not answered */
    struct redis_walk reply;       /* what is left of the one that is being read */
    int64_t streams_left;          /* in it */
    int64_t entries_left;          /* of the stream that is being read */
    uint32_t subject;              /* that this one is */
};

static void open_receiver(struct receiver *receiver) {
    const struct options *options = receiver->options;
    struct speech *speech = receiver->speech = allocate_zeroed(1, sizeof *speech);
    speech->last_ids = allocate_zeroed(options->subject_count, sizeof *speech->last_ids);
    for (uint32_t subject = 0; subject < options->subject_count; subject++)
        strcpy(speech->last_ids[subject], "0");
    redis_open(&receiver->connection, options->port, INPUT_CAPACITY, OUTPUT_CAPACITY);
}

/* How many entries of each stream make a reply that has room. */
static uint32_t entries_at_once(const struct options *options) {
    uint32_t most = INPUT_CAPACITY / 4 / (options->size + ENTRY_SIZE_MAX);
    uint32_t of_each = (most < ENTRIES_AT_ONCE_MAX ? most : ENTRIES_AT_ONCE_MAX) / options->subject_count;
    return of_each > 0 ? of_each : 1;
}

static void read_on(struct receiver *receiver) {
    const struct options *options = receiver->options;
    struct speech *speech = receiver->speech;
    struct connection *connection = &receiver->connection;
    speech->asked = true;
    char count[16];
    int digits = snprintf(count, sizeof count, "%u", entries_at_once(options));
    connection_print(connection, "*%u\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$%d\r\n%s\r\n$7\r\nSTREAMS\r\n",
                     4 + 2 * options->subject_count, digits, count);
    for (uint32_t subject = 0; subject < options->subject_count; subject++)
        connection_print(connection, "$%zu\r\n%s\r\n", strlen(options->subjects[subject]), options->subjects[subject]);
    for (uint32_t subject = 0; subject < options->subject_count; subject++)
        connection_print(connection, "$%zu\r\n%s\r\n", strlen(speech->last_ids[subject]), speech->last_ids[subject]);
}

static void subscribe(struct receiver *receiver, bool settle) {
    if (settle || receiver->options->share)
        fail_usage("streams of Redis are only read back, and whole");
    read_on(receiver);
    connection_drain(&receiver->connection);
}

static uint32_t subject_named(const struct receiver *receiver, struct text name) {
    const struct options *options = receiver->options;
    for (uint32_t subject = 0; subject < options->subject_count; subject++)
        if (strlen(options->subjects[subject]) == name.size &&
            memcmp(options->subjects[subject], name.start, name.size) == 0)
            return subject;
    fail_promise("receiver %u got entries of a stream it did not ask for: %.*s", receiver->number, (int)name.size,
                 name.start);
}

/* An entry: its id, and an array of one field and its value. */
static struct text next_payload(struct speech *speech) {
    struct redis_value entry = redis_next(&speech->reply, REDIS_ARRAY, "an entry");
    struct redis_value id = redis_next(&speech->reply, REDIS_BULK, "an entry's id");
    struct redis_value fields = redis_next(&speech->reply, REDIS_ARRAY, "an entry's fields");
    if (entry.number != 2 || fields.number != 2 || id.text.size >= ID_SIZE_MAX)
        fail_promise("an entry has %lld fields where there should be one", (long long)fields.number / 2);
    memcpy(speech->last_ids[speech->subject], id.text.start, id.text.size);
    speech->last_ids[speech->subject][id.text.size] = '\0';
    redis_next(&speech->reply, REDIS_BULK, "a field's name");
    return redis_next(&speech->reply, REDIS_BULK, "a field's value").text;
}

/* Begins with the next reply. False when it has not arrived, or says that there is no more. */
static bool next_reply(struct receiver *receiver) {
    struct speech *speech = receiver->speech;
    if (receiver->settled || !redis_reply(&receiver->connection, &speech->reply))
        return false;
    struct redis_value streams = redis_next_array_or_nothing(&speech->reply, "the streams that were read");
    if (streams.kind == REDIS_NOTHING && receiver->received < receiver->expected)
        fail_promise("receiver %u got %llu of %llu messages, then there were no more", receiver->number,
                     (unsigned long long)receiver->received, (unsigned long long)receiver->expected);
    receiver->settled = streams.kind == REDIS_NOTHING;
    speech->streams_left = streams.number;
    speech->asked = false;
    return !receiver->settled;
}

static void next_stream(struct receiver *receiver) {
    struct speech *speech = receiver->speech;
    speech->streams_left--;
    redis_next(&speech->reply, REDIS_ARRAY, "a stream");
    speech->subject = subject_named(receiver, redis_next(&speech->reply, REDIS_BULK, "a stream's name").text);
    speech->entries_left = redis_next(&speech->reply, REDIS_ARRAY, "a stream's entries").number;
    if (speech->entries_left == 0)
        fail_promise("receiver %u got a stream without entries", receiver->number);
}

static bool next(struct receiver *receiver, struct delivery *delivery) {
    struct speech *speech = receiver->speech;
    while (speech->entries_left == 0) {
        if (speech->streams_left > 0)
            next_stream(receiver);
        else if (!speech->asked && !receiver->settled)
            read_on(receiver);
        else if (!next_reply(receiver))
            return false;
    }
    *delivery = (struct delivery){next_payload(speech), speech->subject};
    speech->entries_left--;
    return true;
}

/* What shows that there is no more is the reply to the XREAD that follows each one. */
static void finish(struct receiver *receiver) {
    (void)receiver;
}

static void close_receiver(struct receiver *receiver) {
    struct speech *speech = receiver->speech;
    connection_close(&receiver->connection);
    free(speech->last_ids);
    free(speech);
}

const struct receiving receiving_redis = {open_receiver, subscribe, next, finish, close_receiver};
