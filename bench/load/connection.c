#define _GNU_SOURCE
#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "outcome.h"

#define PATIENCE_MS 30000

static void buffer_open(struct buffer *buffer, size_t capacity) {
    *buffer = (struct buffer){.bytes = allocate(capacity), .capacity = capacity};
}

/* Moves what is in the buffer to its beginning. */
static void buffer_compact(struct buffer *buffer) {
    memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
    buffer->end -= buffer->start;
    buffer->start = 0;
}

void connection_accept(struct connection *connection, int descriptor, size_t input_capacity, size_t output_capacity) {
    int yes = 1;
    if (setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0 ||
        fcntl(descriptor, F_SETFL, O_NONBLOCK) != 0)
        fail_io("cannot set up a socket");
    *connection = (struct connection){.descriptor = descriptor, .epoll = -1};
    buffer_open(&connection->input, input_capacity);
    buffer_open(&connection->output, output_capacity);
}

void connection_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        fail_io("cannot connect to 127.0.0.1:%d", port);
    connection_accept(connection, descriptor, input_capacity, output_capacity);
}

void connection_close(struct connection *connection) {
    close(connection->descriptor);
    free(connection->input.bytes);
    free(connection->output.bytes);
}

static void wait_for(struct connection *connection, short events) {
    struct pollfd wanted = {.fd = connection->descriptor, .events = events};
    int ready = poll(&wanted, 1, PATIENCE_MS);
    if (ready < 0 && errno != EINTR)
        fail_io("cannot wait for a connection");
    if (ready == 0)
        fail_promise("the server %s for %d s", events == POLLIN ? "said nothing" : "read nothing", PATIENCE_MS / 1000);
}

bool connection_read(struct connection *connection, bool hung_up_is_fine) {
    struct buffer *input = &connection->input;
    if (input->start == input->end)
        input->start = input->end = 0;
    else if (input->start > 0 && input->end > input->capacity / 2)
        buffer_compact(input);
    if (input->end == input->capacity)
        fail_promise("a frame of more than %zu bytes came", input->capacity);
    ssize_t size = read(connection->descriptor, input->bytes + input->end, input->capacity - input->end);
    if (size > 0)
        input->end += (size_t)size;
    if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR)))
        return true;
    if (!hung_up_is_fine && size < 0)
        fail_io("cannot read from the server");
    if (!hung_up_is_fine)
        fail_promise("the server closed a connection");
    return false;
}

void connection_await(struct connection *connection) {
    connection_drain(connection);
    wait_for(connection, POLLIN);
    connection_read(connection, false);
}

struct text connection_input(const struct connection *connection) {
    const struct buffer *input = &connection->input;
    return (struct text){input->bytes + input->start, input->end - input->start};
}

void connection_take(struct connection *connection, size_t size) {
    connection->input.start += size;
}

char *connection_room(struct connection *connection, size_t size) {
    struct buffer *output = &connection->output;
    if (output->capacity - output->end < size)
        buffer_compact(output);
    return output->capacity - output->end < size ? NULL : output->bytes + output->end;
}

void connection_wrote(struct connection *connection, size_t size) {
    connection->output.end += size;
}

void connection_append(struct connection *connection, const char *bytes, size_t size) {
    char *room = connection_room(connection, size);
    if (room == NULL)
        fail_usage("no room to send %zu bytes", size);
    memcpy(room, bytes, size);
    connection_wrote(connection, size);
}

void connection_print(struct connection *connection, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size >= (int)sizeof text)
        fail_usage("a line of %d bytes is too long to send", size);
    connection_append(connection, text, (size_t)size);
}

bool connection_flush(struct connection *connection) {
    struct buffer *output = &connection->output;
    while (output->start < output->end) {
        ssize_t size =
            send(connection->descriptor, output->bytes + output->start, output->end - output->start, MSG_NOSIGNAL);
        if (size >= 0)
            output->start += (size_t)size;
        else if (errno == EAGAIN)
            return false;
        else if (errno != EINTR)
            fail_io("the server closed a connection");
    }
    output->start = output->end = 0;
    return true;
}

void connection_drain(struct connection *connection) {
    while (!connection_flush(connection))
        wait_for(connection, POLLOUT);
}

static void watch(struct connection *connection, int operation) {
    uint32_t events = EPOLLIN | (connection->waits_for_room ? EPOLLOUT : 0U);
    struct epoll_event event = {.events = events, .data.ptr = connection->owner};
    if (epoll_ctl(connection->epoll, operation, connection->descriptor, &event) != 0)
        fail_io("cannot watch a connection");
}

void connection_watch(struct connection *connection, int epoll, void *owner) {
    connection->epoll = epoll;
    connection->owner = owner;
    watch(connection, EPOLL_CTL_ADD);
}

void connection_flush_watched(struct connection *connection) {
    bool waits_for_room = !connection_flush(connection);
    if (waits_for_room != connection->waits_for_room) {
        connection->waits_for_room = waits_for_room;
        watch(connection, EPOLL_CTL_MOD);
    }
}
