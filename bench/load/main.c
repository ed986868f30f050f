/* The load generator with which brokers are measured; see ../README.md. */
#include "modes.h"
#include "options.h"
#include "payload.h"

int main(int argument_count, char **arguments) {
    struct options options = options_read(argument_count, arguments);
    payload_prepare();
    switch (options.mode) {
    case MODE_REQUESTS: run_requests(&options); break;
    case MODE_PUBLISH: run_publish(&options); break;
    case MODE_RECEIVE: run_receive(&options); break;
    case MODE_WORK: run_work(&options); break;
    case MODE_ASK: run_ask(&options); break;
    case MODE_IDLE: run_idle(&options); break;
    case MODE_SINK: run_sink(&options); break;
    }
    return 0;
}
