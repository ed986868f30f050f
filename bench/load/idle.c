/* Connections that have said who they are and do nothing, until standard input ends. Then each must still be there. */
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "modes.h"
#include "nats.h"
#include "outcome.h"
#include "report.h"

#define CAPACITY 16384

void run_idle(const struct options *options) {
    struct connection *connections = allocate_zeroed(options->connections, sizeof *connections);
    struct histogram none = {0};
    struct stopwatch stopwatch;
    stopwatch_start(&stopwatch);
    for (uint32_t number = 0; number < options->connections; number++)
        nats_open(&connections[number], options->port, CAPACITY, CAPACITY);
    stopwatch_stop(&stopwatch, clock_now());
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    for (uint32_t number = 0; number < options->connections; number++) {
        nats_settle(&connections[number]);
        connection_close(&connections[number]);
    }
    free(connections);
    report_print("idle", &stopwatch, options->connections, 0, &none, NULL);
}
