/* What the command line asks for. Every mode reads the options it needs; see the text in options.c. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum mode {
    MODE_REQUESTS,
    MODE_PUBLISH,
    MODE_RECEIVE,
    MODE_SINK,
};

struct options {
    enum mode mode;
    int port;
    uint32_t connections; /* that send requests */
    uint32_t in_flight;   /* unanswered requests of each connection */
    uint32_t subscribers;
    uint32_t threads;     /* that receive */
    uint32_t publishers;  /* whose messages are received */
    uint32_t size;        /* of a payload, bytes */
    uint64_t count;       /* messages of each publisher or connection */
    uint64_t window;      /* messages published that some subscriber has not received yet */
    uint64_t patience_ns; /* how long nothing may happen */
    const char *id_key;   /* under which a reply has the number of what was stored */
    bool ids_per_subject; /* that number is distinct within a subject, not over all of them */
    char **subjects;
    uint32_t subject_count;
};

/* Reads the command line; ends the process with a sentence when it makes no sense. */
struct options options_read(int argument_count, char **arguments);

#endif
