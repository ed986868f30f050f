/* How a run ends: with one line of JSON on stdout and status 0, or with one sentence on stderr and another status.
 *
 * There is nothing between the two: a run in which anything was not as promised reports no figure at all.
 */
#ifndef OUTCOME_H
#define OUTCOME_H

#include <stddef.h>
#include <stdnoreturn.h>

enum status {
    STATUS_OK = 0,
    STATUS_BROKEN_PROMISE = 1, /* the server answered or delivered something else than it promised */
    STATUS_USAGE = 2,          /* the arguments make no sense */
    STATUS_IO = 3,             /* no connection, or the operating system refused something */
};

/* Ends the process with a sentence about what the server did wrong. Callable from any thread. */
__attribute__((format(printf, 1, 2))) noreturn void fail_promise(const char *format, ...);

/* Ends the process with a sentence about wrong arguments. */
__attribute__((format(printf, 1, 2))) noreturn void fail_usage(const char *format, ...);

/* Ends the process because a system call failed; appends what errno says. */
__attribute__((format(printf, 1, 2))) noreturn void fail_io(const char *format, ...);

/* malloc, realloc, calloc that end the process when there is no memory. */
void *allocate(size_t size);
void *reallocate(void *memory, size_t size);
void *allocate_zeroed(size_t count, size_t size);

#endif
