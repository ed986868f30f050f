/* Latencies of any number of messages in a few kilobytes: counted in buckets that are never wider than 1/64 of their
 * value. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 64
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 59)

struct histogram {
    uint64_t count;
    uint64_t maximum; /* exact */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Counts one latency, in nanoseconds. */
void histogram_add(struct histogram *histogram, uint64_t nanoseconds);

/* Adds everything counted in `other`. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/* The latency, in nanoseconds, that `share` (0 to 1) of what was counted did not exceed; 0 when nothing was counted. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

#endif
