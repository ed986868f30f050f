#include "ledger.h"

#include <stdlib.h>

#include "outcome.h"
#include "payload.h"

struct ledger {
    const struct options *options;
    uint64_t handled;
    uint8_t *handled_by; /* of each publisher's messages, one behind the other: 1 + the worker, 0 when none has */
};

struct ledger *ledger_open(const struct options *options) {
    struct ledger *ledger = allocate_zeroed(1, sizeof *ledger);
    ledger->options = options;
    ledger->handled_by = allocate_zeroed(options->count * options->publishers, 1);
    return ledger;
}

void ledger_note(struct ledger *ledger, uint32_t number, struct text payload) {
    const struct options *options = ledger->options;
    struct payload_head head;
    const char *problem = payload_read(payload.start, payload.size, &head);
    if (problem != NULL)
        fail_promise("worker %u got a message that is %s", number, problem);
    if (head.publisher >= options->publishers || head.sequence >= options->count || head.size != options->size)
        fail_promise("worker %u got message %llu of publisher %u with %u bytes, which nobody sent", number,
                     (unsigned long long)head.sequence, head.publisher, head.size);
    uint8_t *by = &ledger->handled_by[head.publisher * options->count + head.sequence];
    if (*by != 0)
        fail_promise("worker %u got message %llu of publisher %u, which worker %u has had", number,
                     (unsigned long long)head.sequence, head.publisher, *by - 1U);
    *by = (uint8_t)(1 + number);
    ledger->handled++;
}

uint64_t ledger_expected(const struct ledger *ledger) {
    return ledger->options->count * ledger->options->publishers;
}

uint64_t ledger_handled(const struct ledger *ledger) {
    return ledger->handled;
}

void ledger_close(struct ledger *ledger) {
    free(ledger->handled_by);
    free(ledger);
}
