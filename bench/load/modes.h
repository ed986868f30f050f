/* What this program does; each mode runs to its end and prints its report. */
#ifndef MODES_H
#define MODES_H

#include "options.h"

/* Several connections have messages stored; each keeps some unanswered. A message counts when its answer is a success,
 * comes in its turn, and names a number that is larger than the connection's last and that no other message has. (AMQP
 * names none, and confirms in any order.) */
void run_requests(const struct options *options);

/* One connection publishes, others subscribe. A delivery counts when the message is whole and the next in order. */
void run_publish(const struct options *options);

/* Receives what a run of requests has stored: every message of every sender, whole, in the order it was sent in. */
void run_receive(const struct options *options);

/* Workers share what a run of requests has stored. A message counts when it is whole, no worker had it before, and its
 * ack is confirmed. */
void run_work(const struct options *options);

/* Other requests than messages, as those that create mailboxes. One counts when it is answered with a success and a
 * value that no other answer has. */
void run_ask(const struct options *options);

/* Connections that do nothing until standard input ends. They count when all of them are alive then. */
void run_idle(const struct options *options);

/* Serves on a free port, which it prints, until it is killed; answers requests and passes messages on without looking
 * at them, and keeps what it is sent if it is told to. */
void run_sink(const struct options *options);

#endif
