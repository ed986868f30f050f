#include "report.h"

#include <stdio.h>

#include "clock.h"

void stopwatch_start(struct stopwatch *stopwatch) {
    stopwatch->processor_s = clock_processor_seconds();
    stopwatch->started_at = clock_now();
}

void stopwatch_stop(struct stopwatch *stopwatch, uint64_t ended_at) {
    stopwatch->seconds = (double)(ended_at - stopwatch->started_at) / (double)NANOSECONDS_PER_SECOND;
    stopwatch->processor_s = clock_processor_seconds() - stopwatch->processor_s;
}

static double microseconds(uint64_t nanoseconds) {
    return (double)nanoseconds * 1e-3;
}

void report_print(const char *mode, const struct stopwatch *stopwatch, uint64_t count, uint32_t size,
                  const struct histogram *latencies, const struct histogram *lateness) {
    printf("{\"mode\": \"%s\", \"count\": %llu, \"size\": %u, \"seconds\": %.6f, \"rate\": %.1f, ", mode,
           (unsigned long long)count, size, stopwatch->seconds, (double)count / stopwatch->seconds);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, ", microseconds(histogram_quantile(latencies, 0.5)),
           microseconds(histogram_quantile(latencies, 0.99)), microseconds(latencies->maximum));
    if (lateness != NULL && lateness->count > 0)
        printf("\"late_p99_us\": %.1f, \"late_max_us\": %.1f, ", microseconds(histogram_quantile(lateness, 0.99)),
               microseconds(lateness->maximum));
    printf("\"generator_cpu_s\": %.6f}\n", stopwatch->processor_s);
}
