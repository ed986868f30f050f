#include "histogram.h"

/* Values below 64 have a bucket each; above, each power of two is divided into 64 equal buckets. */
static unsigned bucket_of(uint64_t value) {
    if (value < HISTOGRAM_STEPS)
        return (unsigned)value;
    unsigned shift = 63U - 6U - (unsigned)__builtin_clzll(value);
    return HISTOGRAM_STEPS * (shift + 1) + (unsigned)(value >> shift) - HISTOGRAM_STEPS;
}

static uint64_t upper_end(unsigned bucket) {
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
    return ((step + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t nanoseconds) {
    histogram->count++;
    histogram->buckets[bucket_of(nanoseconds)]++;
    if (nanoseconds > histogram->maximum)
        histogram->maximum = nanoseconds;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other) {
    histogram->count += other->count;
    if (other->maximum > histogram->maximum)
        histogram->maximum = other->maximum;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++)
        histogram->buckets[bucket] += other->buckets[bucket];
}

uint64_t histogram_quantile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)((double)histogram->count * share);
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen > wanted || (seen == histogram->count && seen > 0))
            return upper_end(bucket) < histogram->maximum ? upper_end(bucket) : histogram->maximum;
    }
    return 0;
}
