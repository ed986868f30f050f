/* Tells callgrind where what is to be counted begins and ends. Compiled into a library of its own, and called from Python. */
#include <valgrind/callgrind.h>

/* Counting begins, from nothing. */
void mark_begin(void) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

/* It ends; what was counted is written to a file of its own, under this name. */
void mark_end(const char *name) {
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
