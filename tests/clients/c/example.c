#include <stdio.h>
#include <stdlib.h>

#include <nats/nats.h>

static void check(natsStatus status)
{
    if (status != NATS_OK) {
        fprintf(stderr, "%s\n", natsStatus_GetText(status));
        exit(1);
    }
}

static void ask(natsConnection *nc, const char *subject, const char *body)
{
    natsMsg *reply = NULL;

    check(natsConnection_RequestString(&reply, nc, subject, body, 5000));
    printf("%.*s\n", natsMsg_GetDataLength(reply), natsMsg_GetData(reply));
    natsMsg_Destroy(reply);
}

int main(int argc, char **argv)
{
    natsConnection *nc = NULL;
    natsSubscription *inbox = NULL;
    natsMsg *message = NULL;
    const char *priority, *msg_id;
    char subject[100];

    check(natsConnection_ConnectTo(&nc, argc > 1 ? argv[1] : NATS_DEFAULT_URL));
    ask(nc, "$mq9.AI.MAILBOX.CREATE", "{\"name\": \"desk\", \"public\": true, \"ttl\": 3600}");
    ask(nc, "$mq9.AI.MAILBOX.MSG.desk.high", "hello"); /* answered once it is on disk */
    check(natsConnection_SubscribeSync(&inbox, nc, "$mq9.AI.MAILBOX.MSG.desk.*"));
    check(natsSubscription_NextMsg(&message, inbox, 5000));
    check(natsMsgHeader_Get(message, "mq9-priority", &priority));
    check(natsMsgHeader_Get(message, "mq9-msg-id", &msg_id));
    printf("%s %.*s\n", priority, natsMsg_GetDataLength(message), natsMsg_GetData(message));
    ask(nc, "$mq9.AI.MAILBOX.LIST.desk", "{\"limit\": 10}");
    snprintf(subject, sizeof(subject), "$mq9.AI.MAILBOX.DELETE.desk.%s", msg_id);
    ask(nc, subject, "");
    ask(nc, "$mq9.AI.PUBLIC.LIST", "");
    natsMsg_Destroy(message);
    natsSubscription_Destroy(inbox);
    natsConnection_Destroy(nc);
    nats_Close();
    return 0;
}
