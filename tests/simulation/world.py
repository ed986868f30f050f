"""The whole broker but its sockets, on a clock and a disk of our own, with its clients, held against the model."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from mq9.server.broker import Server
from mq9.server.config import Config
from mq9.store.contract import Commit, Table
from tests.simulation.clients import Asked, Client, Frame, Subscription
from tests.simulation.loop import Listener, SimulatedLoop
from tests.simulation.model import Model, ViolationError, demand
from tests.simulation.store import Durable, SimulatedStore, Trouble
from tests.simulation.watching import Watch

BEGINNING_MS = 1_800_000_000_000
LOG_LINES = 80
# A client that is behind by more than this is paused, and its sender with it: less than may be configured, so that it happens.
PENDING_MAX = 8_192
PAYLOAD_MAX = 262_144


class SimulatedServer(Server):
    """A broker that listens to nobody: clients are brought to it."""

    def _bind(self) -> Any:
        return Listener()


class World:
    """A broker with an empty store, and nobody connected.

    Arguments:
        random: from which all chance comes.
        slice_max: how many timers the broker fires, and open messages a group looks at, in one slice of time.
    """

    def __init__(self, random: Random, slice_max: int) -> None:
        self.random = random
        self.slice_max = slice_max
        self.durable = Durable()
        self.trouble = Trouble()
        self.model = Model(self._idle_at)
        self.clients: list[Client] = []
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.asked_count = 0
        self.read_count = 0
        self.connections = 0
        self.commits = 0
        self.restarts = 0
        self.events = 0
        self.damaged: set[int] = set()
        self.config = Config(memory=True, max_payload=PAYLOAD_MAX, ping_interval=86_400.0)
        for name in ("max_pending", "max_backlog"):
            object.__setattr__(self.config, name, PENDING_MAX)
        self._begun = (0, 0)
        self._rows: object = None
        self._heard: list[tuple[Client, Frame]] = []
        self.start(BEGINNING_MS)

    @property
    def now(self) -> int:
        """Unix ms."""
        return self.loop.now

    def _idle_at(self) -> int:
        """Until when whatever was due has happened: a broker that is about to stop lets nothing appear any more."""
        return self.loop.idle_at if self._ending_at is None else self._ending_at

    def note(self, line: str) -> None:
        """Add a line to the log."""
        self.log.append(f"{self.now - BEGINNING_MS:>9} {line}")

    # the broker's life

    def start(self, now: int) -> None:
        """Start a broker with what is durable."""
        self.server: Server | None = None
        self._ending_at: int | None = None
        self._begun = (0, 0)
        self.loop = SimulatedLoop(now, self._after)  # type: ignore[abstract] # the broker asks no more of a loop
        asyncio._set_running_loop(self.loop)
        self.store = SimulatedStore(
            self.durable, self.trouble, self._pick, self._commit_begun, self._commit_ended, self._troubled
        )
        server = SimulatedServer(self.config, clock=lambda: self.loop.now, store=self.store)
        server.tick_budget = self.slice_max
        starting = self.loop.create_task(server.start())
        while not starting.done():
            self.loop.run(1)
        starting.result()
        self.server = server
        self.office = server.office
        self.office.groups.slice_max = self.slice_max
        reported = server.metrics.damaged_blocks
        demand(reported == len(self.damaged), f"of damaged blocks {sorted(self.damaged)}, {reported} are reported")
        self.model.restarted(self.office, now)
        self.loop.run()

    def crash(self, downtime_ms: int, *, survives: bool, damages: bool) -> None:
        """Kill the broker; `survives`: whether a commit that is under way becomes durable; `damages`: a block is damaged."""
        self.note(f"crash, commit in flight: {self.store.in_flight is not None}, survives: {survives}")
        self.loop.abandon()
        self.store.crash(survives=survives)
        self._lose_clients()
        self.restarts += 1
        if damages:
            self._damage()
        self.start(self.now + downtime_ms)

    def _damage(self) -> None:
        """Let the disk forget a bit of what it was given."""
        sound = sorted(self.durable.blocks.keys() - self.damaged)
        if not sound:
            return
        number = self.random.choice(sound)
        block = bytearray(self.durable.blocks[number])
        others = [self.durable.blocks[other] for other in sound if other != number]
        self.model.damage(bytes(block), others)
        bit = self.random.randrange(len(block) * 8)
        block[bit // 8] ^= 1 << bit % 8
        self.durable.blocks[number] = bytes(block)
        self.damaged.add(number)
        self.note(f"bit {bit} of block {number} is damaged")

    def restart(self, downtime_ms: int) -> None:
        """Stop the broker in order, and start it again."""
        assert self.server is not None
        self.note("restart")
        self._ending_at = self.loop.idle_at
        stopping = self.loop.create_task(self.server.stop())
        demand(self.loop.finish(stopping), "the broker does not stop")
        stopping.result()
        self.loop.abandon()
        demand(not self.model.pending, f"not answered before the end: {[each.what for each in self.model.pending]}")
        self._lose_clients()
        self.restarts += 1
        self.start(self.now + downtime_ms)

    def _lose_clients(self) -> None:
        for client in self.clients:
            client.gone = True
        self.clients.clear()
        self._heard.clear()

    def _pick(self, most: int) -> int:
        return self.random.randint(0, most) if most else 0

    def _commit_begun(self) -> None:
        self.commits += 1
        commit = self.store.in_flight
        if commit is not None and commit.rows is self._rows:  # once more, without its messages: it was full
            return
        self._rows = None if commit is None else commit.rows
        if self.server is not None and commit is not None and not _is_probe(commit):
            self._begun = (self._begun[1], self.now)
            self.model.groups.commit_begun(self.office)

    def _commit_ended(self, commit: Commit, durable: bool) -> None:
        if durable:
            self.model.durable(commit, self.now)
            if not _is_probe(commit):
                self.model.groups.commit_ended()
                self.model.settling = True
                # What is answered now was chosen after the batch before was sealed.
                self.model.groups.settled_since = self._begun[0]
        else:
            self._begun = (0, 0)
            self._troubled()

    def _troubled(self) -> None:
        """The disk has failed in something."""
        self.model.last_trouble = self.now

    # clients

    def connect(self) -> Client:
        """A new client."""
        self.connections += 1
        client = Client(self.connections, self.loop, self._asked, self._hear)
        self.clients.append(client)
        return client

    def ask(
        self,
        client: Client,
        what: str,
        subject: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        silent: bool = False,
        **details: Any,
    ) -> Asked:
        """Let a client make a request; `silent`: without a reply subject. `details` is what the model has to know of it."""
        self.asked_count += 1
        asked = Asked(self.asked_count, client, what, details)
        if silent:
            client.say_silently(subject, body, headers, asked)
        else:
            client.request(subject, body, asked, headers)
        shown = " ".join(f"{key}={value}" for key, value in details.items() if key != "subscription")
        self.note(f"{client.number} asks {asked.number}: {what} {shown}")
        return asked

    def subscribe(self, client: Client, name: str, level: str, mask: int, group: str | None = None) -> Subscription:
        """Let a client receive from a mailbox; `level`: what stands behind its name in the subject."""
        sid = client.new_sid()
        subscription = Subscription(client, sid, name, None, mask, group)
        client.subscriptions[sid] = subscription
        self.asked_count += 1
        asked = Asked(self.asked_count, client, "receive", {"name": name, "subscription": subscription})
        queue = b"" if group is None else group.encode() + b" "
        client.say(b"SUB $mq9.AI.MAILBOX.MSG.%b%b %b%b\r\n" % (name.encode(), level.encode(), queue, sid), asked)
        self.note(f"{client.number} asks {asked.number}: receive {name}{level} sid={sid.decode()} group={group}")
        return subscription

    def watch(self, client: Client, name: str | None) -> Watch:
        """Let a client watch the list of public mailboxes, or, with a name, what happens to one mailbox."""
        watch = Watch(client, client.new_sid(), name)
        client.watches[watch.sid] = watch
        self.asked_count += 1
        asked = Asked(self.asked_count, client, "watch", {"name": name or "", "watch": watch})
        subject = "PUBLIC.LIST" if name is None else f"MAILBOX.EVENTS.{name}"
        client.say(f"SUB $mq9.AI.{subject} {watch.sid.decode()}\r\n".encode(), asked)
        self.note(f"{client.number} asks {asked.number}: watch {name or 'all'} sid={watch.sid.decode()}")
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Let a client watch no more."""
        self.asked_count += 1
        asked = Asked(self.asked_count, watch.client, "unwatch", {"name": watch.name or "", "watch": watch})
        watch.client.say(b"UNSUB %b\r\n" % watch.sid, asked)
        self.note(f"{watch.client.number} asks {asked.number}: watch no more, sid={watch.sid.decode()}")

    def unsubscribe(self, subscription: Subscription) -> None:
        """Let a client end a subscription."""
        self.asked_count += 1
        details = {"name": subscription.name, "subscription": subscription}
        asked = Asked(self.asked_count, subscription.client, "unsubscribe", details)
        subscription.client.say(b"UNSUB %b\r\n" % subscription.sid, asked)
        self.note(f"{subscription.client.number} asks {asked.number}: unsubscribe sid={subscription.sid.decode()}")

    def leave(self, client: Client, *, politely: bool) -> None:
        """Let a client go away."""
        self.note(f"{client.number} leaves, politely: {politely}")
        client.leave(politely=politely)
        self._forget(client)

    def _asked(self, asked: Asked) -> None:
        self.read_count += 1
        asked.place = self.read_count
        self.model.asked(asked, self.now)

    def _hear(self, client: Client, frame: Frame) -> None:
        self._heard.append((client, frame))

    # after every callback of the broker

    def _after(self) -> None:
        if self.loop.failures:
            raise ViolationError(self.loop.failures[0])
        if self.server is None:
            return
        demand(not self.server.failed.is_set(), "the broker gave up")
        self.server.hub.flush()
        if any(client.gone for client in self.clients):
            for client in [client for client in self.clients if client.gone]:
                self.note(f"{client.number} was cut off: {client.session.close_reason}")
                self._forget(client)
        if self._heard:
            heard, self._heard = self._heard, []
            self._judge(heard)
        self.model.settling = False
        self.model.replaced_now.clear()
        self.see_what_was_taken()

    def _forget(self, client: Client) -> None:
        """A connection is gone, and what its client waited for with it."""
        self.clients.remove(client)
        for subscription in client.subscriptions.values():
            self._end(subscription)
        for asked in client.waiting.values():
            if asked.what == "lease":
                self.model.groups.abandoned(asked, self.now)

    def _end(self, subscription: Subscription) -> None:
        self.model.ended(subscription)
        if subscription.group is not None and subscription.confirmed:
            self.model.groups.taken(subscription, subscription.client.pipe.taken)
            self.model.groups.lost(subscription, self.office)

    def _judge(self, heard: list[tuple[Client, Frame]]) -> None:
        """What one callback wrote: answers first, in the order of what was asked for, as they happened; then messages."""
        answers: list[tuple[Asked, Frame]] = []
        messages: list[tuple[Client, Frame]] = []
        events: list[tuple[Watch, Frame]] = []
        for client, frame in heard:
            if frame.kind in (b"MSG", b"HMSG"):
                if frame.sid == b"0":
                    asked = client.waiting.pop(frame.subject, None)
                    if asked is None:
                        raise ViolationError(f"an answer to nobody: {frame}")
                    answers.append((asked, frame))
                elif frame.sid in client.watches:
                    events.append((client.watches[frame.sid], frame))
                else:
                    messages.append((client, frame))
            elif frame.kind == b"PING":
                client.say(b"PONG\r\n")
            else:
                expected = frame.kind in (b"INFO", b"PONG") or b"Permissions Violation" in frame.payload
                demand(expected, f"{client.number} was told {frame}")
        for asked, frame in sorted(answers, key=lambda answer: (_is_end(answer), answer[0].place)):
            reply = json.loads(frame.payload)
            self.note(f"answer to {asked.number}: {str(reply)[:100]}")
            self.model.answered(asked, reply, self.now)
        self.model.numbered(self.office)
        for watch, frame in events:
            self.events += 1
            self.note(f"{watch.client.number} is told {frame.payload.decode()} on sid={watch.sid.decode()}")
            watch.told(json.loads(frame.payload))
        for client, frame in messages:
            self.given(client.subscriptions[frame.sid], frame)

    def given(self, subscription: Subscription, frame: Frame) -> None:
        """A message was written for a receiver."""
        msg_id = frame.headers[b"mq9-msg-id"].decode()
        self.note(f"{subscription.client.number} is given {msg_id} on sid={subscription.sid.decode()}")
        if subscription.group is None:
            self.model.given_plain(subscription, frame, self.now)
        else:
            letter = self.model.given(subscription, frame, self.now)
            self.model.groups.given_member(subscription, letter, frame.end, self.now)

    def see_what_was_taken(self) -> None:
        """Members' sockets have taken something."""
        for subscription in [each for client in self.clients for each in client.subscriptions.values()]:
            if subscription.untaken:  # also after its end
                self.model.groups.taken(subscription, subscription.client.pipe.taken)

    def rest(self) -> None:
        """Let time pass until nothing is under way, and nothing has ended a moment ago."""
        for _ in range(3):
            self.loop.run()
            self.loop.pass_time(1_200)
        for _ in range(1_000):
            self.loop.run()
            if self.store.in_flight is None and not self.model.ended_since(self.now - 100):
                return
            self.loop.pass_time(10)
        raise ViolationError("the broker does not come to rest")

    # what must hold when nothing is under way

    def check_counters(self) -> None:
        """What the broker counts is what there is."""
        office, now = self.office, self.now
        live = [box for box in self.model.boxes.values() if box.live(now)]
        demand(office.backlog == 0 and not office.unsettled, f"a backlog of {office.backlog}, {dict(office.unsettled)}")
        demand(len(office.mailboxes) == len(live), f"{len(office.mailboxes)} mailboxes for {len(live)}")
        there = [letter for box in live for letter in box.stored(now)]
        demand(office.messages == len(there), f"{office.messages} messages for {len(there)}")
        rows = len(self.durable.tables[Table.MAILBOXES])
        demand(rows == len(live), f"{rows} rows of mailboxes for {len(live)}")
        demand(
            office.blocks.blocks == len(self.durable.blocks.keys() - self.damaged),
            f"{office.blocks.blocks} blocks are known of {len(self.durable.blocks)}, {len(self.damaged)} damaged",
        )

    def check_empty(self) -> None:
        """Everything has ended: nothing may be left of it."""
        office, durable = self.office, self.durable
        left = {
            "messages": office.messages,
            "message_bytes": office.message_bytes,
            "blocks": office.blocks.blocks,
            "live_bytes": office.blocks.live_bytes,
            "groups": office.groups.groups,
            "timers": office.timers.count + office.expiries.count,
            "stored blocks": len(durable.blocks.keys() - self.damaged),
            "rows": sum(len(self._rows_of(table)) for table in durable.tables if table is not Table.META),
        }
        demand(not any(left.values()), f"left behind: { {name: count for name, count in left.items() if count} }")

    def _rows_of(self, table: Table) -> set[bytes]:
        """The keys of a table, without what is kept of damaged blocks."""
        kept = {number.to_bytes(8, "big") for number in self.damaged} if table is Table.DEAD else set()
        return self.durable.tables[table].keys() - kept


def _is_end(answer: tuple[Asked, Frame]) -> bool:
    """Whether a FETCH is told that its mailbox has ended, which somebody asked for after it."""
    return answer[0].what == "lease" and b'"code"' in answer[1].payload


def _is_probe(commit: Commit) -> bool:
    """Whether a commit only asks whether the disk works again."""
    return not commit.blocks and [key for _, key, _ in commit.rows] == [b"probe"]


@contextmanager
def silence() -> Iterator[None]:
    """Let the broker say only what is critical, and leave no loop behind."""
    log = logging.getLogger("mq9")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
        asyncio._set_running_loop(None)
