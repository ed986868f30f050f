/* Connections that receive and check what they get, spread over threads of their own.
 *
 * Every receiver expects, of each of the publishers 0, 1, …, the messages 0, 1, … `count` - 1: each exactly once, in
 * this order, whole. Between publishers any order will do. Of messages that were spread over subjects it expects the
 * same of each subject, and with a share of the subjects what belongs to those. Anything else ends the process, see
 * outcome.h.
 */
#ifndef RECEIVERS_H
#define RECEIVERS_H

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "options.h"

struct receivers;

/* Connects the receivers. */
struct receivers *receivers_open(const struct options *options);

/* Subscribes every receiver to its subjects. With `settle` returns when the server has taken note, which is only
 * possible when nothing has been sent to the subjects yet. */
void receivers_subscribe(struct receivers *receivers, bool settle);

/* Starts the threads. */
void receivers_start(struct receivers *receivers);

/* How many messages the slowest receiver has received so far. May be asked by another thread while the receivers work.
 */
uint64_t receivers_slowest(const struct receivers *receivers);

/* How many messages all receivers together are to receive. */
uint64_t receivers_expected(const struct receivers *receivers);

/* Waits until every receiver has received everything, and the server has shown that nothing more was on its way.
 * Returns the clock_now() of the last message; adds how long each was under way to `latencies`. */
uint64_t receivers_join(struct receivers *receivers, struct histogram *latencies);

void receivers_close(struct receivers *receivers);

#endif
