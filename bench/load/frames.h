/* Frames of the NATS client protocol, found in a buffer without copying: those a server sends, and PUB and SUB for the
 * sink. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "text.h"

enum frame_kind {
    FRAME_MESSAGE, /* MSG, HMSG */
    FRAME_PUBLISH, /* PUB */
    FRAME_SUBSCRIBE,
    FRAME_PING,
    FRAME_PONG,
    FRAME_REFUSAL, /* -ERR */
    FRAME_OTHER,   /* INFO, CONNECT, +OK, UNSUB: a line with nothing for us in it */
};

struct frame {
    enum frame_kind kind;
    struct text line;    /* without its end of line */
    struct text header;  /* of an HMSG, "NATS/1.0" and all; else empty */
    struct text payload; /* of MSG, HMSG, PUB */
    size_t size;         /* of the whole frame */
};

enum found {
    FOUND_FRAME,
    FOUND_PART, /* the frame's end has not arrived */
    FOUND_GARBAGE,
};

/* Finds the frame at the beginning of `size` bytes at `start`. */
enum found frame_find(const char *start, size_t size, struct frame *frame);

/* Token number `index` of the frame's line, 0 being the verb; empty when there are fewer. */
struct text frame_token(const struct frame *frame, unsigned index);

/* The subject to which an answer to this MSG, HMSG or PUB is to go; empty when none is wanted. */
struct text frame_reply_subject(const struct frame *frame);

/* The status of a header block ("NATS/1.0 503" has 503), 0 when there is none. */
int frame_header_status(const struct frame *frame);

#endif
