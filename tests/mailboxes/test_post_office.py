"""The post office against a model: any order of operations, commits that succeed or fail, time that passes, restarts.

The store is the memory engine, so a restart is a new post office that loads what the engine holds. The model says what must be
there: what was settled and neither deleted nor expired, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mq9.mailboxes import operations
from mq9.mailboxes.batch import Batch
from mq9.mailboxes.office import PostOffice
from mq9.mailboxes.reading import read_message
from mq9.protocol import CreateRequest, ProtocolError
from mq9.store.contract import Commit, Table
from mq9.store.memory_engine import MemoryStore
from tests.mailboxes.stored import rows_of, started

WINDOW_MS = 120_000
SLOT_MS = 4
UNAVAILABLE = ProtocolError(503, "the storage is unavailable")
# "ada" stays for good, so that messages, deletions and restarts come together; the others come and go.
NAMES = st.sampled_from(["ada", "ada", "bob", "cy.d"])
FLEETING = st.sampled_from(["bob", "cy.d"])


@dataclass(frozen=True)
class Answers:
    """What somebody who sends is told."""

    told: list[Any]

    def __call__(self, answer: int | ProtocolError, repeat: bool) -> None:
        self.told.append((answer, repeat))


@dataclass(frozen=True)
class Letter:
    """A message as it was sent; times in Unix ms, 0 for no end, and for visible at once."""

    rank: int
    payload: bytes
    end: int
    visible: int
    key: bytes


@dataclass
class Box:
    """A mailbox as it should be: its end in Unix ms (0 for never) and its messages by msg_id."""

    ttl: int
    end: int
    messages: dict[int, Letter] = field(default_factory=dict)

    def live(self, now: int) -> dict[int, Letter]:
        return {i: letter for i, letter in self.messages.items() if not letter.end or letter.end > now}

    def visible(self, now: int, until: int) -> dict[int, tuple[int, bytes]]:
        """What is to be seen at `now` when everything that was delayed until `until` has appeared."""
        return {i: (it.rank, it.payload) for i, it in self.live(now).items() if it.visible <= until}


class PostOfficeMachine(RuleBasedStateMachine):
    """What is asked for is kept in `asked` until its batch is settled or has failed."""

    office: PostOffice

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = MemoryStore()
        self.now = 1_000_000
        self.boxes: dict[str, Box] = {}
        self.asked: list[tuple[str, Any]] = []
        # A batch that was sealed and whose commit has not returned, with what was asked for in it.
        self.flying: tuple[Batch, list[tuple[str, Any]]] | None = None
        self.sent = 0
        # (number of the mailbox, id of the sender's) → (when it was sent first, its msg_id), as far as that is durable, and in all.
        self.remembered: dict[tuple[int, bytes], tuple[int, int]] = {}
        self.repeatable: dict[tuple[int, bytes], tuple[int, int]] = {}
        self.next_id = 1
        self.highest = 0
        self.start()

    def teardown(self) -> None:
        self.office.close()
        self.loop.close()

    def start(self) -> None:
        if hasattr(self, "office"):
            self.office.close()
        self.office = started(self.store, self.loop, self.now)

    def rows(self, table: Table) -> list[tuple[bytes, bytes]]:
        return rows_of(self.store, self.loop, table)

    def box(self, name: str) -> Box | None:
        box = self.boxes.get(name)
        return None if box is None or (box.end and box.end <= self.now) else box

    @rule(name=FLEETING, ttl=st.sampled_from([None, 0, 1, 60]), renew=st.booleans())
    def create(self, name: str, ttl: int | None, renew: bool) -> None:
        answers: list[Any] = []
        request = CreateRequest(name=name, ttl=ttl, renew=renew)
        operations.create(self.office, request, "", 30, self.now, answers.append)
        self.asked.append(("create", (request, self.now, answers)))

    @initialize()
    def begin(self) -> None:
        for name in ("ada", "bob"):
            self.create(name, 0, renew=False)
        self.commit()

    @rule(
        name=NAMES,
        count=st.integers(1, 5),
        rank=st.integers(0, 4),
        ttl=st.sampled_from([0, 0, 0, 1, 50]),
        delay=st.sampled_from([0, 0, 1, 7, 900, 30_000]),
        key=st.sampled_from([b"", b"", b"", b"one", b"two"]),
        dedup=st.sampled_from([b"", b"", b"", b"x", b"y"]),
    )
    def send(
        self, name: str, count: int, rank: int, ttl: int, delay: int = 0, key: bytes = b"", dedup: bytes = b""
    ) -> None:
        mailbox = self.office.get(name.encode(), self.now)
        assert (mailbox is None) == (self.box(name) is None)
        if mailbox is None:
            return
        for _ in range(count):
            end = self.now + ttl * 1_000 if ttl else 0
            self.sent += 1
            letter = Letter(rank, b"payload %d" % self.sent, end, self.now + delay if delay else 0, key)
            told: list[Any] = []
            self.office.put(
                mailbox,
                rank,
                letter.payload,
                end,
                self.now,
                visible_ms=letter.visible,
                key=key,
                dedup_id=dedup,
                told=Answers(told),
            )
            mark = (mailbox.number, dedup)
            at, first = self.repeatable.get(mark, (-WINDOW_MS, 0))
            if dedup and (at + WINDOW_MS > self.now or self.remembered.get(mark) != (at, first) != (-WINDOW_MS, 0)):
                if self.remembered.get(mark) == (at, first):
                    assert told == [(first, True)]  # it was durable already
                else:
                    self.asked.append(("repeat", (mark, first, told)))
                continue
            if dedup:
                self.repeatable[mark] = self.now, self.next_id
            self.asked.append(("send", (name, mark, self.now, self.next_id, letter, told)))
            self.next_id += 1

    @rule(name=NAMES, pick=st.integers(0, 1_000))
    def delete(self, name: str, pick: int) -> None:
        if pick % 3 == 0:
            self.commit()
        mailbox, box = self.office.get(name.encode(), self.now), self.box(name)
        if mailbox is not None and box is not None:
            candidates = [*box.live(self.now), 999_999]
            answers: list[Any] = []
            msg_id = candidates[pick % len(candidates)]
            there = msg_id in box.live(self.now)
            operations.delete(self.office, mailbox, msg_id, self.now, answers.append)
            if there:
                self.asked.append(("delete", (name, mailbox.number, msg_id, answers)))
            else:
                assert answers == [{"deleted": False}]

    @rule(name=FLEETING)
    def remove(self, name: str) -> None:
        mailbox = self.office.get(name.encode(), self.now)
        if mailbox is not None:
            answers: list[Any] = []
            operations.remove(self.office, mailbox, answers.append)
            self.asked.append(("remove", (name, mailbox.number, answers)))

    @rule(pick=st.integers(1, 15))
    def rewrite(self, pick: int) -> None:
        """Blocks are rewritten, mostly dead or not: what comes of it must not depend on that."""
        if self.office.rewriting is None:
            sources = [block for at, block in enumerate(self.stored_blocks()) if pick >> at % 4 & 1]
            self.office.rewrite(sources, self.now, lambda stored: None)

    def stored_blocks(self) -> list[tuple[int, bytes]]:
        async def scan() -> list[tuple[int, bytes]]:
            return [block async for blocks in self.store.scan_blocks() for block in blocks]

        return self.loop.run_until_complete(scan())

    @rule()
    def commit(self) -> None:
        self.end_commit()
        self.begin_commit()
        while self.flying is not None:
            self.end_commit()
            self.begin_commit()

    @rule()
    def begin_commit(self) -> None:
        """Seal a batch; what is asked for from here on is in another one."""
        if self.flying is None and (batch := self.office.seal(self.now)) is not None:
            self.flying, self.asked = (batch, self.asked), []

    @rule(durable=st.booleans())
    def end_commit(self, durable: bool = True) -> None:
        """The commit under way returns."""
        if self.flying is not None and not durable:
            self.commit_fails()
        elif self.flying is not None:
            (batch, asked), self.flying = self.flying, None
            self.store_batch(batch)
            self.office.settle(batch, self.now)
            self.judge(asked)

    def store_batch(self, batch: Batch) -> None:
        commit = Commit([(block.number, memoryview(block)) for block in batch.blocks], batch.dropped, batch.rows)
        self.loop.run_until_complete(self.store.commit(commit))

    def judge(self, asked: list[tuple[str, Any]]) -> None:
        for what, details in asked:
            getattr(self, f"expect_{what}")(*details)

    @rule()
    def commit_fails(self) -> None:
        asked = self.asked
        failed = self.office.seal(self.now) if self.flying is None else self.flying[0]
        if self.flying is not None:
            asked = self.flying[1] + self.asked
            self.flying = None
        while failed is not None:
            self.office.fail(failed, UNAVAILABLE)
            failed = self.office.seal_full(self.now)
        self.office.accept()
        for what, details in asked:
            if what in ("delete", "remove"):
                assert [answer.code for answer in details[-1]] == [503]
            elif what == "create":  # one for a mailbox that was there was answered at once
                assert len(details[-1]) == 1
            else:
                assert details[-1] == [(UNAVAILABLE, False)]
        self.asked = []
        self.repeatable = dict(self.remembered)

    @rule(messages=st.booleans())
    def commit_without_space(self, messages: bool) -> None:
        """The store has no space for copies of old blocks, nor perhaps for messages; what else was asked for is committed."""
        self.begin_commit()
        if self.flying is None:
            return
        batch, asked = self.flying
        self.office.give_up_rewriting(batch)
        if messages:
            self.office.give_up_messages(batch, UNAVAILABLE)
            self.office.accept()
            for what, details in asked:
                if what == "send":
                    assert details[-1] == [(UNAVAILABLE, False)]
                    if self.repeatable.get(details[1], (0, 0))[1] == details[3]:
                        del self.repeatable[details[1]]
            self.flying = (batch, [(what, details) for what, details in asked if what != "send"])
        self.end_commit()

    @rule(seconds=st.sampled_from([0.001, 0.5, 1, 20, 61, 130]))
    def time_passes(self, seconds: float) -> None:
        self.now += int(seconds * 1_000)

    @rule()
    def tick(self) -> None:
        self.now += 8  # timers are up to 4 ms late, never early
        while self.office.tick(self.now, 3):
            pass
        for name, box in self.boxes.items():
            mailbox = self.office.get(name.encode(), self.now)
            for msg_id, letter in box.live(self.now).items():
                found = None if mailbox is None else mailbox.look_up(msg_id, self.now)
                assert found is None or (found[0] == 5) == (letter.visible > self.now - self.now % SLOT_MS)
        if not self.asked and self.flying is None:
            there = [name for name in self.boxes if self.box(name) is not None]
            assert len(self.office.mailboxes) == len(there)
            self.commit()
            assert len(self.rows(Table.MAILBOXES)) == len(there)
            assert self.office.messages == sum(len(self.boxes[name].live(self.now)) for name in there)

    @rule()
    def restart(self) -> None:
        """The end of the process, and another one; copies that were durable, and nothing else of a batch, need not be told of."""
        self.asked = []  # what was not committed is gone
        if self.flying is not None and not self.flying[1]:
            self.store_batch(self.flying[0])
        self.flying = None
        self.repeatable = dict(self.remembered)
        self.start()
        self.commit()
        self.probe_next_id()

    def probe_next_id(self) -> None:
        """A msg_id is never given out twice: learn what the next one is."""
        answers: list[Any] = []
        operations.create(self.office, CreateRequest(name="probe"), "", 1, self.now, answers.append)
        self.commit()
        mailbox = self.office.get(b"probe", self.now)
        assert mailbox is not None
        self.office.put(mailbox, 0, b"", 0, self.now)
        self.commit()
        ((msg_id, *_),) = mailbox.page(0, 31, 10, self.now)
        settled = [i for box in self.boxes.values() for i in box.messages]
        assert msg_id > max([*settled, self.highest], default=0)
        self.next_id = msg_id + 1
        self.highest = msg_id
        operations.remove(self.office, mailbox, answers.append)
        self.commit()

    # what the model makes of an operation whose batch is durable

    def expect_create(self, request: CreateRequest, at: int, answers: list[Any]) -> None:
        (answer,) = answers
        assert request.name is not None
        box = self.boxes.get(request.name)
        if box is not None and box.end and box.end <= at:
            box = None
        if isinstance(answer, ProtocolError):
            assert answer.code == 404
            return
        reply = json.loads(answer)
        if box is None:
            assert reply["is_new"] is True
            ttl = 30 if request.ttl is None else request.ttl
            self.boxes[request.name] = Box(ttl, at + ttl * 1_000 if ttl else 0)
        else:
            assert reply["is_new"] is False
            if request.renew:
                box.ttl = box.ttl if request.ttl is None else request.ttl
                box.end = at + box.ttl * 1_000 if box.ttl else 0
            assert reply["ttl"] == box.ttl

    def expect_send(
        self, name: str, mark: tuple[int, bytes], at: int, msg_id: int, letter: Letter, told: list[Any]
    ) -> None:
        self.highest = max(self.highest, msg_id)
        mailbox = self.office.mailboxes.get(name.encode())
        ((answer, repeat),) = told
        assert repeat is False
        if isinstance(answer, ProtocolError):  # its mailbox has gone
            assert answer.code == 404
            assert mailbox is None or mailbox.number != mark[0]
            self.repeatable.pop(mark, None)
            return
        assert answer == msg_id
        if mark[1]:
            self.remembered[mark] = at, msg_id
        if name in self.boxes and (mailbox is None or mailbox.number == mark[0]):
            messages = self.boxes[name].messages
            if letter.key:
                for former in [i for i, other in messages.items() if other.key == letter.key]:
                    del messages[former]
            messages[msg_id] = letter

    def expect_repeat(self, mark: tuple[int, bytes], first: int, told: list[Any]) -> None:
        ((answer, repeat),) = told
        if isinstance(answer, ProtocolError):
            assert self.remembered.get(mark, (0, 0))[1] != first, "the first one was stored"
        else:
            assert (answer, repeat) == (first, True)
            assert self.remembered[mark][1] == first

    def expect_delete(self, name: str, number: int, msg_id: int, answers: list[Any]) -> None:
        (answer,) = answers
        box = self.boxes.get(name)
        was_there = box is not None and msg_id in box.messages
        if was_there and box is not None:
            del box.messages[msg_id]
        assert answer["deleted"] in (was_there, False)

    def expect_remove(self, name: str, number: int, answers: list[Any]) -> None:
        # Of two removals before a commit the second finds nothing, even when the name was created anew between them: whoever
        # asked for it had not been told of the new mailbox yet.
        (answer,) = answers
        box = self.boxes.get(name)
        if answer["deleted"] or (box is not None and box.end and box.end <= self.now):
            del self.boxes[name]

    @invariant()
    def everything_is_there_and_nothing_else(self) -> None:
        if self.asked or self.flying is not None:
            return  # judged when the batch has its fate
        for name in ("ada", "bob", "cy.d"):
            box = self.box(name)
            mailbox = self.office.get(name.encode(), self.now)
            assert (mailbox is None) == (box is None), name
            if mailbox is None or box is None:
                continue
            assert (mailbox.ttl_s, mailbox.expires_ms) == (box.ttl, box.end)
            found = {}
            for msg_id, number, offset, _, _ in mailbox.page(0, 31, 1_000_000, self.now):
                data = self.loop.run_until_complete(self.store.read_block(number))
                message = read_message(data, offset)
                assert message.msg_id == msg_id
                found[msg_id] = (message.rank, message.payload)
            visible = box.visible(self.now, self.office.timers.done_until())
            assert found == visible
            for rank in range(5):
                ids = [item[0] for item in mailbox.page(0, 1 << rank, 1_000_000, self.now)]
                assert ids == sorted(i for i, (r, _) in visible.items() if r == rank)
            delayed = [i for i in box.live(self.now) if i not in visible]
            assert all(mailbox.look_up(i, self.now) == (5, False) for i in delayed)


TestPostOffice = PostOfficeMachine.TestCase
TestPostOffice.settings = settings(max_examples=250, stateful_step_count=60, deadline=None, derandomize=True)


def test_what_was_deleted_from_a_block_that_lives_on_stays_deleted() -> None:
    machine = PostOfficeMachine()
    machine.begin()
    machine.send("ada", 5, 0, 0)
    machine.commit()
    machine.delete("ada", 1)
    machine.commit()
    machine.everything_is_there_and_nothing_else()
    assert len(machine.boxes["ada"].messages) == 4
    machine.restart()
    machine.everything_is_there_and_nothing_else()
    machine.delete("ada", 2)
    machine.delete("ada", 2)
    machine.commit_fails()
    machine.everything_is_there_and_nothing_else()
    machine.restart()
    machine.everything_is_there_and_nothing_else()
    assert len(machine.boxes["ada"].messages) == 4
    machine.teardown()


def test_a_mailbox_that_is_created_between_two_removals_of_its_name_stays() -> None:
    machine = PostOfficeMachine()
    machine.begin()
    machine.remove("bob")
    machine.create("bob", 0, renew=False)
    machine.remove("bob")
    machine.create("bob", 5, renew=False)
    machine.commit()
    machine.everything_is_there_and_nothing_else()
    assert machine.boxes["bob"].ttl == 0
    assert len(machine.rows(Table.MAILBOXES)) == 2
    machine.restart()
    machine.everything_is_there_and_nothing_else()
    machine.teardown()
