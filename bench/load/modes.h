/* The four things this program does; each runs to its end and prints its report. */
#ifndef MODES_H
#define MODES_H

#include "options.h"

/* Several connections send requests; each keeps some in flight. An answered request counts when its reply is a success,
 * comes in its turn, and names a number that is larger than the connection's last and that no other message has. */
void run_requests(const struct options *options);

/* One connection publishes, others subscribe. A delivery counts when the message is whole and the next in order. */
void run_publish(const struct options *options);

/* Subscribes to what a run of requests has stored: every message of every sender, whole, in the order it was sent in.
 */
void run_receive(const struct options *options);

/* Serves on a free port, which it prints, until it is killed; answers requests and passes messages on without looking
 * at them. */
void run_sink(void);

#endif
