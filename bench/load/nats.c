#include "nats.h"

#include "outcome.h"

#define STATUS_FLOW_CONTROL 100

void nats_open(struct connection *connection, int port, size_t input_capacity, size_t output_capacity) {
    connection_open(connection, port, input_capacity, output_capacity);
    connection_print(connection,
                     "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,"
                     "\"lang\":\"c\",\"version\":\"1.0.0\",\"protocol\":1}\r\n");
    nats_settle(connection);
}

bool nats_next(struct connection *connection, struct frame *frame) {
    for (;;) {
        struct text input = connection_input(connection);
        switch (frame_find(input.start, input.size, frame)) {
        case FOUND_PART: return false;
        case FOUND_GARBAGE: fail_promise("not the NATS protocol: %.*s", (int)frame->line.size, frame->line.start);
        case FOUND_FRAME: break;
        }
        connection_take(connection, frame->size);
        if (frame->kind == FRAME_REFUSAL)
            fail_promise("the server said %.*s", (int)frame->line.size, frame->line.start);
        if (frame->kind != FRAME_PING)
            return true;
        connection_print(connection, "PONG\r\n");
    }
}

bool nats_is_flow_control(const struct frame *frame) {
    return frame->kind == FRAME_MESSAGE && frame_header_status(frame) == STATUS_FLOW_CONTROL;
}

void nats_settle(struct connection *connection) {
    struct frame frame;
    connection_print(connection, "PING\r\n");
    for (;;) {
        while (nats_next(connection, &frame)) {
            if (frame.kind == FRAME_PONG)
                return;
            if (frame.kind == FRAME_MESSAGE && !nats_is_flow_control(&frame))
                fail_promise("a message came where none was to come: %.*s", (int)frame.line.size, frame.line.start);
        }
        connection_await(connection);
    }
}
