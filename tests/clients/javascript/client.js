// Plays the scenarios of tests/clients/README.md with nats.js, and prints one line of JSON for each.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import {
  connect as dial,
  headers as newHeaders,
  nkeyAuthenticator,
  NoRespondersError,
  PermissionViolationError,
} from "@nats-io/transport-node";

const PATIENCE_MS = 15_000;
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const text = (bytes) => new TextDecoder().decode(bytes);

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function connect(options = {}) {
  return dial({
    servers: process.env.NATS_URL,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50,
    reconnectJitter: 10,
    timeout: PATIENCE_MS,
    ...options,
  });
}

// Has the server stopped and started again, and comes back when the client is connected anew.
async function restart(client) {
  const statuses = client.status()[Symbol.asyncIterator]();
  say({ ask: "restart" });
  await input.next();
  for (;;) {
    const { value } = await inTime(statuses.next());
    if (value.type === "reconnect") return;
  }
}

function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it did not happen in time")), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function until(condition) {
  for (const deadline = Date.now() + PATIENCE_MS; !condition(); await new Promise((next) => setTimeout(next, 1))) {
    if (Date.now() > deadline) throw new Error("it did not happen in time");
  }
}

// A subscription whose messages are taken one after the other.
function take(client, subject, options = {}) {
  const messages = client.subscribe(subject, options)[Symbol.asyncIterator]();
  return {
    next: async () => {
      const { value, done } = await inTime(messages.next());
      if (done) throw new Error("the subscription has ended");
      return value;
    },
    ended: async () => (await inTime(messages.next())).done === true,
  };
}

async function ask(client, subject, body = "") {
  const payload = typeof body === "string" ? body : JSON.stringify(body);
  return JSON.parse(text((await client.request(subject, payload, { timeout: PATIENCE_MS })).data));
}

// core NATS

async function connecting(client) {
  return {
    max_payload: client.info.max_payload,
    has_client_id: client.info.client_id > 0,
    headers: client.info.headers,
  };
}

async function publishSubscribe(client) {
  const messages = take(client, "flow.a");
  for (let number = 0; number < 500; number++) client.publish("flow.a", String(number));
  client.publish("flow.a", new Uint8Array(client.info.max_payload));
  client.publish("flow.a");
  let inOrder = true;
  for (let number = 0; number < 500; number++) inOrder &&= text((await messages.next()).data) === String(number);
  return {
    in_order: inOrder,
    largest: (await messages.next()).data.length,
    empty: (await messages.next()).data.length,
  };
}

async function wildcards(client) {
  const patterns = ["wild.*.end", "wild.>"];
  const subscriptions = patterns.map((pattern) => take(client, pattern));
  for (const subject of ["wild.a.end", "wild.b.c", "wild", "other.a.end", "wild.last.end"]) client.publish(subject);
  const found = [];
  for (const [at, pattern] of patterns.entries()) {
    for (let subject = ""; subject !== "wild.last.end"; ) {
      subject = (await subscriptions[at].next()).subject;
      found.push(`${pattern} ${subject}`);
    }
  }
  return { got: found.sort() };
}

async function queues(first) {
  const second = await connect();
  const counts = [0, 0, 0, 0, 0];
  const subscribe = (client, queue, at) => client.subscribe("jobs", { queue, callback: () => counts[at]++ });
  subscribe(first, "workers", 0);
  subscribe(first, "workers", 1);
  subscribe(second, "workers", 2);
  subscribe(second, "auditors", 3);
  first.subscribe("jobs", { callback: () => counts[4]++ });
  await first.flush();
  await second.flush();
  for (let number = 0; number < 120; number++) first.publish("jobs", "job");
  const workers = () => counts[0] + counts[1] + counts[2];
  await until(() => workers() >= 120 && counts[3] >= 120 && counts[4] >= 120);
  await first.flush();
  await second.flush();
  await second.close();
  return {
    workers: workers(),
    auditors: counts[3],
    plain: counts[4],
    all_worked: counts.slice(0, 3).every((count) => count > 0),
  };
}

async function requests(client, strategy) {
  const service = await connect();
  service.subscribe("service.echo", { callback: (_, message) => message.respond(`to ${text(message.data)}`) });
  await service.flush();
  const numbers = [...Array(50).keys()];
  const answers = await Promise.all(
    numbers.map((number) =>
      client.request("service.echo", String(number), { timeout: PATIENCE_MS, noMux: strategy === "own inbox" })
    ),
  );
  await service.close();
  return { right: numbers.filter((number) => text(answers[number].data) === `to ${number}`).length };
}

async function headers(client) {
  const messages = take(client, "headed");
  const some = newHeaders();
  some.set("X-Case", "Kept");
  some.set("lower", "a: b");
  client.publish("headed", "body", { headers: some });
  const only = newHeaders();
  only.set("only", "this");
  client.publish("headed", "", { headers: only });
  client.publish("headed", "none");
  const [first, second, third] = [await messages.next(), await messages.next(), await messages.next()];
  return {
    first: Object.fromEntries(["X-Case", "lower"].map((name) => [name, first.headers.get(name)])),
    bodies: [first, second, third].map((message) => text(message.data)),
    only: second.headers.get("only"),
    none: third.headers === undefined,
  };
}

async function headerEmpty(client) {
  const messages = take(client, "headed.empty");
  const empty = newHeaders();
  empty.set("empty", "");
  client.publish("headed.empty", "", { headers: empty });
  return { values: (await messages.next()).headers.values("empty") };
}

async function headerTwice(client) {
  const messages = take(client, "headed.twice");
  const twice = newHeaders();
  twice.append("X-Two", "a");
  twice.append("X-Two", "b");
  client.publish("headed.twice", "", { headers: twice });
  return { values: (await messages.next()).headers.values("X-Two") };
}

async function noResponders(client) {
  try {
    await client.request("nobody.is.there", "", { timeout: PATIENCE_MS });
    return { no_responders: false };
  } catch (error) {
    return { no_responders: error instanceof NoRespondersError || error.cause instanceof NoRespondersError };
  }
}

async function unsubscribe(client) {
  let limited = 0;
  const subscription = client.subscribe("few", { max: 3, callback: () => limited++ });
  const witness = take(client, "few");
  for (let number = 0; number < 10; number++) client.publish("few", String(number));
  for (let number = 0; number < 10; number++) await witness.next();
  await inTime(subscription.closed);
  return { limited, witness: 10 };
}

async function noEcho(other) {
  const quiet = await connect({ noEcho: true });
  const messages = take(quiet, "echoes");
  quiet.publish("echoes", "mine");
  await quiet.flush();
  other.publish("echoes", "theirs");
  const got = text((await messages.next()).data);
  await quiet.close();
  return { got };
}

async function drain(publisher) {
  const receiver = await connect();
  let handled = 0;
  receiver.subscribe("drained", { callback: () => handled++ });
  await receiver.flush();
  for (let number = 0; number < 200; number++) publisher.publish("drained", "x");
  await publisher.flush();
  await receiver.flush();
  await inTime(receiver.drain());
  return { handled, closed: receiver.isClosed() };
}

async function reconnect(client) {
  const plain = take(client, "again.a");
  const queue = take(client, "again.q", { queue: "group" });
  const wild = take(client, "again.w.*");
  const limited = take(client, "again.a", { max: 3 });
  const round = async () => {
    for (const subject of ["again.a", "again.q", "again.w.x"]) client.publish(subject, "x");
    const found = [];
    for (const each of [plain, queue, wild]) found.push((await each.next()).subject);
    await limited.next();
    return found;
  };
  const before = await round();
  await restart(client);
  const after = await round();
  client.publish("again.a", "x");
  await limited.next();
  client.publish("again.a", "x");
  return { before, after, limited_has_ended: await limited.ended() };
}

// mailboxes

const MAILBOX = "$mq9.AI.MAILBOX.";

async function create(client, name, isPublic = false) {
  return (await ask(client, `${MAILBOX}CREATE`, { name, public: isPublic, ttl: 3600 })).mail_id;
}

async function send(client, mailId, priority, payload) {
  return (await ask(client, `${MAILBOX}MSG.${mailId}${priority}`, payload)).msg_id;
}

const payloads = (answer) => answer.messages.map((message) => message.payload);

async function mailboxCreate(client) {
  const made = await ask(client, `${MAILBOX}CREATE`);
  const first = await ask(client, `${MAILBOX}CREATE`, { name: "create.one", ttl: 60 });
  const second = await ask(client, `${MAILBOX}CREATE`, { name: "create.one", ttl: 90 });
  return {
    private: /^m-[a-z2-7]{26}$/.test(made.mail_id),
    name: first.mail_id,
    is_new: [made.is_new, first.is_new, second.is_new],
    ttl: second.ttl,
  };
}

async function mailboxReceive(client) {
  const name = await create(client, "receive.one");
  const low = await send(client, name, ".low", "later");
  const normal = await send(client, name, "", "next");
  const own = newHeaders();
  own.set("mq9-priority", "high");
  own.set("my-own", "kept");
  const answer = await client.request(`${MAILBOX}MSG.${name}`, "first", { headers: own, timeout: PATIENCE_MS });
  const ids = [JSON.parse(text(answer.data)).msg_id, normal, low].map(String);
  const all = take(client, `${MAILBOX}MSG.${name}.*`);
  const high = take(client, `${MAILBOX}MSG.${name}.high`);
  const messages = [await all.next(), await all.next(), await all.next()];
  const shown = (message) => `${message.headers.get("mq9-priority")} ${text(message.data)}`;
  client.publish(`${MAILBOX}MSG.${name}.urgent`, "live");
  const live = shown(await all.next());
  await send(client, name, ".high", "again");
  return {
    got: messages.map(shown),
    right:
      messages.every((message, at) => message.headers.get("mq9-msg-id") === ids[at]) &&
      messages[0].headers.get("my-own") === "kept",
    pending: messages[2].headers.get("mq9-pending"),
    live,
    high: [text((await high.next()).data), text((await high.next()).data)],
  };
}

async function mailboxFetch(client) {
  const name = await create(client, "fetch.one");
  for (const payload of ["a", "b", "c"]) await send(client, name, "", payload);
  const first = await ask(client, `${MAILBOX}LIST.${name}`, { limit: 2 });
  const second = await ask(client, `${MAILBOX}LIST.${name}`, { limit: 2, after: first.next });
  return { pages: [payloads(first), payloads(second)], end: second.next === null };
}

async function mailboxDelete(client) {
  const name = await create(client, "delete.one");
  const id = await send(client, name, "", "a");
  await send(client, name, "", "b");
  const deleted = [];
  for (let time = 0; time < 2; time++) deleted.push((await ask(client, `${MAILBOX}DELETE.${name}.${id}`)).deleted);
  const left = payloads(await ask(client, `${MAILBOX}LIST.${name}`));
  const removed = (await ask(client, `${MAILBOX}REMOVE.${name}`)).deleted;
  const refusal = await client.request(`${MAILBOX}LIST.${name}`, "", { timeout: PATIENCE_MS });
  return { deleted, left, removed, code: refusal.headers.get("Nats-Service-Error-Code") };
}

async function mailboxList(client) {
  await create(client, "list.one", true);
  const messages = take(client, "$mq9.AI.PUBLIC.LIST");
  const event = async () => {
    const said = JSON.parse(text((await messages.next()).data));
    return `${said.event} ${said.mail_id}`;
  };
  const events = [await event()];
  await create(client, "list.two", true);
  events.push(await event());
  const listed = (await ask(client, "$mq9.AI.PUBLIC.LIST", { prefix: "list." })).mailboxes.map((each) => each.mail_id);
  await ask(client, `${MAILBOX}REMOVE.list.two`);
  events.push(await event());
  await ask(client, `${MAILBOX}REMOVE.list.one`);
  return { events, listed };
}

async function fetchWork(client, name, count) {
  const answer = await ask(client, `$mq9.AI.MSG.FETCH.${name}`, {
    group_name: "workers",
    lease_ms: 60_000,
    config: { num_msgs: count, max_wait_ms: 0 },
  });
  return {
    shown: answer.messages.map((each) => `${Buffer.from(each.payload, "base64")} ${each.attempt}`),
    ids: answer.messages.map((each) => each.msg_id),
  };
}

async function acknowledge(client, name, op, ids) {
  return (await ask(client, `$mq9.AI.MSG.ACK.${name}`, { group_name: "workers", msg_ids: ids, op })).error;
}

async function mailboxWork(client) {
  const name = await create(client, "work.one");
  for (const payload of ["a", "b", "c"]) await send(client, name, "", payload);
  const first = await fetchWork(client, name, 2);
  const acked = await acknowledge(client, name, "ack", first.ids.slice(0, 1));
  const nacked = await acknowledge(client, name, "nack", first.ids.slice(1));
  const second = await fetchWork(client, name, 10);
  const third = await fetchWork(client, name, 10);
  return { first: first.shown, acked, nacked, second: second.shown, third: third.shown };
}

async function mailboxWorkers(first) {
  const second = await connect();
  const name = await create(first, "workers.one");
  const found = [];
  for (const client of [first, second]) {
    client.subscribe(`${MAILBOX}MSG.${name}`, {
      queue: "workers",
      callback: (_, message) => found.push(text(message.data)),
    });
    await client.flush();
  }
  for (let number = 0; number < 40; number++) await send(first, name, "", String(number));
  await until(() => new Set(found).size === 40);
  await first.flush();
  await second.flush();
  await second.close();
  return { handled: found.length };
}

// How many refusals a client hears of; `statuses` are what it has said of itself since it was connected.
async function violation(statuses) {
  for (;;) {
    const { value } = await inTime(statuses.next());
    if (value.type === "error" && value.error instanceof PermissionViolationError) return 1;
  }
}

async function mailboxRefusal(client) {
  const statuses = client.status()[Symbol.asyncIterator]();
  client.publish(`${MAILBOX}MSG.nobody`, "hello");
  const heard = await violation(statuses);
  await client.flush();
  return { heard, connected: !client.isClosed() };
}

async function mailboxRestart(client) {
  const name = await create(client, "restart.one");
  const messages = take(client, `${MAILBOX}MSG.${name}.*`);
  const several = async (count) => {
    const found = [];
    while (found.length < count) found.push(text((await messages.next()).data));
    return found;
  };
  await send(client, name, "", "a");
  await send(client, name, "", "b");
  const before = await several(2);
  await restart(client);
  await send(client, name, "", "c");
  return { before, after: await several(3), stored: payloads(await ask(client, `${MAILBOX}LIST.${name}`)) };
}

async function mailboxWorkRestart(client) {
  const name = await create(client, "restart.work");
  await send(client, name, "", "a");
  await send(client, name, "", "b");
  const first = await fetchWork(client, name, 1);
  await restart(client);
  const second = await fetchWork(client, name, 10);
  const acked = await acknowledge(client, name, "ack", [...first.ids, ...second.ids]);
  return { first: first.shown, second: second.shown, acked };
}

// who may come in

function credentials() {
  const said = process.env;
  const options = {};
  if (said.NATS_USER) Object.assign(options, { user: said.NATS_USER, pass: said.NATS_PASSWORD });
  if (said.NATS_TOKEN) options.token = said.NATS_TOKEN;
  if (said.NATS_NKEY_SEED_FILE) {
    options.authenticator = nkeyAuthenticator(readFileSync(said.NATS_NKEY_SEED_FILE).subarray(0, 58));
  }
  if (said.NATS_CA) options.tls = { caFile: said.NATS_CA };
  if (said.NATS_CERT) Object.assign(options.tls, { certFile: said.NATS_CERT, keyFile: said.NATS_KEY });
  if (said.NATS_TLS_FIRST) options.tls.handshakeFirst = true;
  return options;
}

async function roundTrip(client) {
  const messages = take(client, "open.a");
  client.publish("open.a", "hello");
  return { got: text((await messages.next()).data) };
}

async function refused() {
  try {
    await (await dial({ servers: process.env.NATS_URL, timeout: PATIENCE_MS, reconnect: false, ...credentials() })).close();
    return { refused: false };
  } catch {
    return { refused: true };
  }
}

async function permissions(client) {
  const statuses = client.status()[Symbol.asyncIterator]();
  client.publish("closed.a", "hello");
  return { heard: await violation(statuses), ...(await roundTrip(client)) };
}

const scenarios = {
  connect: connecting,
  publish_subscribe: publishSubscribe,
  wildcards,
  queues,
  requests: (client) => requests(client, "one inbox"),
  requests_old_style: (client) => requests(client, "own inbox"),
  headers,
  header_twice: headerTwice,
  header_empty: headerEmpty,
  no_responders: noResponders,
  unsubscribe,
  no_echo: noEcho,
  drain,
  reconnect,
  mailbox_create: mailboxCreate,
  mailbox_receive: mailboxReceive,
  mailbox_fetch: mailboxFetch,
  mailbox_delete: mailboxDelete,
  mailbox_list: mailboxList,
  mailbox_work: mailboxWork,
  mailbox_workers: mailboxWorkers,
  mailbox_refusal: mailboxRefusal,
  mailbox_restart: mailboxRestart,
  mailbox_work_restart: mailboxWorkRestart,
};
const entering = { round_trip: roundTrip, permissions };

for (const name of process.argv.slice(2)) {
  let client;
  try {
    if (name === "refused") {
      say({ scenario: name, result: await refused() });
      continue;
    }
    client = await connect(name in entering ? credentials() : {});
    say({ scenario: name, result: await (scenarios[name] ?? entering[name])(client) });
  } catch (error) {
    say({ scenario: name, error: String(error) });
  } finally {
    await client?.close();
  }
}
process.exit(0);
