#define _GNU_SOURCE
#include "frames.h"

#include <stdbool.h>
#include <string.h>

/* Reads the number that ends at `*end` and moves `*end` before the blank in front of it. False when there is none. */
static bool number_backwards(const char *start, const char **end, size_t *number) {
    const char *digit = *end;
    size_t value = 0;
    size_t scale = 1;
    while (digit > start && digit[-1] >= '0' && digit[-1] <= '9' && scale <= 100000000) {
        digit--;
        value += (size_t)(*digit - '0') * scale;
        scale *= 10;
    }
    if (digit == *end || digit == start || digit[-1] != ' ')
        return false;
    *number = value;
    *end = digit - 1;
    return true;
}

/* Sizes stand at the end of the line, so nothing before them has to be looked at. */
static enum found find_payload(struct frame *frame, size_t available, bool has_header) {
    const char *end = frame->line.start + frame->line.size;
    size_t total;
    size_t header = 0;
    if (!number_backwards(frame->line.start, &end, &total))
        return FOUND_GARBAGE;
    if (has_header && (!number_backwards(frame->line.start, &end, &header) || header > total))
        return FOUND_GARBAGE;
    if (available < frame->size + total + 2)
        return FOUND_PART;
    const char *body = frame->line.start + frame->size;
    if (body[total] != '\r' || body[total + 1] != '\n')
        return FOUND_GARBAGE;
    frame->header = (struct text){body, header};
    frame->payload = (struct text){body + header, total - header};
    frame->size += total + 2;
    return FOUND_FRAME;
}

static bool verb_is(const struct text *line, const char *verb) {
    size_t size = strlen(verb);
    return line->size >= size && memcmp(line->start, verb, size) == 0;
}

static enum frame_kind kind_of(const struct text *line) {
    if (verb_is(line, "PING"))
        return FRAME_PING;
    if (verb_is(line, "PONG"))
        return FRAME_PONG;
    if (verb_is(line, "-ERR"))
        return FRAME_REFUSAL;
    if (verb_is(line, "SUB "))
        return FRAME_SUBSCRIBE;
    return FRAME_OTHER;
}

enum found frame_find(const char *start, size_t size, struct frame *frame) {
    *frame = (struct frame){.line = {start, 0}};
    const char *line_end = memchr(start, '\n', size);
    if (line_end == NULL)
        return FOUND_PART;
    if (line_end == start || line_end[-1] != '\r')
        return FOUND_GARBAGE;
    *frame = (struct frame){.line = {start, (size_t)(line_end - 1 - start)}, .size = (size_t)(line_end + 1 - start)};
    if (verb_is(&frame->line, "MSG ")) {
        frame->kind = FRAME_MESSAGE;
        return find_payload(frame, size, false);
    }
    if (verb_is(&frame->line, "HMSG ")) {
        frame->kind = FRAME_MESSAGE;
        return find_payload(frame, size, true);
    }
    if (verb_is(&frame->line, "PUB ")) {
        frame->kind = FRAME_PUBLISH;
        return find_payload(frame, size, false);
    }
    frame->kind = kind_of(&frame->line);
    return FOUND_FRAME;
}

struct text frame_token(const struct frame *frame, unsigned index) {
    const char *at = frame->line.start;
    const char *end = at + frame->line.size;
    for (;; index--) {
        const char *blank = memchr(at, ' ', (size_t)(end - at));
        if (index == 0)
            return (struct text){at, (size_t)((blank == NULL ? end : blank) - at)};
        if (blank == NULL)
            return (struct text){end, 0};
        at = blank + 1;
    }
}

struct text frame_reply_subject(const struct frame *frame) {
    unsigned reply = frame->kind == FRAME_PUBLISH ? 2 : 3;
    unsigned sizes = frame->line.start[0] == 'H' ? 2 : 1;
    if (frame_token(frame, reply + sizes).size == 0)
        return (struct text){frame->line.start, 0};
    return frame_token(frame, reply);
}

int frame_header_status(const struct frame *frame) {
    const struct text *header = &frame->header;
    if (header->size < 12 || memcmp(header->start, "NATS/1.0 ", 9) != 0)
        return 0;
    int status = 0;
    for (int place = 9; place < 12; place++) {
        if (header->start[place] < '0' || header->start[place] > '9')
            return 0;
        status = status * 10 + header->start[place] - '0';
    }
    return status;
}
