"""The six operations with nats-py; with mq9's own SDK they are shorter."""

import asyncio
import sys

import nats


async def main(url: str) -> None:
    """Do each of them once, and print what is answered."""
    nc = await nats.connect(url)

    async def ask(subject: str, body: bytes = b"") -> None:
        print((await nc.request(f"$mq9.AI.{subject}", body, timeout=5)).data.decode())

    await ask("MAILBOX.CREATE", b'{"name": "desk", "public": true, "ttl": 3600}')
    await ask("MAILBOX.MSG.desk.high", b"hello")  # answered once it is on disk
    inbox = await nc.subscribe("$mq9.AI.MAILBOX.MSG.desk.*")
    message = await inbox.next_msg(timeout=5)
    headers = message.headers or {}
    print(headers["mq9-priority"], message.data.decode())
    await ask("MAILBOX.LIST.desk", b'{"limit": 10}')
    await ask(f"MAILBOX.DELETE.desk.{headers['mq9-msg-id']}")
    await ask("PUBLIC.LIST")
    await nc.close()


asyncio.run(main(sys.argv[1]))
