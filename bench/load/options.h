/* What the command line asks for. Every mode reads the options it needs; see the text in options.c. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum mode {
    MODE_REQUESTS,
    MODE_PUBLISH,
    MODE_RECEIVE,
    MODE_WORK,
    MODE_ASK,
    MODE_IDLE,
    MODE_SINK,
};

/* How a broker wants to be spoken to. The first two are both NATS, and the same but for workers. */
enum dialect {
    DIALECT_MQ9,
    DIALECT_JETSTREAM,
    DIALECT_REDIS,
    DIALECT_AMQP,
};

struct options {
    enum mode mode;
    enum dialect dialect;
    int port;
    uint32_t connections; /* that send requests, or do nothing */
    uint32_t in_flight;   /* unanswered requests of each connection */
    uint32_t subscribers;
    uint32_t threads;    /* that receive */
    uint32_t publishers; /* whose messages are received */
    uint32_t workers;
    uint32_t batch;       /* messages that a worker takes at once */
    uint32_t size;        /* of a payload, bytes */
    uint64_t count;       /* messages of each publisher or connection */
    uint64_t window;      /* messages published that some subscriber has not received yet */
    uint64_t rate;        /* messages published in a second; 0: as many as can be */
    uint64_t patience_ns; /* how long nothing may happen */
    const char *id_key;   /* under which a reply has the number of what was stored */
    bool ids_per_subject; /* that number is distinct within a subject, not over all of them */
    bool spread;          /* every connection goes round over its share of the subjects */
    bool share;           /* every subscriber has its share of the subjects */
    uint32_t every;       /* of so many subjects only the first is received */
    bool keep;            /* the sink keeps what it is sent */
    const char *queue_type;
    uint64_t first;          /* number of the requests that are no messages */
    const char *body;        /* of requests that are no messages */
    const char *values_path; /* where the values go that those were answered with */
    char **subjects;
    uint32_t subject_count;
};

/* Reads the command line; ends the process with a sentence when it makes no sense. */
struct options options_read(int argument_count, char **arguments);

#endif
