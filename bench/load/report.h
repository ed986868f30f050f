/* The one line of JSON in which a run that kept every promise is told. */
#ifndef REPORT_H
#define REPORT_H

#include <stdint.h>

#include "histogram.h"

struct stopwatch {
    uint64_t started_at; /* clock_now() */
    double processor_s;  /* used before the start; after the end, used between the two */
    double seconds;      /* from start to end */
};

void stopwatch_start(struct stopwatch *stopwatch);
void stopwatch_stop(struct stopwatch *stopwatch, uint64_t ended_at);

/* Prints the report: `count` messages answered or delivered while the stopwatch ran, with these latencies.
 * Keys: mode, count, size, seconds, rate (per second), p50_us, p99_us, max_us, generator_cpu_s; and, where messages
 * were sent on a schedule, how late they were sent: late_p99_us, late_max_us. `lateness` may be NULL or empty. */
void report_print(const char *mode, const struct stopwatch *stopwatch, uint64_t count, uint32_t size,
                  const struct histogram *latencies, const struct histogram *lateness);

#endif
