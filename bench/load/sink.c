/* The server that does least: it answers each request from a counter and copies each message to every subscriber, and
 * looks at nothing. What a run against it reaches is the least that this program can drive; see ../README.md. Told to
 * keep what it is sent, it has one mailbox in memory, whatever that is called, from which it can be received and
 * FETCHed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kept.h"
#include "modes.h"
#include "nats.h"
#include "outcome.h"

#define CAPACITY (256 * 1024)
#define CLIENTS_MAX 1024
#define EVENTS_AT_ONCE 64
#define LINE_MAX_BYTES 1024

struct client {
    struct connection connection;
    bool subscribed;       /* to anything but its inbox: gets a copy of every message */
    char subscription[32]; /* the identifier it gave to its latest subscription */
    size_t subscription_size;
};

struct sink {
    int listener;
    int epoll;
    uint64_t stored;
    bool keeps;
    struct kept kept;
    struct client *clients[CLIENTS_MAX];
    uint32_t client_count;
};

static void open_listener(struct sink *sink) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sink->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sink->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (sink->listener < 0 || sink->epoll < 0 || bind(sink->listener, (struct sockaddr *)&address, size) != 0 ||
        listen(sink->listener, SOMAXCONN) != 0 || getsockname(sink->listener, (struct sockaddr *)&address, &size) != 0)
        fail_io("cannot listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(sink->epoll, EPOLL_CTL_ADD, sink->listener, &event) != 0)
        fail_io("cannot watch the listener");
    printf("%u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
}

static void greet(struct sink *sink) {
    int descriptor = accept(sink->listener, NULL, NULL);
    if (descriptor < 0)
        return;
    if (sink->client_count == CLIENTS_MAX)
        fail_usage("the sink serves %d connections and no more", CLIENTS_MAX);
    struct client *client = allocate_zeroed(1, sizeof *client);
    connection_accept(&client->connection, descriptor, CAPACITY, CAPACITY);
    connection_print(&client->connection,
                     "INFO {\"server_id\":\"SINK\",\"version\":\"2.9.10\",\"proto\":1,\"headers\":true,"
                     "\"max_payload\":1048576}\r\n");
    connection_drain(&client->connection);
    connection_watch(&client->connection, sink->epoll, client);
    sink->clients[sink->client_count++] = client;
}

static void bid_farewell(struct sink *sink, struct client *client) {
    for (uint32_t place = 0; place < sink->client_count; place++)
        if (sink->clients[place] == client)
            sink->clients[place--] = sink->clients[--sink->client_count];
    connection_close(&client->connection);
    free(client);
}

/* Room for one more frame, which is written out at the latest when the buffer is full. */
static char *room(struct client *client, size_t size) {
    char *at = connection_room(&client->connection, size);
    if (at == NULL) {
        connection_drain(&client->connection);
        at = connection_room(&client->connection, size);
    }
    if (at == NULL)
        fail_usage("a frame of %zu bytes is too large for the sink", size);
    return at;
}

static char *append(char *at, struct text text) {
    memcpy(at, text.start, text.size);
    return at + text.size;
}

#define APPEND(at, literal) append((at), (struct text){(literal), sizeof(literal) - 1})

/* "MSG <subject> <the client's subscription> ", for which the caller has found room. */
static char *begin_message(char *at, const struct client *client, struct text subject) {
    at = APPEND(at, "MSG ");
    at = append(at, subject);
    at = APPEND(at, " ");
    at = append(at, (struct text){client->subscription, client->subscription_size});
    return APPEND(at, " ");
}

/* A message to one client, to which no other has a claim. */
static void tell(struct client *client, struct text subject, struct text payload) {
    char *start = room(client, LINE_MAX_BYTES + payload.size);
    char *at = begin_message(start, client, subject);
    at += sprintf(at, "%zu\r\n", payload.size);
    at = append(at, payload);
    at = APPEND(at, "\r\n");
    connection_wrote(&client->connection, (size_t)(at - start));
}

static void replay(struct sink *sink, struct client *client, struct text subject) {
    for (uint64_t index = 0; index < sink->kept.count; index++)
        tell(client, subject, kept_payload(&sink->kept, index));
}

static void subscribe(struct sink *sink, struct client *client, const struct frame *frame) {
    struct text subject = frame_token(frame, 1);
    struct text identifier = frame_token(frame, 2);
    if (identifier.size == 0 || identifier.size > sizeof client->subscription)
        fail_usage("the sink takes no queue groups and no long subscription identifiers");
    memcpy(client->subscription, identifier.start, identifier.size);
    client->subscription_size = identifier.size;
    client->subscribed = subject.size < 7 || memcmp(subject.start, "_INBOX.", 7) != 0;
    if (client->subscribed && sink->keeps)
        replay(sink, client, subject);
}

static void answer(struct sink *sink, struct client *client, struct text reply) {
    char number[24];
    size_t digits = (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)++sink->stored);
    char *start = room(client, LINE_MAX_BYTES);
    char *at = begin_message(start, client, reply);
    size_t size = digits + sizeof "{\"msg_id\": }" - 1;
    *at++ = (char)('0' + size / 10);
    *at++ = (char)('0' + size % 10);
    at = APPEND(at, "\r\n{\"msg_id\": ");
    at = append(at, (struct text){number, digits});
    at = APPEND(at, "}\r\n");
    connection_wrote(&client->connection, (size_t)(at - start));
}

static bool begins_with(struct text text, const char *beginning) {
    size_t size = strlen(beginning);
    return text.size >= size && memcmp(text.start, beginning, size) == 0;
}

/* What a worker asks for: "num_msgs" of its request, which is JSON. */
static uint64_t number_asked_for(struct text request) {
    const char *key = memmem(request.start, request.size, "\"num_msgs\":", 11);
    return key == NULL ? 100 : strtoull(key + 11, NULL, 10);
}

static void obey(struct sink *sink, struct client *client, const struct frame *frame, struct text reply) {
    struct text subject = frame_token(frame, 1);
    if (begins_with(subject, "$mq9.AI.MSG.FETCH.")) {
        tell(client, reply, kept_hand_out(&sink->kept, number_asked_for(frame->payload)));
    } else if (begins_with(subject, "$mq9.AI.MSG.ACK.")) {
        tell(client, reply, (struct text){"{\"error\":\"\"}", 12});
    } else {
        if (sink->keeps)
            kept_add(&sink->kept, frame->payload);
        answer(sink, client, reply);
    }
}

static void pass_on(struct sink *sink, const struct frame *frame) {
    struct text subject = frame_token(frame, 1);
    struct text size_and_payload = frame_token(frame, 2);
    size_and_payload.size = (size_t)(frame->line.start + frame->size - size_and_payload.start);
    for (uint32_t place = 0; place < sink->client_count; place++) {
        struct client *client = sink->clients[place];
        if (!client->subscribed)
            continue;
        char *start = room(client, LINE_MAX_BYTES + frame->payload.size);
        char *at = append(begin_message(start, client, subject), size_and_payload);
        connection_wrote(&client->connection, (size_t)(at - start));
    }
}

static void serve(struct sink *sink, struct client *client) {
    struct frame frame;
    if (!connection_read(&client->connection, true)) {
        bid_farewell(sink, client);
        return;
    }
    while (nats_next(&client->connection, &frame)) {
        if (frame.kind == FRAME_SUBSCRIBE)
            subscribe(sink, client, &frame);
        if (frame.kind != FRAME_PUBLISH)
            continue;
        struct text reply = frame_reply_subject(&frame);
        if (reply.size > 0)
            obey(sink, client, &frame, reply);
        else
            pass_on(sink, &frame);
    }
    for (uint32_t place = 0; place < sink->client_count; place++)
        connection_drain(&sink->clients[place]->connection);
}

void run_sink(const struct options *options) {
    static struct sink sink;
    sink.keeps = options->keep;
    struct epoll_event events[EVENTS_AT_ONCE];
    open_listener(&sink);
    for (;;) {
        int ready = epoll_wait(sink.epoll, events, EVENTS_AT_ONCE, -1);
        for (int event = 0; event < ready; event++) {
            if (events[event].data.ptr == NULL)
                greet(&sink);
            else
                serve(&sink, events[event].data.ptr);
        }
    }
}
