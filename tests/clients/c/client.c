/* Plays the scenarios of tests/clients/README.md with nats.c, and prints one line of JSON for each. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <nats/nats.h>

#define PATIENCE_MS 15000
#define MAILBOX "$mq9.AI.MAILBOX."
#define TEXT_MAX 512

/* Where a scenario ends that has failed, and what is said of it. What it had open is left to the end of the program. */
static jmp_buf failed;
static char failure[TEXT_MAX];

static void fail(const char *why)
{
    snprintf(failure, sizeof(failure), "%s", why);
    longjmp(failed, 1);
}

static void must(natsStatus status)
{
    if (status != NATS_OK)
        fail(natsStatus_GetText(status));
}

static const char *format(const char *pattern, ...)
{
    static char texts[8][TEXT_MAX];
    static int at;
    va_list arguments;

    at = (at + 1) % 8;
    va_start(arguments, pattern);
    vsnprintf(texts[at], TEXT_MAX, pattern, arguments);
    va_end(arguments);
    return texts[at];
}

static void say(cJSON *line)
{
    char *text = cJSON_PrintUnformatted(line);

    puts(text);
    fflush(stdout);
    free(text);
    cJSON_Delete(line);
}

static natsOptions *options(void)
{
    natsOptions *made = NULL;

    must(natsOptions_Create(&made));
    must(natsOptions_SetURL(made, getenv("NATS_URL")));
    must(natsOptions_SetTimeout(made, PATIENCE_MS));
    must(natsOptions_SetMaxReconnect(made, -1));
    must(natsOptions_SetReconnectWait(made, 50));
    must(natsOptions_SetReconnectJitter(made, 10, 10));
    return made;
}

static natsConnection *dial(natsOptions *with)
{
    natsConnection *client = NULL;
    natsStatus status = natsConnection_Connect(&client, with);

    natsOptions_Destroy(with);
    must(status);
    return client;
}

static natsConnection *connect_plain(void)
{
    return dial(options());
}

/* Numbers and texts that callbacks of other threads keep. */
struct tally
{
    pthread_mutex_t lock;
    int count;
    bool seen[256];
    int different;
};

static struct tally *new_tally(void)
{
    struct tally *made = calloc(1, sizeof(*made));

    pthread_mutex_init(&made->lock, NULL);
    return made;
}

static void add(struct tally *tally, natsMsg *message)
{
    int number = message == NULL ? 0 : atoi(format("%.*s", natsMsg_GetDataLength(message), natsMsg_GetData(message))) % 256;

    pthread_mutex_lock(&tally->lock);
    tally->count++;
    tally->different += !tally->seen[number];
    tally->seen[number] = true;
    pthread_mutex_unlock(&tally->lock);
}

static int count(struct tally *tally)
{
    pthread_mutex_lock(&tally->lock);
    int now = tally->count;
    pthread_mutex_unlock(&tally->lock);
    return now;
}

static int different(struct tally *tally)
{
    pthread_mutex_lock(&tally->lock);
    int now = tally->different;
    pthread_mutex_unlock(&tally->lock);
    return now;
}

static void on_message(natsConnection *client, natsSubscription *subscription, natsMsg *message, void *tally)
{
    (void)client;
    (void)subscription;
    add(tally, message);
    natsMsg_Destroy(message);
}

static void on_event(natsConnection *client, void *tally)
{
    (void)client;
    add(tally, NULL);
}

static void on_error(natsConnection *client, natsSubscription *subscription, natsStatus status, void *tally)
{
    (void)client;
    (void)subscription;
    if (status == NATS_NOT_PERMITTED)
        add(tally, NULL);
}

static void await(struct tally *tally, int wanted)
{
    struct timespec moment = {0, 1000000};

    for (int waited = 0; count(tally) < wanted; waited++)
    {
        if (waited > PATIENCE_MS)
            fail("it did not happen in time");
        nanosleep(&moment, NULL);
    }
}

/* Has the server stopped and started again, and comes back when the client is connected anew. */
static void restart(struct tally *again)
{
    char line[TEXT_MAX];
    cJSON *question = cJSON_CreateObject();

    cJSON_AddStringToObject(question, "ask", "restart");
    say(question);
    if (fgets(line, sizeof(line), stdin) == NULL)
        fail("nobody restarts the server");
    await(again, 1);
}

static natsSubscription *subscribe(natsConnection *client, const char *subject)
{
    natsSubscription *subscription = NULL;

    must(natsConnection_SubscribeSync(&subscription, client, subject));
    return subscription;
}

static natsMsg *next(natsSubscription *subscription)
{
    natsMsg *message = NULL;

    must(natsSubscription_NextMsg(&message, subscription, PATIENCE_MS));
    return message;
}

static const char *text(natsMsg *message)
{
    return format("%.*s", natsMsg_GetDataLength(message), natsMsg_GetData(message));
}

static const char *header(natsMsg *message, const char *name)
{
    const char *value = NULL;

    must(natsMsgHeader_Get(message, name, &value));
    return value;
}

static void publish(natsConnection *client, const char *subject, const char *payload)
{
    must(natsConnection_PublishString(client, subject, payload));
}

static void flush(natsConnection *client)
{
    must(natsConnection_FlushTimeout(client, PATIENCE_MS));
}

static cJSON *json_of(natsMsg *message)
{
    cJSON *parsed = cJSON_ParseWithLength(natsMsg_GetData(message), natsMsg_GetDataLength(message));

    if (parsed == NULL)
        fail("the answer is no JSON");
    return parsed;
}

static cJSON *ask(natsConnection *client, const char *subject, const char *body)
{
    natsMsg *answer = NULL;

    must(natsConnection_RequestString(&answer, client, subject, body, PATIENCE_MS));
    return json_of(answer);
}

static cJSON *part(cJSON *object, const char *name)
{
    cJSON *found = cJSON_GetObjectItemCaseSensitive(object, name);

    if (found == NULL)
        fail(format("there is no %s in the answer", name));
    return found;
}

static cJSON *copy(cJSON *object, const char *name)
{
    return cJSON_Duplicate(part(object, name), true);
}

static void append(cJSON *list, const char *item)
{
    cJSON_AddItemToArray(list, cJSON_CreateString(item));
}

/* What is called `name` in each of the objects of `list`. */
static cJSON *column(cJSON *answer, const char *list, const char *name)
{
    cJSON *found = cJSON_CreateArray(), *row;

    cJSON_ArrayForEach(row, part(answer, list)) cJSON_AddItemToArray(found, copy(row, name));
    return found;
}

/* core NATS */

static void connecting(cJSON *result)
{
    natsConnection *client = connect_plain();
    uint64_t id = 0;

    must(natsConnection_GetClientID(client, &id));
    cJSON_AddNumberToObject(result, "max_payload", (double)natsConnection_GetMaxPayload(client));
    cJSON_AddBoolToObject(result, "has_client_id", id > 0);
    cJSON_AddBoolToObject(result, "headers", natsConnection_HasHeaderSupport(client) == NATS_OK);
    natsConnection_Destroy(client);
}

static void publish_subscribe(cJSON *result)
{
    natsConnection *client = connect_plain();
    natsSubscription *subscription = subscribe(client, "flow.a");
    int largest = (int)natsConnection_GetMaxPayload(client);
    void *payload = calloc(1, largest);
    bool in_order = true;

    for (int number = 0; number < 500; number++)
        publish(client, "flow.a", format("%d", number));
    must(natsConnection_Publish(client, "flow.a", payload, largest));
    must(natsConnection_Publish(client, "flow.a", NULL, 0));
    for (int number = 0; number < 500; number++)
        in_order &= strcmp(text(next(subscription)), format("%d", number)) == 0;
    cJSON_AddBoolToObject(result, "in_order", in_order);
    cJSON_AddNumberToObject(result, "largest", natsMsg_GetDataLength(next(subscription)));
    cJSON_AddNumberToObject(result, "empty", natsMsg_GetDataLength(next(subscription)));
    natsConnection_Destroy(client);
}

static void wildcards(cJSON *result)
{
    static const char *patterns[] = {"wild.*.end", "wild.>"};
    static const char *subjects[] = {"wild.a.end", "wild.b.c", "wild", "other.a.end", "wild.last.end"};
    natsConnection *client = connect_plain();
    natsSubscription *subscriptions[2];
    cJSON *found = cJSON_AddArrayToObject(result, "got");

    for (int at = 0; at < 2; at++)
        subscriptions[at] = subscribe(client, patterns[at]);
    for (int at = 0; at < 5; at++)
        publish(client, subjects[at], "");
    /* In the order of the patterns, and in the order in which they were published: that is in order. */
    for (int at = 0; at < 2; at++)
    {
        const char *subject = "";

        while (strcmp(subject, "wild.last.end") != 0)
        {
            subject = natsMsg_GetSubject(next(subscriptions[at]));
            append(found, format("%s %s", patterns[at], subject));
        }
    }
    natsConnection_Destroy(client);
}

static void queues(cJSON *result)
{
    natsConnection *first = connect_plain(), *second = connect_plain();
    natsConnection *clients[] = {first, first, second, second};
    static const char *names[] = {"workers", "workers", "workers", "auditors"};
    struct tally *tallies[5], *workers = new_tally();
    natsSubscription *subscription = NULL;

    for (int at = 0; at < 4; at++)
    {
        tallies[at] = new_tally();
        must(natsConnection_QueueSubscribe(&subscription, clients[at], "jobs", names[at], on_message, tallies[at]));
    }
    tallies[4] = new_tally();
    must(natsConnection_Subscribe(&subscription, first, "jobs", on_message, tallies[4]));
    flush(first);
    flush(second);
    for (int number = 0; number < 120; number++)
        publish(first, "jobs", "job");
    await(tallies[3], 120);
    await(tallies[4], 120);
    for (int waited = 0; workers->count < 120 && waited < PATIENCE_MS; waited++)
    {
        nats_Sleep(1);
        workers->count = count(tallies[0]) + count(tallies[1]) + count(tallies[2]);
    }
    flush(first);
    flush(second);
    cJSON_AddNumberToObject(result, "workers", count(tallies[0]) + count(tallies[1]) + count(tallies[2]));
    cJSON_AddNumberToObject(result, "auditors", count(tallies[3]));
    cJSON_AddNumberToObject(result, "plain", count(tallies[4]));
    cJSON_AddBoolToObject(result, "all_worked", count(tallies[0]) > 0 && count(tallies[1]) > 0 && count(tallies[2]) > 0);
    natsConnection_Destroy(first);
    natsConnection_Destroy(second);
}

static void on_question(natsConnection *service, natsSubscription *subscription, natsMsg *question, void *nothing)
{
    char answer[TEXT_MAX];

    (void)subscription;
    (void)nothing;
    snprintf(answer, sizeof(answer), "to %.*s", natsMsg_GetDataLength(question), natsMsg_GetData(question));
    natsConnection_PublishString(service, natsMsg_GetReply(question), answer);
    natsMsg_Destroy(question);
}

static void requests_of(cJSON *result, natsOptions *with)
{
    natsConnection *client = dial(with), *service = connect_plain();
    natsSubscription *subscription = NULL;
    int right = 0;

    must(natsConnection_Subscribe(&subscription, service, "service.echo", on_question, NULL));
    flush(service);
    for (int number = 0; number < 50; number++)
    {
        natsMsg *answer = NULL;

        must(natsConnection_RequestString(&answer, client, "service.echo", format("%d", number), PATIENCE_MS));
        right += strcmp(text(answer), format("to %d", number)) == 0;
        natsMsg_Destroy(answer);
    }
    cJSON_AddNumberToObject(result, "right", right);
    natsConnection_Destroy(client);
    natsConnection_Destroy(service);
}

static void requests(cJSON *result)
{
    requests_of(result, options());
}

static void requests_old_style(cJSON *result)
{
    natsOptions *with = options();

    must(natsOptions_UseOldRequestStyle(with, true));
    requests_of(result, with);
}

static natsMsg *message_to(const char *subject, const char *payload)
{
    natsMsg *made = NULL;

    must(natsMsg_Create(&made, subject, NULL, payload, (int)strlen(payload)));
    return made;
}

static void headers(cJSON *result)
{
    static const char *names[] = {"X-Case", "lower"}, *values[] = {"Kept", "a: b"};
    natsConnection *client = connect_plain();
    natsSubscription *subscription = subscribe(client, "headed");
    natsMsg *message = message_to("headed", "body"), *got[3];
    cJSON *first = cJSON_AddObjectToObject(result, "first"), *bodies = cJSON_AddArrayToObject(result, "bodies");
    const char **keys = NULL;
    int found = 0;

    for (int at = 0; at < 2; at++)
        must(natsMsgHeader_Set(message, names[at], values[at]));
    must(natsConnection_PublishMsg(client, message));
    message = message_to("headed", "");
    must(natsMsgHeader_Set(message, "only", "this"));
    must(natsConnection_PublishMsg(client, message));
    publish(client, "headed", "none");
    for (int at = 0; at < 3; at++)
    {
        got[at] = next(subscription);
        append(bodies, text(got[at]));
    }
    for (int at = 0; at < 2; at++)
        cJSON_AddStringToObject(first, names[at], header(got[0], names[at]));
    cJSON_AddStringToObject(result, "only", header(got[1], "only"));
    cJSON_AddBoolToObject(result, "none", natsMsgHeader_Keys(got[2], &keys, &found) == NATS_NOT_FOUND);
    natsConnection_Destroy(client);
}

static void header_twice(cJSON *result)
{
    natsConnection *client = connect_plain();
    natsSubscription *subscription = subscribe(client, "headed.twice");
    natsMsg *message = message_to("headed.twice", "");
    const char **values = NULL;
    int found = 0;

    must(natsMsgHeader_Add(message, "X-Two", "a"));
    must(natsMsgHeader_Add(message, "X-Two", "b"));
    must(natsConnection_PublishMsg(client, message));
    must(natsMsgHeader_Values(next(subscription), "X-Two", &values, &found));
    cJSON_AddItemToObject(result, "values", cJSON_CreateStringArray(values, found));
    natsConnection_Destroy(client);
}

static void no_responders(cJSON *result)
{
    natsConnection *client = connect_plain();
    natsMsg *answer = NULL;
    natsStatus status = natsConnection_RequestString(&answer, client, "nobody.is.there", "", PATIENCE_MS);

    cJSON_AddBoolToObject(result, "no_responders", status == NATS_NO_RESPONDERS);
    natsConnection_Destroy(client);
}

static void unsubscribe(cJSON *result)
{
    natsConnection *client = connect_plain();
    natsSubscription *limited = subscribe(client, "few"), *witness = subscribe(client, "few");
    natsMsg *message = NULL;
    int found = 0;

    must(natsSubscription_AutoUnsubscribe(limited, 3));
    for (int number = 0; number < 10; number++)
        publish(client, "few", format("%d", number));
    for (int number = 0; number < 10; number++)
        next(witness);
    while (natsSubscription_NextMsg(&message, limited, PATIENCE_MS) == NATS_OK)
        found++;
    cJSON_AddNumberToObject(result, "limited", found);
    cJSON_AddNumberToObject(result, "witness", 10);
    natsConnection_Destroy(client);
}

static void no_echo(cJSON *result)
{
    natsOptions *with = options();
    natsConnection *quiet, *other = connect_plain();
    natsSubscription *subscription;

    must(natsOptions_SetNoEcho(with, true));
    quiet = dial(with);
    subscription = subscribe(quiet, "echoes");
    publish(quiet, "echoes", "mine");
    flush(quiet);
    publish(other, "echoes", "theirs");
    cJSON_AddStringToObject(result, "got", text(next(subscription)));
    natsConnection_Destroy(quiet);
    natsConnection_Destroy(other);
}

static void drain(cJSON *result)
{
    natsOptions *with = options();
    natsConnection *receiver, *publisher = connect_plain();
    natsSubscription *subscription = NULL;
    struct tally *handled = new_tally(), *closed = new_tally();

    must(natsOptions_SetClosedCB(with, on_event, closed));
    receiver = dial(with);
    must(natsConnection_Subscribe(&subscription, receiver, "drained", on_message, handled));
    flush(receiver);
    for (int number = 0; number < 200; number++)
        publish(publisher, "drained", "x");
    flush(publisher);
    flush(receiver);
    must(natsConnection_Drain(receiver));
    await(closed, 1);
    cJSON_AddNumberToObject(result, "handled", count(handled));
    cJSON_AddBoolToObject(result, "closed", natsConnection_IsClosed(receiver));
    natsConnection_Destroy(publisher);
}

static natsConnection *watched(struct tally *again)
{
    natsOptions *with = options();

    must(natsOptions_SetReconnectedCB(with, on_event, again));
    return dial(with);
}

static void reconnect(cJSON *result)
{
    static const char *subjects[] = {"again.a", "again.q", "again.w.x"}, *rounds[] = {"before", "after"};
    struct tally *again = new_tally();
    natsConnection *client = watched(again);
    natsSubscription *several[3], *limited;
    natsMsg *message = NULL;

    several[0] = subscribe(client, "again.a");
    must(natsConnection_QueueSubscribeSync(&several[1], client, "again.q", "group"));
    several[2] = subscribe(client, "again.w.*");
    limited = subscribe(client, "again.a");
    must(natsSubscription_AutoUnsubscribe(limited, 3));
    for (int round = 0; round < 2; round++)
    {
        cJSON *found = cJSON_AddArrayToObject(result, rounds[round]);

        if (round == 1)
            restart(again);
        for (int at = 0; at < 3; at++)
            publish(client, subjects[at], "x");
        for (int at = 0; at < 3; at++)
            append(found, natsMsg_GetSubject(next(several[at])));
        next(limited);
    }
    publish(client, "again.a", "x");
    next(limited);
    publish(client, "again.a", "x");
    cJSON_AddBoolToObject(result, "limited_has_ended", natsSubscription_NextMsg(&message, limited, PATIENCE_MS) != NATS_OK);
    natsConnection_Destroy(client);
}

/* mailboxes */

static const char *create(natsConnection *client, const char *name, bool public)
{
    const char *body = format("{\"name\": \"%s\", \"public\": %s, \"ttl\": 3600}", name, public ? "true" : "false");

    return part(ask(client, MAILBOX "CREATE", body), "mail_id")->valuestring;
}

static long long send_mail(natsConnection *client, const char *mail_id, const char *priority, const char *payload)
{
    cJSON *answer = ask(client, format(MAILBOX "MSG.%s%s", mail_id, priority), payload);

    return (long long)part(answer, "msg_id")->valuedouble;
}

static bool is_private(const char *mail_id)
{
    return strlen(mail_id) == 28 && strncmp(mail_id, "m-", 2) == 0
        && strspn(mail_id + 2, "abcdefghijklmnopqrstuvwxyz234567") == 26;
}

static void mailbox_create(cJSON *result)
{
    natsConnection *client = connect_plain();
    cJSON *made = ask(client, MAILBOX "CREATE", "");
    cJSON *first = ask(client, MAILBOX "CREATE", "{\"name\": \"create.one\", \"ttl\": 60}");
    cJSON *second = ask(client, MAILBOX "CREATE", "{\"name\": \"create.one\", \"ttl\": 90}");
    cJSON *is_new;

    cJSON_AddBoolToObject(result, "private", is_private(part(made, "mail_id")->valuestring));
    cJSON_AddItemToObject(result, "name", copy(first, "mail_id"));
    is_new = cJSON_AddArrayToObject(result, "is_new");
    cJSON_AddItemToArray(is_new, copy(made, "is_new"));
    cJSON_AddItemToArray(is_new, copy(first, "is_new"));
    cJSON_AddItemToArray(is_new, copy(second, "is_new"));
    cJSON_AddItemToObject(result, "ttl", copy(second, "ttl"));
    natsConnection_Destroy(client);
}

static const char *shown(natsMsg *message)
{
    return format("%s %s", header(message, "mq9-priority"), text(message));
}

static void mailbox_receive(cJSON *result)
{
    natsConnection *client = connect_plain();
    const char *name = create(client, "receive.one", false);
    long long ids[3] = {0, 0, send_mail(client, name, ".low", "later")};
    natsMsg *message = message_to(format(MAILBOX "MSG.%s", name), "first"), *answer = NULL;
    natsSubscription *all, *only;
    cJSON *got = cJSON_AddArrayToObject(result, "got"), *high;
    bool right = true;

    ids[1] = send_mail(client, name, "", "next");
    must(natsMsgHeader_Set(message, "mq9-priority", "high"));
    must(natsMsgHeader_Set(message, "my-own", "kept"));
    must(natsConnection_RequestMsg(&answer, client, message, PATIENCE_MS));
    ids[0] = (long long)part(json_of(answer), "msg_id")->valuedouble;
    all = subscribe(client, format(MAILBOX "MSG.%s.*", name));
    only = subscribe(client, format(MAILBOX "MSG.%s.high", name));
    for (int at = 0; at < 3; at++)
    {
        message = next(all);
        append(got, shown(message));
        right &= strcmp(header(message, "mq9-msg-id"), format("%lld", ids[at])) == 0;
        right &= at > 0 || strcmp(header(message, "my-own"), "kept") == 0;
    }
    cJSON_AddBoolToObject(result, "right", right);
    cJSON_AddStringToObject(result, "pending", header(message, "mq9-pending"));
    publish(client, format(MAILBOX "MSG.%s.urgent", name), "live");
    cJSON_AddStringToObject(result, "live", shown(next(all)));
    send_mail(client, name, ".high", "again");
    high = cJSON_AddArrayToObject(result, "high");
    append(high, text(next(only)));
    append(high, text(next(only)));
    natsConnection_Destroy(client);
}

static void send_three(natsConnection *client, const char *name)
{
    send_mail(client, name, "", "a");
    send_mail(client, name, "", "b");
    send_mail(client, name, "", "c");
}

static void mailbox_fetch(cJSON *result)
{
    natsConnection *client = connect_plain();
    const char *name = create(client, "fetch.one", false);
    cJSON *first, *second, *pages;

    send_three(client, name);
    first = ask(client, format(MAILBOX "LIST.%s", name), "{\"limit\": 2}");
    second = ask(client, format(MAILBOX "LIST.%s", name),
                 format("{\"limit\": 2, \"after\": %.0f}", part(first, "next")->valuedouble));
    pages = cJSON_AddArrayToObject(result, "pages");
    cJSON_AddItemToArray(pages, column(first, "messages", "payload"));
    cJSON_AddItemToArray(pages, column(second, "messages", "payload"));
    cJSON_AddBoolToObject(result, "end", cJSON_IsNull(part(second, "next")));
    natsConnection_Destroy(client);
}

static void mailbox_delete(cJSON *result)
{
    natsConnection *client = connect_plain();
    const char *name = create(client, "delete.one", false);
    long long id = send_mail(client, name, "", "a");
    cJSON *deleted = cJSON_AddArrayToObject(result, "deleted");
    natsMsg *refusal = NULL;

    send_mail(client, name, "", "b");
    for (int time = 0; time < 2; time++)
        cJSON_AddItemToArray(deleted, copy(ask(client, format(MAILBOX "DELETE.%s.%lld", name, id), ""), "deleted"));
    cJSON_AddItemToObject(result, "left", column(ask(client, format(MAILBOX "LIST.%s", name), ""), "messages", "payload"));
    cJSON_AddItemToObject(result, "removed", copy(ask(client, format(MAILBOX "REMOVE.%s", name), ""), "deleted"));
    must(natsConnection_RequestString(&refusal, client, format(MAILBOX "LIST.%s", name), "", PATIENCE_MS));
    cJSON_AddStringToObject(result, "code", header(refusal, "Nats-Service-Error-Code"));
    natsConnection_Destroy(client);
}

static void note_event(cJSON *events, natsSubscription *subscription)
{
    cJSON *said = json_of(next(subscription));

    append(events, format("%s %s", part(said, "event")->valuestring, part(said, "mail_id")->valuestring));
}

static void mailbox_list(cJSON *result)
{
    natsConnection *client = connect_plain();
    cJSON *events = cJSON_AddArrayToObject(result, "events"), *answer;
    natsSubscription *subscription;

    create(client, "list.one", true);
    subscription = subscribe(client, "$mq9.AI.PUBLIC.LIST");
    note_event(events, subscription);
    create(client, "list.two", true);
    note_event(events, subscription);
    answer = ask(client, "$mq9.AI.PUBLIC.LIST", "{\"prefix\": \"list.\"}");
    cJSON_AddItemToObject(result, "listed", column(answer, "mailboxes", "mail_id"));
    ask(client, MAILBOX "REMOVE.list.two", "");
    note_event(events, subscription);
    ask(client, MAILBOX "REMOVE.list.one", "");
    natsConnection_Destroy(client);
}

static cJSON *fetch_work(natsConnection *client, const char *name, int most)
{
    return ask(client, format("$mq9.AI.MSG.FETCH.%s", name),
               format("{\"group_name\": \"workers\", \"lease_ms\": 60000,"
                      " \"config\": {\"num_msgs\": %d, \"max_wait_ms\": 0}}",
                      most));
}

/* What a base64 of one byte stands for. */
static char decoded(const char *base64)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return (char)((strchr(alphabet, base64[0]) - alphabet) << 2 | (strchr(alphabet, base64[1]) - alphabet) >> 4);
}

static cJSON *worked(cJSON *answer)
{
    cJSON *found = cJSON_CreateArray(), *message;

    cJSON_ArrayForEach(message, part(answer, "messages"))
    {
        append(found, format("%c %d", decoded(part(message, "payload")->valuestring), part(message, "attempt")->valueint));
    }
    return found;
}

static cJSON *acknowledge(natsConnection *client, const char *name, const char *op, cJSON *ids)
{
    cJSON *request = cJSON_CreateObject();

    cJSON_AddStringToObject(request, "group_name", "workers");
    cJSON_AddStringToObject(request, "op", op);
    cJSON_AddItemToObject(request, "msg_ids", ids);
    return copy(ask(client, format("$mq9.AI.MSG.ACK.%s", name), cJSON_PrintUnformatted(request)), "error");
}

static cJSON *one_of(cJSON *answer, int at)
{
    cJSON *list = cJSON_CreateArray();

    cJSON_AddItemToArray(list, copy(cJSON_GetArrayItem(part(answer, "messages"), at), "msg_id"));
    return list;
}

static void mailbox_work(cJSON *result)
{
    natsConnection *client = connect_plain();
    const char *name = create(client, "work.one", false);
    cJSON *first;

    send_three(client, name);
    first = fetch_work(client, name, 2);
    cJSON_AddItemToObject(result, "first", worked(first));
    cJSON_AddItemToObject(result, "acked", acknowledge(client, name, "ack", one_of(first, 0)));
    cJSON_AddItemToObject(result, "nacked", acknowledge(client, name, "nack", one_of(first, 1)));
    cJSON_AddItemToObject(result, "second", worked(fetch_work(client, name, 10)));
    cJSON_AddItemToObject(result, "third", worked(fetch_work(client, name, 10)));
    natsConnection_Destroy(client);
}

static void mailbox_workers(cJSON *result)
{
    natsConnection *clients[] = {connect_plain(), connect_plain()};
    const char *name = create(clients[0], "workers.one", false);
    struct tally *found = new_tally();
    natsSubscription *subscription = NULL;

    for (int at = 0; at < 2; at++)
    {
        must(natsConnection_QueueSubscribe(&subscription, clients[at], format(MAILBOX "MSG.%s", name), "workers", on_message,
                                           found));
        flush(clients[at]);
    }
    for (int number = 0; number < 40; number++)
        send_mail(clients[0], name, "", format("%d", number));
    await(found, 40);
    for (int waited = 0; different(found) < 40 && waited < PATIENCE_MS; waited++)
        nats_Sleep(1);
    flush(clients[0]);
    flush(clients[1]);
    cJSON_AddNumberToObject(result, "handled", count(found));
    natsConnection_Destroy(clients[0]);
    natsConnection_Destroy(clients[1]);
}

static void mailbox_refusal(cJSON *result)
{
    natsOptions *with = options();
    struct tally *heard = new_tally();
    natsConnection *client;

    must(natsOptions_SetErrorHandler(with, on_error, heard));
    client = dial(with);
    publish(client, MAILBOX "MSG.nobody", "hello");
    await(heard, 1);
    flush(client);
    cJSON_AddNumberToObject(result, "heard", count(heard));
    cJSON_AddBoolToObject(result, "connected", natsConnection_Status(client) == NATS_CONN_STATUS_CONNECTED);
    natsConnection_Destroy(client);
}

static void mailbox_restart(cJSON *result)
{
    struct tally *again = new_tally();
    natsConnection *client = watched(again);
    const char *name = create(client, "restart.one", false);
    natsSubscription *subscription = subscribe(client, format(MAILBOX "MSG.%s.*", name));
    cJSON *before = cJSON_AddArrayToObject(result, "before"), *after;

    send_mail(client, name, "", "a");
    append(before, text(next(subscription)));
    send_mail(client, name, "", "b");
    append(before, text(next(subscription)));
    restart(again);
    send_mail(client, name, "", "c");
    after = cJSON_AddArrayToObject(result, "after");
    for (int number = 0; number < 3; number++)
        append(after, text(next(subscription)));
    cJSON_AddItemToObject(result, "stored", column(ask(client, format(MAILBOX "LIST.%s", name), ""), "messages", "payload"));
    natsConnection_Destroy(client);
}

static void mailbox_work_restart(cJSON *result)
{
    struct tally *again = new_tally();
    natsConnection *client = watched(again);
    const char *name = create(client, "restart.work", false);
    cJSON *first, *second, *ids, *id;

    send_mail(client, name, "", "a");
    send_mail(client, name, "", "b");
    first = fetch_work(client, name, 1);
    restart(again);
    second = fetch_work(client, name, 10);
    ids = column(first, "messages", "msg_id");
    cJSON_ArrayForEach(id, column(second, "messages", "msg_id")) cJSON_AddItemToArray(ids, cJSON_Duplicate(id, true));
    cJSON_AddItemToObject(result, "first", worked(first));
    cJSON_AddItemToObject(result, "second", worked(second));
    cJSON_AddItemToObject(result, "acked", acknowledge(client, name, "ack", ids));
    natsConnection_Destroy(client);
}

/* who may come in */

static natsOptions *credentials(void)
{
    natsOptions *with = options();

    if (getenv("NATS_USER") != NULL)
        must(natsOptions_SetUserInfo(with, getenv("NATS_USER"), getenv("NATS_PASSWORD")));
    if (getenv("NATS_TOKEN") != NULL)
        must(natsOptions_SetToken(with, getenv("NATS_TOKEN")));
    if (getenv("NATS_NKEY_SEED_FILE") != NULL)
        must(natsOptions_SetNKeyFromSeed(with, getenv("NATS_NKEY"), getenv("NATS_NKEY_SEED_FILE")));
    if (getenv("NATS_CA") != NULL)
    {
        must(natsOptions_SetSecure(with, true));
        must(natsOptions_LoadCATrustedCertificates(with, getenv("NATS_CA")));
        must(natsOptions_SetExpectedHostname(with, "localhost"));
    }
    if (getenv("NATS_CERT") != NULL)
        must(natsOptions_LoadCertificatesChain(with, getenv("NATS_CERT"), getenv("NATS_KEY")));
    return with;
}

static void come_and_go(cJSON *result, natsConnection *client)
{
    natsSubscription *subscription = subscribe(client, "open.a");

    publish(client, "open.a", "hello");
    cJSON_AddStringToObject(result, "got", text(next(subscription)));
    natsConnection_Destroy(client);
}

static void round_trip(cJSON *result)
{
    come_and_go(result, dial(credentials()));
}

static void refused(cJSON *result)
{
    natsOptions *with = credentials();
    natsConnection *client = NULL;

    must(natsOptions_SetAllowReconnect(with, false));
    cJSON_AddBoolToObject(result, "refused", natsConnection_Connect(&client, with) != NATS_OK);
}

static void permissions(cJSON *result)
{
    natsOptions *with = credentials();
    struct tally *heard = new_tally();
    natsConnection *client;

    must(natsOptions_SetErrorHandler(with, on_error, heard));
    client = dial(with);
    publish(client, "closed.a", "hello");
    await(heard, 1);
    cJSON_AddNumberToObject(result, "heard", count(heard));
    come_and_go(result, client);
}

static const struct
{
    const char *name;
    void (*play)(cJSON *result);
} scenarios[] = {
    {"connect", connecting},
    {"publish_subscribe", publish_subscribe},
    {"wildcards", wildcards},
    {"queues", queues},
    {"requests", requests},
    {"requests_old_style", requests_old_style},
    {"headers", headers},
    {"header_twice", header_twice},
    {"no_responders", no_responders},
    {"unsubscribe", unsubscribe},
    {"no_echo", no_echo},
    {"drain", drain},
    {"reconnect", reconnect},
    {"mailbox_create", mailbox_create},
    {"mailbox_receive", mailbox_receive},
    {"mailbox_fetch", mailbox_fetch},
    {"mailbox_delete", mailbox_delete},
    {"mailbox_list", mailbox_list},
    {"mailbox_work", mailbox_work},
    {"mailbox_workers", mailbox_workers},
    {"mailbox_refusal", mailbox_refusal},
    {"mailbox_restart", mailbox_restart},
    {"mailbox_work_restart", mailbox_work_restart},
    {"round_trip", round_trip},
    {"refused", refused},
    {"permissions", permissions},
};

static void play(const char *name)
{
    cJSON *line = cJSON_CreateObject();

    cJSON_AddStringToObject(line, "scenario", name);
    if (setjmp(failed) != 0)
    {
        cJSON_DeleteItemFromObject(line, "result");
        cJSON_AddStringToObject(line, "error", failure);
        say(line);
        return;
    }
    for (size_t at = 0; at < sizeof(scenarios) / sizeof(scenarios[0]); at++)
    {
        if (strcmp(scenarios[at].name, name) == 0)
        {
            scenarios[at].play(cJSON_AddObjectToObject(line, "result"));
            say(line);
            return;
        }
    }
    fail("there is no such scenario");
}

int main(int argc, char **argv)
{
    for (int at = 1; at < argc; at++)
        play(argv[at]);
    return 0;
}
