#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "outcome.h"
#include "payload.h"
#include "working.h"

static const char usage[] =
    "usage: load requests --port N [options] SUBJECT...   have messages stored, count the answered ones\n"
    "       load publish  --port N [options] SUBJECT [S]  one publisher, some subscribers (to S, if given)\n"
    "       load receive  --port N [options] SUBJECT...   receive what was stored before\n"
    "       load work     --port N [options] QUEUE        workers share what was stored before\n"
    "       load ask      --port N [options] SUBJECT...   other requests, each answered with another value\n"
    "       load idle     --port N [options]              connections that do nothing until standard input ends\n"
    "       load sink     [--keep]                        the server that does least, to measure this program with\n"
    "\n"
    "  --dialect WORD    mq9, jetstream, redis or amqp (mq9)\n"
    "  --connections N   connections that send requests (1); number I sends to subject I modulo the number of "
    "subjects\n"
    "  --in-flight N     unanswered requests of each connection (1)\n"
    "  --subscribers N   connections that subscribe, each to all subjects (1)\n"
    "  --threads N       threads that serve the subscribers (1)\n"
    "  --publishers N    receive, work: how many connections the messages were sent over (1)\n"
    "  --workers N       connections that work (1)\n"
    "  --batch N         messages that a worker takes at once (64)\n"
    "  --count N         messages of each publisher or sending connection (1000)\n"
    "  --size N          bytes of a payload, 32 or more (128)\n"
    "  --window N        publish: messages that may be on their way to the slowest subscriber (100000)\n"
    "  --rate N          publish: messages in a second, each at its time whatever the server does (0: all it can)\n"
    "  --patience N      seconds in which nothing happens before the run is given up (20)\n"
    "  --id-key KEY      requests, ask: the key under which a reply has its number or value (msg_id)\n"
    "  --ids-per-subject requests: these numbers are distinct within a subject only\n"
    "  --spread          requests, receive: each connection goes round over the subjects that are I modulo the\n"
    "                    number of connections, which must divide that of the subjects\n"
    "  --share           receive: each subscriber has its share of the subjects (with --spread)\n"
    "  --every N         receive: only every Nth subject (1)\n"
    "  --queue-type WORD requests: what kind of queue AMQP is to make (quorum)\n"
    "  --subjects-file F the subjects are the lines of this file, behind the one that is given as an argument\n"
    "  --first N         ask: the number of the first request (0)\n"
    "  --body TEXT       ask: the request; in it and in the subject, % stands for the request's number ({})\n"
    "  --values-file F   ask: write there what was answered, one value on a line\n"
    "  --keep            sink: keep messages, to have them received and worked on\n";

enum option_code {
    OPTION_DIALECT = 1,
    OPTION_PORT,
    OPTION_CONNECTIONS,
    OPTION_IN_FLIGHT,
    OPTION_SUBSCRIBERS,
    OPTION_THREADS,
    OPTION_PUBLISHERS,
    OPTION_WORKERS,
    OPTION_BATCH,
    OPTION_COUNT,
    OPTION_SIZE,
    OPTION_WINDOW,
    OPTION_RATE,
    OPTION_PATIENCE,
    OPTION_ID_KEY,
    OPTION_IDS_PER_SUBJECT,
    OPTION_SPREAD,
    OPTION_SHARE,
    OPTION_EVERY,
    OPTION_QUEUE_TYPE,
    OPTION_SUBJECTS_FILE,
    OPTION_FIRST,
    OPTION_BODY,
    OPTION_VALUES_FILE,
    OPTION_KEEP,
    OPTION_HELP,
};

static const struct option known_options[] = {
    {"dialect", required_argument, NULL, OPTION_DIALECT},
    {"port", required_argument, NULL, OPTION_PORT},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"in-flight", required_argument, NULL, OPTION_IN_FLIGHT},
    {"subscribers", required_argument, NULL, OPTION_SUBSCRIBERS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"publishers", required_argument, NULL, OPTION_PUBLISHERS},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"window", required_argument, NULL, OPTION_WINDOW},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"patience", required_argument, NULL, OPTION_PATIENCE},
    {"id-key", required_argument, NULL, OPTION_ID_KEY},
    {"ids-per-subject", no_argument, NULL, OPTION_IDS_PER_SUBJECT},
    {"spread", no_argument, NULL, OPTION_SPREAD},
    {"share", no_argument, NULL, OPTION_SHARE},
    {"every", required_argument, NULL, OPTION_EVERY},
    {"queue-type", required_argument, NULL, OPTION_QUEUE_TYPE},
    {"subjects-file", required_argument, NULL, OPTION_SUBJECTS_FILE},
    {"first", required_argument, NULL, OPTION_FIRST},
    {"body", required_argument, NULL, OPTION_BODY},
    {"values-file", required_argument, NULL, OPTION_VALUES_FILE},
    {"keep", no_argument, NULL, OPTION_KEEP},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static const char *const mode_words[] = {"requests", "publish", "receive", "work", "ask", "idle", "sink"};
static const char *const dialect_words[] = {"mq9", "jetstream", "redis", "amqp"};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static uint64_t whole_number(const char *text, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < least || value > most)
        fail_usage("%s is not a number from %llu to %llu", text, (unsigned long long)least, (unsigned long long)most);
    return value;
}

static unsigned one_of(const char *word, const char *const *words, size_t count, const char *what) {
    for (unsigned place = 0; place < count; place++)
        if (strcmp(word, words[place]) == 0)
            return place;
    fail_usage("no such %s: %s (try --help)", what, word);
}

/* Makes subjects of a file's lines, each behind the one subject that was given. The memory is the process's for good.
 */
static void read_subjects(struct options *options, const char *path) {
    const char *before = options->subject_count == 1 ? options->subjects[0] : "";
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    uint32_t room = 1024;
    if (file == NULL)
        fail_io("cannot read %s", path);
    if (options->subject_count > 1)
        fail_usage("with --subjects-file there may be one argument to go before its lines");
    options->subjects = allocate(room * sizeof *options->subjects);
    options->subject_count = 0;
    while ((size = getline(&line, &capacity, file)) > 0) {
        if (options->subject_count == room) {
            room *= 2;
            options->subjects = reallocate(options->subjects, room * sizeof *options->subjects);
        }
        line[strcspn(line, "\n")] = '\0';
        char *subject = allocate(strlen(before) + (size_t)size + 1);
        sprintf(subject, "%s%s", before, line);
        options->subjects[options->subject_count++] = subject;
    }
    free(line);
    fclose(file);
}

static void read_option(struct options *options, int code, const char *value, const char **subjects_path) {
    switch (code) {
    case OPTION_DIALECT: options->dialect = one_of(value, dialect_words, COUNT_OF(dialect_words), "dialect"); break;
    case OPTION_PORT: options->port = (int)whole_number(value, 1, 65535); break;
    case OPTION_CONNECTIONS: options->connections = (uint32_t)whole_number(value, 1, 100000); break;
    case OPTION_IN_FLIGHT: options->in_flight = (uint32_t)whole_number(value, 1, 1000000); break;
    case OPTION_SUBSCRIBERS: options->subscribers = (uint32_t)whole_number(value, 1, 100000); break;
    case OPTION_THREADS: options->threads = (uint32_t)whole_number(value, 1, 1000); break;
    case OPTION_PUBLISHERS: options->publishers = (uint32_t)whole_number(value, 1, 100000); break;
    case OPTION_WORKERS: options->workers = (uint32_t)whole_number(value, 1, WORKERS_MAX); break;
    case OPTION_BATCH: options->batch = (uint32_t)whole_number(value, 1, 1000); break;
    case OPTION_COUNT: options->count = whole_number(value, 1, UINT32_MAX); break;
    case OPTION_SIZE: options->size = (uint32_t)whole_number(value, PAYLOAD_SIZE_MIN, 1 << 20); break;
    case OPTION_WINDOW: options->window = whole_number(value, 1, UINT32_MAX); break;
    case OPTION_RATE: options->rate = whole_number(value, 0, 1000000); break;
    case OPTION_PATIENCE: options->patience_ns = whole_number(value, 1, 3600) * NANOSECONDS_PER_SECOND; break;
    case OPTION_ID_KEY: options->id_key = value; break;
    case OPTION_IDS_PER_SUBJECT: options->ids_per_subject = true; break;
    case OPTION_SPREAD: options->spread = true; break;
    case OPTION_SHARE: options->share = true; break;
    case OPTION_EVERY: options->every = (uint32_t)whole_number(value, 1, UINT32_MAX); break;
    case OPTION_QUEUE_TYPE: options->queue_type = value; break;
    case OPTION_SUBJECTS_FILE: *subjects_path = value; break;
    case OPTION_FIRST: options->first = whole_number(value, 0, UINT32_MAX); break;
    case OPTION_BODY: options->body = value; break;
    case OPTION_VALUES_FILE: options->values_path = value; break;
    case OPTION_KEEP: options->keep = true; break;
    case OPTION_HELP: fputs(usage, stdout); exit(STATUS_OK);
    default: fail_usage("see --help");
    }
}

/* Sees to it that the options go together. */
static void check(const struct options *options) {
    uint32_t sources = options->mode == MODE_RECEIVE ? options->publishers : options->connections;
    if (options->mode == MODE_SINK)
        return;
    if (options->port == 0)
        fail_usage("--port is missing");
    if (options->mode == MODE_IDLE)
        return;
    if (options->subject_count == 0)
        fail_usage("a subject is missing");
    if ((options->mode == MODE_PUBLISH && options->subject_count > 2) ||
        (options->mode == MODE_WORK && options->subject_count > 1))
        fail_usage("there is more than one subject to publish to, or to work on");
    if (options->mode != MODE_RECEIVE && (options->share || options->every > 1))
        fail_usage("--share and --every are for what is received");
    if (options->spread && options->subject_count % sources != 0)
        fail_usage("%u subjects cannot be spread evenly over %u connections", options->subject_count, sources);
    if (!options->spread && (options->share || options->every > 1))
        fail_usage("without --spread, what a share of the subjects holds is not known");
    if (options->subject_count / options->every < (options->share ? options->subscribers : 1))
        fail_usage("there are fewer subjects than subscribers");
}

struct options options_read(int argument_count, char **arguments) {
    struct options options = {
        .connections = 1,
        .in_flight = 1,
        .subscribers = 1,
        .threads = 1,
        .publishers = 1,
        .workers = 1,
        .batch = 64,
        .count = 1000,
        .size = 128,
        .window = 100000,
        .patience_ns = 20 * NANOSECONDS_PER_SECOND,
        .id_key = "msg_id",
        .every = 1,
        .queue_type = "quorum",
        .body = "{}",
    };
    const char *subjects_path = NULL;
    int code;
    while ((code = getopt_long(argument_count, arguments, "", known_options, NULL)) != -1)
        read_option(&options, code, optarg, &subjects_path);
    if (optind == argument_count)
        fail_usage("a mode is missing (try --help)");
    options.mode = one_of(arguments[optind], mode_words, COUNT_OF(mode_words), "mode");
    options.subjects = arguments + optind + 1;
    options.subject_count = (uint32_t)(argument_count - optind - 1);
    if (subjects_path != NULL)
        read_subjects(&options, subjects_path);
    check(&options);
    return options;
}
