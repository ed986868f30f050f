import { connect } from "@nats-io/transport-node";

const nc = await connect({ servers: process.argv[2] });
const ask = async (subject, body) => console.log((await nc.request(`$mq9.AI.${subject}`, body)).string());

await ask("MAILBOX.CREATE", JSON.stringify({ name: "desk", public: true, ttl: 3600 }));
await ask("MAILBOX.MSG.desk.high", "hello"); // answered once it is on disk
for await (const message of nc.subscribe("$mq9.AI.MAILBOX.MSG.desk.*")) {
  console.log(message.headers.get("mq9-priority"), message.string());
  await ask("MAILBOX.LIST.desk", JSON.stringify({ limit: 10 }));
  await ask(`MAILBOX.DELETE.desk.${message.headers.get("mq9-msg-id")}`);
  break;
}
await ask("PUBLIC.LIST");
await nc.close();
