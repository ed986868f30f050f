/* Which messages of several publishers have been handled: each may be once. */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdint.h>

#include "options.h"
#include "text.h"

struct ledger;

struct ledger *ledger_open(const struct options *options);

/* Notes the message with this payload as handled by worker `number`. Ends the process when it is not whole, was not
 * sent, or was handled before. */
void ledger_note(struct ledger *ledger, uint32_t number, struct text payload);

/* How many messages there are in all. */
uint64_t ledger_expected(const struct ledger *ledger);

/* How many of them have been handled. */
uint64_t ledger_handled(const struct ledger *ledger);

void ledger_close(struct ledger *ledger);

#endif
