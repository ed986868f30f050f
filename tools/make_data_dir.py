"""Make the data directory that later versions of mq9 must be able to open: `python -m tools.make_data_dir tests/data`.

Run it when mq9.store.contract.FORMAT_VERSION changes, and check in what it makes beside those of the versions before: the directory
`format-N`, as a broker of this version leaves it, and `format-N.json`, which says what is in it. The content and the clock are
fixed; only the private mail_ids differ from run to run.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats

from mq9 import protocol
from mq9.protocol import PRIORITIES
from mq9.server.broker import Server
from mq9.server.config import Config
from mq9.server.userconfig import UserConfig
from mq9.store.contract import FORMAT_VERSION
from mq9.store.directory import FORMAT_FILE
from mq9.store.disk_engine import DiskStore
from mq9.store.segments import DIRECTORY as JOURNAL

if TYPE_CHECKING:
    from nats.aio.client import Client

START_S: Final = 1_767_225_600  # 2026-01-01
NINETY_YEARS_S: Final = 90 * 365 * 86_400
KEPT_FILES: Final = ("data.mdb", FORMAT_FILE, JOURNAL)
TIMEOUT_S: Final = 10.0
# A user, and the password.
OWNER: Final = "alice"


@dataclass
class Maker:
    """Asks a broker for things, one second after the other, and notes what must be found later.

    Arguments:
        now_s: the broker's time.
        mailboxes: by mail_id, what was answered at their creation, their desc, and their messages by msg_id.
        ended: mail_ids that must not be there any more.
        owned: mail_ids that only their owner may read, with the owner.
        receipts: by mail_id and msg_id, what STATUS says of a message later.
        msg_id_highest: the highest msg_id that was given out.
    """

    now_s: int = START_S
    mailboxes: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    owned: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    msg_id_highest: int = 0
    client: Client = field(init=False)

    async def ask(
        self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None, seconds: int = 1
    ) -> dict[str, Any]:
        """The answer to a request, which must be no refusal; afterwards it is `seconds` later."""
        answer: dict[str, Any] = json.loads((await self.client.request(subject, body, TIMEOUT_S, headers=headers)).data)
        if answer.get("error"):
            raise RuntimeError(f"{subject}: {answer}")
        self.now_s += seconds
        return answer

    async def create(self, **request: Any) -> str:
        """Create or renew a mailbox; its mail_id."""
        answer = await self.ask(protocol.CREATE, json.dumps(request).encode())
        mail_id = str(answer["mail_id"])
        known = self.mailboxes.setdefault(mail_id, {"desc": request.get("desc", ""), "messages": {}})
        known |= {key: answer[key] for key in ("public", "ttl", "created_at", "expires_at")}
        return mail_id

    async def send(
        self, mail_id: str, payload: bytes, priority: str, headers: dict[str, str] | None = None, seconds: int = 1
    ) -> int:
        """Send a message; its msg_id."""
        sent_s = self.now_s
        answer = await self.ask(f"{protocol.MESSAGES}{mail_id}.{priority}", payload, headers, seconds)
        ttl_s = int((headers or {}).get(protocol.HEADER_TTL, 0))
        self.mailboxes[mail_id]["messages"][answer["msg_id"]] = {
            "msg_id": answer["msg_id"],
            "priority": priority,
            "create_time": sent_s,
            "expires_at": sent_s + ttl_s if ttl_s else self.mailboxes[mail_id]["expires_at"],
            "headers": {name: [value] for name, value in (headers or {}).items()},
            "payload": base64.b64encode(payload).decode(),
        }
        self.msg_id_highest = max(self.msg_id_highest, answer["msg_id"])
        return int(answer["msg_id"])

    async def send_at_once(self, mail_id: str, payloads: list[bytes], priority: str) -> list[int]:
        """Send messages in one turn, so that they share a block; their msg_ids."""
        return await asyncio.gather(*(self.send(mail_id, payload, priority, seconds=0) for payload in payloads))

    async def delete(self, mail_id: str, msg_id: int) -> None:
        """Delete a message."""
        await self.ask(f"{protocol.DELETE}{mail_id}.{msg_id}")
        del self.mailboxes[mail_id]["messages"][msg_id]

    def end(self, mail_id: str) -> None:
        """Note that a mailbox is not there any more."""
        del self.mailboxes[mail_id]
        self.ended.append(mail_id)

    async def remove(self, mail_id: str) -> None:
        """End a mailbox at once."""
        await self.ask(f"{protocol.REMOVE}{mail_id}")
        self.end(mail_id)

    def listing(self) -> dict[str, Any]:
        """What must be found."""
        return {
            "format": FORMAT_VERSION,
            "msg_id_highest": self.msg_id_highest,
            "ended": self.ended,
            "receipts": self.receipts,
            "owned": self.owned,
            "mailboxes": {
                mail_id: {**known, "messages": list(known["messages"].values())}
                for mail_id, known in self.mailboxes.items()
            },
        }


async def named_mailboxes(maker: Maker) -> None:
    """Mailboxes with names: one that never ends, public ones, one that was renewed."""
    archive = await maker.create(name="archive", ttl=0, desc="kept for ever")
    for number, priority in enumerate(reversed(PRIORITIES)):
        await maker.send(archive, b"sent as number %d, %b" % (number, priority.encode()), priority)
    await maker.send(archive, b"", "normal")
    await maker.send(archive, bytes(range(256)) * 20, "low")
    await maker.send(archive, "Grüße, 世界".encode(), "high", {"content-type": "text/plain; charset=utf-8"})
    queue = await maker.create(name="task.queue", ttl=NINETY_YEARS_S, public=True, desc="main task queue — für alle")
    sent = await maker.send_at_once(queue, [b"task %d of one block" % number for number in range(20)], "normal")
    for msg_id in (sent[0], sent[7], sent[19]):
        await maker.delete(queue, msg_id)
    await maker.create(name="notices", ttl=3_600, public=True)
    await maker.create(name="notices", ttl=NINETY_YEARS_S, renew=True)


async def private_mailboxes(maker: Maker) -> None:
    """Private mailboxes: one with every header that has a meaning, an empty one."""
    box = await maker.create(ttl=NINETY_YEARS_S, desc="an agent")
    carried = {
        "mq9-reply-to": "archive",
        "mq9-correlation-id": "c-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "content-type": "application/json",
        "my-own": "kept as it is",
    }
    await maker.send(box, b'{"ask": "analyze this"}', "urgent", carried)
    await maker.send(box, b"ends in the next century", "critical", {"mq9-ttl": str(NINETY_YEARS_S // 2)})
    ended = await maker.send(box, b"ends after a minute", "critical", {"mq9-ttl": "60", "my-own": "gone"})
    del maker.mailboxes[box]["messages"][ended]
    await maker.create(ttl=0)


async def worked_mailboxes(maker: Maker) -> None:
    """What a group has done, has open and has given up; messages that were delayed, replaced, and sent twice."""
    work = await maker.create(name="work", ttl=0)
    done, hopeless, leased, waiting = [await maker.send(work, b"task %d" % number, "normal") for number in range(4)]
    await maker.ask(
        f"{protocol.LEASE}{work}", json.dumps({"group_name": "builders", "config": {"num_msgs": 3}}).encode()
    )
    await maker.ask(f"{protocol.ACK}{work}", json.dumps({"group_name": "builders", "msg_id": done}).encode())
    given_up = {"group_name": "builders", "msg_ids": [hopeless], "op": "dead", "reason": "cannot be built"}
    await maker.ask(f"{protocol.ACK}{work}", json.dumps(given_up).encode())
    replaced = await maker.send(work, b"half done", "high", {"mq9-key": "progress"})
    replaced_late = await maker.send(work, b"timed out", "high", {"mq9-key": "progress", "mq9-delay": "60"})
    await maker.send(work, b"all done", "high", {"mq9-key": "progress"})
    for msg_id in (replaced, replaced_late):
        del maker.mailboxes[work]["messages"][msg_id]
    late = await maker.send(work, b"a minute later", "low", {"mq9-delay": "60"})
    never = await maker.send(work, b"in ninety years", "low", {"mq9-delay": str(NINETY_YEARS_S)})
    del maker.mailboxes[work]["messages"][never]
    again = {"Nats-Msg-Id": "once"}
    first = await maker.send(work, b"sent twice", "normal", again)
    if await maker.send(work, b"sent twice", "normal", again) != first:
        raise RuntimeError("a repeat was stored again")
    maker.mailboxes[work]["messages"][first]["create_time"] -= 1
    states = {
        done: ("done", 1),
        hopeless: ("dead", 1),
        leased: ("waiting", 1),
        waiting: ("waiting", 0),
        late: ("waiting", 0),
    }
    maker.receipts[work] = {
        msg_id: {"state": "stored", "groups": {"builders": {"state": state, "attempts": attempts}}}
        for msg_id, (state, attempts) in states.items()
    }
    maker.receipts[work][never] = {"state": "delayed", "groups": {"builders": {"state": "waiting", "attempts": 0}}}
    maker.receipts[work][replaced] = {"state": "gone", "groups": {}}


async def owned_mailboxes(maker: Maker) -> None:
    """Mailboxes of a user: one that everybody may read, and two that nobody else may."""
    shared = await maker.create(name="noticeboard", ttl=0)
    await maker.send(shared, b"for everybody", "normal")
    diary = await maker.create(name="diary", ttl=0, desc="of alice", owner_only=True)
    await maker.send(diary, b"for alice alone", "normal")
    hidden = await maker.create(ttl=0, owner_only=True)
    maker.owned = {diary: OWNER, hidden: OWNER}


async def ended_mailboxes(maker: Maker) -> None:
    """Mailboxes of which nothing may be seen, and a msg_id that only the marks remember."""
    removed = await maker.create(name="removed", ttl=0, public=True)
    await asyncio.gather(
        maker.send("archive", b"in the block of one that is gone", "normal", seconds=0),
        maker.send(removed, b"gone with its mailbox", "normal", seconds=0),
    )
    await maker.remove(removed)
    private = await maker.create(ttl=0)
    await maker.send(private, b"gone with its mailbox", "high")
    await maker.remove(private)
    expired = await maker.create(name="expired", ttl=60, public=True)
    await maker.send(expired, b"gone by its time", "high")
    maker.end(expired)
    await maker.delete("archive", await maker.send("archive", b"alone in the last block", "normal"))


async def make(directory: Path) -> None:
    """Make `format-N` and `format-N.json` of this version in `directory`."""
    maker = Maker()
    data = directory / f"format-{FORMAT_VERSION}"
    shutil.rmtree(data, ignore_errors=True)
    server = Server(Config(port=0), clock=lambda: maker.now_s * 1_000, store=DiskStore(data))
    await server.start()
    try:
        maker.client = await nats.connect(server.url)
        await named_mailboxes(maker)
        await private_mailboxes(maker)
        await worked_mailboxes(maker)
        await ended_mailboxes(maker)
        await maker.client.close()
        await server.reload(replace(server.config, users=(UserConfig(name=OWNER, password=OWNER),)))
        maker.client = await nats.connect(server.url, user=OWNER, password=OWNER)
        await owned_mailboxes(maker)
        await maker.client.close()
    finally:
        await server.stop()
    for path in data.iterdir():
        if path.name not in KEPT_FILES:
            path.unlink()
    for path in (data / JOURNAL).iterdir():
        used = path.read_bytes().rstrip(b"\0")
        if used:
            # Frames end at a multiple of eight, perhaps with zeros.
            os.truncate(path, len(used) + 8)
        else:
            path.unlink()
    listing = json.dumps(maker.listing(), indent=1, ensure_ascii=False)
    directory.joinpath(f"format-{FORMAT_VERSION}.json").write_text(listing + "\n", "utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where to make the data directory and its listing")
    asyncio.run(make(parser.parse_args().directory))


if __name__ == "__main__":
    main()
