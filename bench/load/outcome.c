#include "outcome.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* _Exit and not exit: other threads may be in the middle of anything. */
static noreturn void end(enum status status, const char *format, va_list arguments, const char *reason) {
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    if (reason != NULL)
        fprintf(stderr, ": %s", reason);
    fputc('\n', stderr);
    fflush(stderr);
    _Exit(status);
}

void fail_promise(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    end(STATUS_BROKEN_PROMISE, format, arguments, NULL);
}

void fail_usage(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    end(STATUS_USAGE, format, arguments, NULL);
}

void fail_io(const char *format, ...) {
    const char *reason = strerror(errno);
    va_list arguments;
    va_start(arguments, format);
    end(STATUS_IO, format, arguments, reason);
}

void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL)
        fail_io("no memory for %zu bytes", size);
    return memory;
}

void *reallocate(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (memory == NULL)
        fail_io("no memory for %zu bytes", size);
    return memory;
}

void *allocate_zeroed(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail_io("no memory for %zu times %zu bytes", count, size);
    return memory;
}
