/* XREADGROUP and XACK. An XACK names every entry of the batch, and the next XREADGROUP goes with it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outcome.h"
#include "redis.h"
#include "working.h"

#define INPUT_CAPACITY (4 * 1024 * 1024)
#define OUTPUT_CAPACITY (256 * 1024)
#define BATCH_MAX 1000
#define GROUP "workers"

struct speech {
    struct confirms confirms;
    uint64_t confirmed; /* the number of the next confirmation */
    bool reading;       /* an XREADGROUP is not answered */
    uint64_t acked;     /* messages of the XACK that is not answered; its reply comes before that of the XREADGROUP */
    struct redis_walk reply;
    int64_t entries_left; /* in it */
    struct text ids[BATCH_MAX];
    uint32_t id_count;
};

static void open_worker(struct worker *worker) {
    worker->speech = allocate_zeroed(1, sizeof(struct speech));
    if (worker->options->batch > BATCH_MAX)
        fail_usage("a batch has at most %d messages", BATCH_MAX);
    redis_open(&worker->connection, worker->options->port, INPUT_CAPACITY, OUTPUT_CAPACITY);
}

static void ask(struct worker *worker) {
    struct speech *speech = worker->speech;
    char name[16], count[16];
    snprintf(name, sizeof name, "worker-%u", worker->number);
    snprintf(count, sizeof count, "%u", worker->options->batch);
    redis_command(&worker->connection, (const char *const[]){"XREADGROUP", "GROUP", GROUP, name, "COUNT", count,
                                                             "STREAMS", worker->options->subjects[0], ">", NULL});
    speech->reading = true;
}

static void ack(struct worker *worker) {
    struct speech *speech = worker->speech;
    struct connection *connection = &worker->connection;
    const char *key = worker->options->subjects[0];
    connection_print(connection, "*%u\r\n$4\r\nXACK\r\n$%zu\r\n%s\r\n$%zu\r\n" GROUP "\r\n", 3 + speech->id_count,
                     strlen(key), key, strlen(GROUP));
    for (uint32_t index = 0; index < speech->id_count; index++)
        connection_print(connection, "$%zu\r\n%.*s\r\n", speech->ids[index].size, (int)speech->ids[index].size,
                         speech->ids[index].start);
    confirms_ask(&speech->confirms, speech->id_count);
    speech->acked = speech->id_count;
    speech->id_count = 0;
}

static struct text next_payload(struct speech *speech) {
    struct redis_value entry = redis_next(&speech->reply, REDIS_ARRAY, "an entry");
    struct redis_value id = redis_next(&speech->reply, REDIS_BULK, "an entry's id");
    struct redis_value fields = redis_next(&speech->reply, REDIS_ARRAY, "an entry's fields");
    if (entry.number != 2 || fields.number != 2)
        fail_promise("an entry has %lld fields where there should be one", (long long)fields.number / 2);
    speech->ids[speech->id_count++] = id.text;
    redis_next(&speech->reply, REDIS_BULK, "a field's name");
    return redis_next(&speech->reply, REDIS_BULK, "a field's value").text;
}

static void take_reply(struct worker *worker) {
    struct speech *speech = worker->speech;
    if (speech->acked > 0) {
        int64_t count = redis_next(&speech->reply, REDIS_NUMBER, "how many were acked").number;
        if ((uint64_t)count != speech->acked)
            fail_promise("worker %u acked %llu messages, and %lld were taken note of", worker->number,
                         (unsigned long long)speech->acked, (long long)count);
        speech->acked = 0;
        confirms_take(&speech->confirms, worker, speech->confirmed++);
        return;
    }
    if (!speech->reading)
        fail_promise("worker %u got a reply that it was not waiting for", worker->number);
    speech->reading = false;
    struct redis_value streams = redis_next_array_or_nothing(&speech->reply, "the stream that was read");
    if (streams.kind == REDIS_NOTHING)
        return; /* all has been given out: nothing is added while workers are at it */
    redis_next(&speech->reply, REDIS_ARRAY, "a stream");
    redis_next(&speech->reply, REDIS_BULK, "a stream's name");
    speech->entries_left = redis_next(&speech->reply, REDIS_ARRAY, "a stream's entries").number;
    if (streams.number != 1 || speech->entries_left > worker->options->batch)
        fail_promise("worker %u got more messages at once than it asked for", worker->number);
}

static bool next(struct worker *worker, struct text *payload) {
    struct speech *speech = worker->speech;
    for (;;) {
        if (speech->entries_left > 0) {
            speech->entries_left--;
            *payload = next_payload(speech);
            return true;
        }
        if (speech->id_count > 0) {
            ack(worker);
            if (!worker->finishing)
                ask(worker);
        }
        if (!redis_reply(&worker->connection, &speech->reply))
            return false;
        take_reply(worker);
    }
}

static void finish(struct worker *worker) {
    (void)worker; /* each batch was acked with its last message */
}

/* What a worker still waits for must be empty, and nothing may be left that was given out and not acked. */
static void close_worker(struct worker *worker) {
    struct speech *speech = worker->speech;
    struct text payload;
    while (speech->reading) {
        connection_await(&worker->connection);
        if (next(worker, &payload))
            fail_promise("worker %u got a message after all had been handled", worker->number);
    }
    redis_command(&worker->connection, (const char *const[]){"XPENDING", worker->options->subjects[0], GROUP, NULL});
    struct redis_walk reply = redis_await(&worker->connection);
    redis_next(&reply, REDIS_ARRAY, "what is not acked");
    int64_t pending = redis_next(&reply, REDIS_NUMBER, "how much is not acked").number;
    if (pending != 0)
        fail_promise("%lld messages are not acked", (long long)pending);
    connection_close(&worker->connection);
    free(speech);
}

const struct working working_redis = {open_worker, ask, next, finish, close_worker};
