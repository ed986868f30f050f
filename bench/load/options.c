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

static const char usage[] =
    "usage: load requests --port N [options] SUBJECT...   send requests, count the answered ones\n"
    "       load publish  --port N [options] SUBJECT      one publisher, some subscribers\n"
    "       load receive  --port N [options] SUBJECT...   subscribe to what was stored before\n"
    "       load sink                                     the server that does least, to measure this program with\n"
    "\n"
    "  --connections N   connections that send requests (1); number I sends to subject I modulo the number of "
    "subjects\n"
    "  --in-flight N     unanswered requests of each connection (1)\n"
    "  --subscribers N   connections that subscribe, each to all subjects (1)\n"
    "  --threads N       threads that serve the subscribers (1)\n"
    "  --publishers N    receive: how many connections the messages were sent over (1)\n"
    "  --count N         messages of each publisher or sending connection (1000)\n"
    "  --size N          bytes of a payload, 32 or more (128)\n"
    "  --window N        publish: messages that may be on their way to the slowest subscriber (100000)\n"
    "  --patience N      seconds in which nothing happens before the run is given up (20)\n"
    "  --id-key KEY      requests: the key under which a reply has its number (msg_id)\n"
    "  --ids-per-subject requests: these numbers are distinct within a subject only\n";

enum option_code {
    OPTION_PORT = 1,
    OPTION_CONNECTIONS,
    OPTION_IN_FLIGHT,
    OPTION_SUBSCRIBERS,
    OPTION_THREADS,
    OPTION_PUBLISHERS,
    OPTION_COUNT,
    OPTION_SIZE,
    OPTION_WINDOW,
    OPTION_PATIENCE,
    OPTION_ID_KEY,
    OPTION_IDS_PER_SUBJECT,
    OPTION_HELP,
};

static const struct option known_options[] = {
    {"port", required_argument, NULL, OPTION_PORT},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"in-flight", required_argument, NULL, OPTION_IN_FLIGHT},
    {"subscribers", required_argument, NULL, OPTION_SUBSCRIBERS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"publishers", required_argument, NULL, OPTION_PUBLISHERS},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"window", required_argument, NULL, OPTION_WINDOW},
    {"patience", required_argument, NULL, OPTION_PATIENCE},
    {"id-key", required_argument, NULL, OPTION_ID_KEY},
    {"ids-per-subject", no_argument, NULL, OPTION_IDS_PER_SUBJECT},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static uint64_t whole_number(const char *text, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < least || value > most)
        fail_usage("%s is not a number from %llu to %llu", text, (unsigned long long)least, (unsigned long long)most);
    return value;
}

static enum mode read_mode(const char *word) {
    static const char *const words[] = {"requests", "publish", "receive", "sink"};
    for (enum mode mode = MODE_REQUESTS; mode <= MODE_SINK; mode++)
        if (strcmp(word, words[mode]) == 0)
            return mode;
    fail_usage("no such mode: %s (try --help)", word);
}

static void read_option(struct options *options, int code, const char *value) {
    switch (code) {
    case OPTION_PORT: options->port = (int)whole_number(value, 1, 65535); break;
    case OPTION_CONNECTIONS: options->connections = (uint32_t)whole_number(value, 1, 100000); break;
    case OPTION_IN_FLIGHT: options->in_flight = (uint32_t)whole_number(value, 1, 1000000); break;
    case OPTION_SUBSCRIBERS: options->subscribers = (uint32_t)whole_number(value, 1, 100000); break;
    case OPTION_THREADS: options->threads = (uint32_t)whole_number(value, 1, 1000); break;
    case OPTION_PUBLISHERS: options->publishers = (uint32_t)whole_number(value, 1, 100000); break;
    case OPTION_COUNT: options->count = whole_number(value, 1, UINT32_MAX); break;
    case OPTION_SIZE: options->size = (uint32_t)whole_number(value, PAYLOAD_SIZE_MIN, 1 << 20); break;
    case OPTION_WINDOW: options->window = whole_number(value, 1, UINT32_MAX); break;
    case OPTION_PATIENCE: options->patience_ns = whole_number(value, 1, 3600) * NANOSECONDS_PER_SECOND; break;
    case OPTION_ID_KEY: options->id_key = value; break;
    case OPTION_IDS_PER_SUBJECT: options->ids_per_subject = true; break;
    case OPTION_HELP: fputs(usage, stdout); exit(STATUS_OK);
    default: fail_usage("see --help");
    }
}

struct options options_read(int argument_count, char **arguments) {
    struct options options = {
        .connections = 1,
        .in_flight = 1,
        .subscribers = 1,
        .threads = 1,
        .publishers = 1,
        .count = 1000,
        .size = 128,
        .window = 100000,
        .patience_ns = 20 * NANOSECONDS_PER_SECOND,
        .id_key = "msg_id",
    };
    int code;
    while ((code = getopt_long(argument_count, arguments, "", known_options, NULL)) != -1)
        read_option(&options, code, optarg);
    if (optind == argument_count)
        fail_usage("a mode is missing (try --help)");
    options.mode = read_mode(arguments[optind]);
    options.subjects = arguments + optind + 1;
    options.subject_count = (uint32_t)(argument_count - optind - 1);
    if (options.mode == MODE_SINK)
        return options;
    if (options.port == 0)
        fail_usage("--port is missing");
    if (options.subject_count == 0 || (options.mode == MODE_PUBLISH && options.subject_count != 1))
        fail_usage("a subject is missing, or there is more than one to publish to");
    return options;
}
