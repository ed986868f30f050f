"""Groups against a model: leases, acks of every kind, time, ends of messages and mailboxes, commits that fail, restarts.

The model knows of each message what it is for the group: waiting, leased to whom until when, on its way to a receiver, given back
until when, dead or done; a delayed one is nothing to anybody before its time.
What a failed commit refused may be in force or not; the model then takes over what the broker says, after it was seen to be one
of the two. At any time: nobody is given what somebody else has leased, nothing that was answered as done comes again, and
nothing is lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mq9.mailboxes import operations
from mq9.mailboxes.delivery import Listener
from mq9.mailboxes.group import Group, Handout
from mq9.mailboxes.groups import Fetch
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.mailboxes.settling import settle
from mq9.protocol import AckRequest, CreateRequest, ProtocolError
from mq9.store.contract import Commit, Table
from mq9.store.memory_engine import MemoryStore
from tests.mailboxes.stored import rows_of, started

UNAVAILABLE = ProtocolError(503, "the storage is unavailable")
ATTEMPTS_MAX = 16
TICK_MS = 4
# In the place of a rank: not visible yet.
DELAYED = 5
# Open messages that a group looks at in one slice: so few that there are several.
SLICE = 3
WORKERS = st.integers(1, 3)
# One of them, whose connection is gone.
GONE = 3
GROUPS = st.sampled_from(["a", "a", "b"])


def after(now: int, milliseconds: int) -> int:
    """When so much time has passed for certain: what happened at `now` may have happened up to a millisecond later."""
    return now + 1 + milliseconds


@dataclass(frozen=True)
class State:
    """What a message is for a group; `until` in Unix ms.

    On its way to a receiver ("handed"): which one that is, at which place of what it was given, and who had held it before.
    """

    what: str = "new"
    until: int = 0
    holder: int = 0
    attempts: int = 0
    member: Member | None = None
    place: int = 0
    before: int = 0


@dataclass(frozen=True)
class Message:
    """A message of the mailbox; `end` in Unix ms, 0 for never; `visible`: when it may first be seen."""

    rank: int
    end: int
    visible: int


class Member:
    """A receiver in a queue group, which notes what it is given."""

    def __init__(self, machine: GroupMachine, name: str, space: int) -> None:
        self.machine = machine
        self.name = name
        self.taken = 0
        self.given = 0
        self.listener = Listener(machine.office.delivery, machine.group(name), space, self.heard)

    def heard(self, msg_id: int) -> None:
        """It is given a message, which must be the first that there is."""
        assert msg_id == self.machine.available(self.name)[0]
        self.given += 1
        state = self.machine.state(self.name, msg_id)
        self.machine.model[self.name][msg_id] = State("handed", 0, 0, state.attempts, self, self.given, state.holder)


class Waiting(Fetch):
    """A FETCH that waits, and notes how it was answered."""

    def __init__(self, machine: GroupMachine, group: Group, name: str, worker: int, count: int, until: int) -> None:
        super().__init__(machine.office.groups, group.mailbox, group, count, 1 << 30, 10_000, worker, until)
        self.machine = machine
        self.name = name
        self.there = True
        self.answers: list[str] = []

    def is_open(self) -> bool:
        return self.there

    def answer(self, handout: Handout | None) -> None:
        self.answers.append("empty" if handout is None else "given")
        self.machine.given(self.name, self.holder, handout, self.lease_ms)

    def abandoned(self) -> None:
        self.answers.append("abandoned")

    def mailbox_ended(self) -> None:
        self.answers.append("ended")


class GroupMachine(RuleBasedStateMachine):
    """`model`: for each group what each message is, as it is in force; `durable`: as it was when the last commit succeeded."""

    office: PostOffice

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = MemoryStore()
        self.now = 1_000_000
        self.waits: list[Waiting] = []
        self.members: list[Member] = []
        self.start()

    def teardown(self) -> None:
        self.office.close()
        self.loop.close()

    def start(self) -> None:
        if hasattr(self, "office"):
            self.office.close()
        self.office = started(self.store, self.loop, self.now)
        self.office.groups.slice_max = SLICE
        self.members = []

    def rows(self, table: Table) -> list[tuple[bytes, bytes]]:
        return rows_of(self.store, self.loop, table)

    @initialize()
    def begin(self) -> None:
        self.messages: dict[int, Message] = {}
        self.sent: list[tuple[int, Message]] = []
        self.model: dict[str, dict[int, State]] = {}
        self.durable: dict[str, dict[int, State]] = {}
        operations.create(self.office, CreateRequest(name="box", ttl=0), "", 0, self.now, lambda answer: None)
        self.next_id = getattr(self, "next_id", 1)
        self.commit()
        self.waits = []
        self.members = []

    # what the broker has

    @property
    def mailbox(self) -> Mailbox:
        mailbox = self.office.get(b"box", self.now)
        assert mailbox is not None
        return mailbox

    def group(self, name: str) -> Group:
        group = self.office.groups.find(self.mailbox, name.encode())
        if group is None:
            group = self.office.groups.create(self.mailbox, name.encode(), 1)
            self.model[name] = {}
        return group

    def is_there(self, msg_id: int) -> bool:
        message = self.messages.get(msg_id)
        return message is not None and not (message.end and message.end <= self.now)

    def is_visible(self, msg_id: int) -> bool:
        return self.is_there(msg_id) and self.messages[msg_id].visible <= self.now

    def state(self, name: str, msg_id: int) -> State:
        return self.model[name].get(msg_id, State())

    def available(self, name: str) -> list[int]:
        """What the group may give out, in the order in which it must."""
        found = []
        for msg_id, message in self.messages.items():
            state = self.state(name, msg_id)
            if self.is_visible(msg_id) and (
                state.what in ("new", "lapsed") or (state.what == "returned" and not state.until)
            ):
                found.append((message.rank, msg_id))
        return [msg_id for _, msg_id in sorted(found)]

    def given(self, name: str, worker: int, handout: Handout | None, lease_ms: int) -> list[int]:
        """Take a handout over into the model: all of it must have been there to be given, and come in its order."""
        if handout is None:
            return []
        listing = handout.listing()
        expected = self.available(name)[: len(listing)]
        assert [msg_id for msg_id, _ in listing] == expected
        for msg_id, attempt in listing:
            state = self.state(name, msg_id)
            assert attempt == state.attempts + 1
            self.model[name][msg_id] = State("leased", after(self.now, lease_ms), worker, attempt)
        return expected

    # what happens

    @rule(
        rank=st.integers(0, 4),
        count=st.integers(1, 4),
        ttl=st.sampled_from([0, 0, 0, 5]),
        delay_ms=st.sampled_from([0, 0, 3, 1_000]),
        stored=st.sampled_from([True] * 3 + [False]),
    )
    def send(self, rank: int, count: int, ttl: int, delay_ms: int, *, stored: bool) -> None:
        for _ in range(count):
            end = self.now + ttl * 1_000 if ttl else 0
            visible = after(self.now, delay_ms) if delay_ms else 0
            self.office.put(self.mailbox, rank, b"payload", end, self.now, visible_ms=visible)
            self.sent.append((self.next_id, Message(rank, end, visible)))
            self.next_id += 1
        if stored:
            self.commit()

    @rule(
        name=GROUPS, worker=WORKERS, count=st.integers(1, 5), lease_ms=st.sampled_from([500, 5_000, 60_000, 1_000_000])
    )
    def lease(self, name: str, worker: int, count: int, lease_ms: int) -> None:
        group = self.group(name)
        if group.fetches:
            return  # those that wait come first
        expected = self.available(name)[:count]
        handout = group.lease(count, 1 << 30, lease_ms, worker, self.now)
        assert self.given(name, worker, handout, lease_ms) == expected

    @rule(name=GROUPS, worker=WORKERS, count=st.integers(1, 3), wait_ms=st.sampled_from([100, 10_000]))
    def wait(self, name: str, worker: int, count: int, wait_ms: int) -> None:
        group = self.group(name)
        if not self.available(name):
            fetch = Waiting(self, group, name, worker, count, self.now + wait_ms)
            self.office.groups.wait(fetch)
            self.waits.append(fetch)

    @rule(name=GROUPS, space=st.integers(0, 3))
    def join(self, name: str, space: int) -> None:
        if len(self.members) < 3:
            self.group(name)
            self.members.append(Member(self, name, space))
            self.run()

    @precondition(lambda self: self.members)
    @rule(pick=st.integers(0, 100), space=st.integers(1, 3))
    def member_has_room(self, pick: int, space: int) -> None:
        self.members[pick % len(self.members)].listener.more(space)
        self.run()

    @precondition(lambda self: self.members)
    @rule(pick=st.integers(0, 100), count=st.integers(1, 3))
    def member_takes(self, pick: int, count: int) -> None:
        member = self.members[pick % len(self.members)]
        member.taken = min(member.taken + count, member.given)
        member.listener.taken(member.taken)
        for msg_id, state in self.on_the_way(member):
            if state.place <= member.taken:
                self.model[member.name][msg_id] = State("done", attempts=state.attempts)

    @precondition(lambda self: self.members)
    @rule(pick=st.integers(0, 100))
    def member_leaves(self, pick: int) -> None:
        member = self.members.pop(pick % len(self.members))
        member.listener.leave(self.now)
        for msg_id, state in self.on_the_way(member):
            self.model[member.name][msg_id] = State("returned", 0, state.before, state.attempts)
        self.run()

    def on_the_way(self, member: Member) -> list[tuple[int, State]]:
        """What a receiver was given and has not taken."""
        return [(msg_id, state) for msg_id, state in self.model[member.name].items() if state.member is member]

    @precondition(lambda self: self.waits)
    @rule(pick=st.integers(0, 100), at_once=st.booleans())
    def client_leaves(self, pick: int, at_once: bool) -> None:
        fetch = self.waits[pick % len(self.waits)]
        fetch.there = False
        if at_once and fetch.waits:
            self.office.groups.withdraw(fetch)

    @rule(
        name=GROUPS,
        picks=st.lists(st.integers(0, 100), min_size=1, max_size=3),
        worker=WORKERS,
        one=st.booleans(),
        op=st.sampled_from(["ack", "ack", "nack", "extend", "dead", "revive"]),
        delay_ms=st.sampled_from([0, 0, 3_000]),
    )
    def settle(self, name: str, picks: list[int], worker: int, one: bool, op: str, delay_ms: int) -> None:
        if name not in self.model or not self.model[name]:
            return
        group = self.group(name)
        # Mostly what somebody has, so that there is something to settle.
        kinds = ("leased", "lapsed", "handed", "dead")
        held = [m for m, s in self.model[name].items() if s.what in kinds and self.is_there(m)]
        buried = [msg_id for msg_id in held if self.state(name, msg_id).what == "dead"]
        held = buried if buried and picks[0] % 4 == 1 else held
        known = held if held and picks[0] % 4 else list(self.model[name])
        chosen = list(dict.fromkeys(known[pick % len(known)] for pick in picks))
        attempts = {msg_id: group.state_of(msg_id, self.rank(msg_id))[1] for msg_id in chosen}
        if one:
            # The attempt that is current, so that who asks does not matter.
            request = AckRequest(name, chosen[0], (), op, delay_ms, 7_000, b"", attempts[chosen[0]] or None)
            chosen = chosen[:1]
            listed = [m for m, _ in group.open[chosen[0]].listing()] if chosen[0] in group.open else []
        else:
            request = AckRequest(name, None, tuple(chosen), op, delay_ms, 7_000)
            listed = []
        refused = dict(settle(group, request, worker, self.now, lambda client: client != GONE))
        for msg_id in chosen:
            self.expect(name, group, msg_id, worker, request, refused.get(msg_id), by_attempt=one)
        if one and op == "ack" and not refused and chosen[0] in listed:
            for msg_id in listed[: listed.index(chosen[0])]:
                if self.state(name, msg_id).what in ("leased", "lapsed"):
                    self.model[name][msg_id] = replace(self.state(name, msg_id), what="done")

    def rank(self, msg_id: int) -> int:
        if not self.is_there(msg_id):
            return -1
        return self.messages[msg_id].rank if self.is_visible(msg_id) else DELAYED

    def expect(
        self,
        name: str,
        group: Group,
        msg_id: int,
        worker: int,
        request: AckRequest,
        problem: ProtocolError | None,
        *,
        by_attempt: bool,
    ) -> None:
        state = self.state(name, msg_id)
        if problem is not None and problem.sentence.endswith("was leased again"):
            assert not by_attempt
            assert state.holder != worker
            return
        if problem is not None and problem.sentence.endswith("is another worker's"):
            assert not by_attempt
            assert state.what in ("leased", "lapsed")
            assert state.holder not in (0, GONE, worker)
            return
        if request.op == "extend" and problem is None:
            assert by_attempt or state.holder in (0, GONE, worker)
        expected = self.answer_to(state, request.op, self.is_there(msg_id))
        assert (None if problem is None else problem.sentence.removeprefix(f"message {msg_id} ")) == expected, (
            state,
            request,
        )
        if problem is not None:
            return
        again = State(
            "returned", after(self.now, request.delay_ms) if request.delay_ms else 0, state.holder, state.attempts
        )
        becomes = {
            "ack": State("done", 0, state.holder, state.attempts),
            "nack": again if state.attempts < ATTEMPTS_MAX else replace(state, what="dead"),
            "extend": State("leased", after(self.now, request.lease_ms), worker, state.attempts),
            "dead": replace(state, what="dead"),
            "revive": State("returned"),
        }
        self.model[name][msg_id] = becomes[request.op]

    @staticmethod
    def answer_to(state: State, op: str, there: bool) -> str | None:
        """The table of docs/protocol.md §4, as code."""
        what = "new" if state.what == "returned" and not state.attempts else state.what
        if not there:
            return None if what in ("leased", "handed") and op == "ack" else "no such message"
        if what == "done":
            return None if op == "ack" else "is done"
        if op == "revive":
            return None if what == "dead" else "was not handed out" if state.what == "new" else "is not dead"
        if what == "new":
            return "was not handed out"
        if what == "handed":
            return None if op == "ack" else "is on its way to a receiver"
        if what == "dead":
            return "is dead" if op in ("nack", "extend") else None
        return "was given back" if what == "returned" and op == "extend" else None

    @rule(name=GROUPS, pick=st.integers(0, 100))
    def send_back(self, name: str, pick: int) -> None:
        if name not in self.model:
            return
        highest = max(self.messages, default=1)
        from_id = 1 + pick % highest
        self.group(name).start(from_id)
        self.make_ready()
        for msg_id in self.messages:
            state = self.state(name, msg_id)
            if not self.is_visible(msg_id):
                continue  # it appears behind where the group is, and is given out all the same
            if msg_id < from_id and state.what in ("new", "returned", "lapsed"):
                self.model[name][msg_id] = State("done", 0, 0, 1)
            elif msg_id >= from_id and state.what == "done":
                self.model[name][msg_id] = State()

    @rule(pick=st.integers(0, 100))
    def delete(self, pick: int) -> None:
        self.commit()
        there = [msg_id for msg_id in self.messages if self.is_there(msg_id)]
        if there:
            operations.delete(self.office, self.mailbox, there[pick % len(there)], self.now, lambda answer: None)
            self.commit()
            del self.messages[there[pick % len(there)]]
            self.run()

    @rule(pick=st.integers(0, 100))
    def remove_mailbox(self, pick: int) -> None:
        if pick % 8:
            return
        waits = [fetch for fetch in self.waits if fetch.waits]
        operations.remove(self.office, self.mailbox, lambda answer: None)
        self.seal_and_commit()
        while self.office.tick(self.now, 3):
            pass
        assert all(fetch.answers == (["ended"] if fetch.there else ["abandoned"]) for fetch in waits)
        self.seal_and_commit()
        assert self.rows(Table.GROUPS) == []
        assert self.office.groups.groups == 0
        self.begin()

    @rule(milliseconds=st.sampled_from([4, 400, 2_000, 10_000, 70_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.run()
        self.now += milliseconds
        due = [fetch for fetch in self.waits if fetch.waits and fetch.deadline_ms <= self.now]
        while self.office.tick(self.now, 3):
            pass
        self.make_ready()
        for states in self.model.values():
            for msg_id, state in list(states.items()):
                if state.what == "leased" and state.until <= self.now:
                    over = "dead" if state.attempts >= ATTEMPTS_MAX else "lapsed"
                    states[msg_id] = replace(state, what=over if self.is_there(msg_id) else "done", until=0)
                elif state.what == "returned" and state.until and state.until <= self.now:
                    states[msg_id] = replace(state, until=0)
        self.run()
        assert all(fetch.answers for fetch in due)

    def run(self) -> None:
        """Let those who wait have what there is; every other time receivers come first."""
        self.make_ready()
        for _ in range(3):
            while self.office.run(self.now, 1 << 20) or self.office.groups.stirred or self.read_wanted():
                pass
        for member in self.members:
            assert not member.listener.space or not self.available(member.name), "a receiver is not given what there is"

    def read_wanted(self) -> bool:
        """Bring the blocks that receivers wait for into memory; returns whether there were any."""
        wanted = self.office.delivery.take_wanted()
        for number in wanted:
            self.office.delivery.keep(number, self.loop.run_until_complete(self.store.read_block(number)))
            self.office.delivery.look_again(number)
        return bool(wanted)

    def make_ready(self) -> None:
        """Let every group look at all that it has to look at before anything may be asked of it."""
        book = self.mailbox.groups
        for group in () if book is None else book.by_name.values():
            while not group.ready():
                pass

    @rule()
    def commit(self) -> None:
        self.seal_and_commit()
        self.messages |= dict(self.sent)
        self.sent = []
        self.run()
        self.seal_and_commit()
        self.durable = {name: dict(states) for name, states in self.model.items()}

    def seal_and_commit(self) -> None:
        while (batch := self.office.seal(self.now)) is not None:
            commit = Commit([(block.number, memoryview(block)) for block in batch.blocks], batch.dropped, batch.rows)
            self.loop.run_until_complete(self.store.commit(commit))
            self.office.settle(batch, self.now)

    @rule()
    def commit_fails(self) -> None:
        failed = self.office.seal(self.now)
        while failed is not None:
            self.office.fail(failed, UNAVAILABLE)
            failed = self.office.seal_full(self.now)
        self.office.accept()
        self.sent = []

    @rule(stored=st.booleans())
    def restart(self, *, stored: bool) -> None:
        """What was not committed is forgotten: each group is as it was then, and no holder is known any more."""
        if stored:
            self.commit()
        self.start()
        self.waits = []
        self.sent = []
        self.model = {}
        for name, states in self.durable.items():
            self.model[name] = {}
            for msg_id, state in states.items():
                now = replace(state, holder=0)
                if state.what == "leased" and state.until <= self.now:
                    now = replace(now, what="dead" if state.attempts >= ATTEMPTS_MAX else "lapsed", until=0)
                elif state.what == "returned" and state.until and state.until <= self.now:
                    now = replace(now, until=0)
                elif state.what == "handed":
                    now = State("returned", 0, 0, state.attempts)
                self.model[name][msg_id] = now
        self.seal_and_commit()
        self.durable = {name: dict(states) for name, states in self.model.items()}
        probe = CreateRequest(name="probe", ttl=0)  # learn which msg_id comes next
        operations.create(self.office, probe, "", 0, self.now, lambda answer: None)
        self.seal_and_commit()
        mailbox = self.office.get(b"probe", self.now)
        assert mailbox is not None
        self.office.put(mailbox, 0, b"", 0, self.now)
        self.seal_and_commit()
        self.next_id = mailbox.last_id(self.now) + 1
        operations.remove(self.office, mailbox, lambda answer: None)
        self.seal_and_commit()

    # what must always be so

    @invariant()
    def each_message_is_what_it_should_be(self) -> None:
        if not hasattr(self, "model"):
            return
        for name, states in self.model.items():
            group = self.office.groups.find(self.mailbox, name.encode())
            assert group is not None, f"group {name} is lost"
            for msg_id in self.messages:
                if self.is_there(msg_id):
                    state = states.get(msg_id, State())
                    shown, attempts = group.state_of(msg_id, self.rank(msg_id))
                    words = {"new": "waiting", "lapsed": "waiting", "returned": "waiting", "handed": "leased"}
                    assert shown == words.get(state.what, state.what), (name, msg_id, state)
                    if state.what != "done":
                        assert attempts == state.attempts
            buried = {msg_id for msg_id, state in states.items() if state.what == "dead" and self.is_there(msg_id)}
            assert {msg_id for msg_id, _, _ in self.office.groups.dead(group, 0, 1_000, self.now)[0]} == buried


TestGroups = GroupMachine.TestCase
TestGroups.settings = settings(max_examples=300, stateful_step_count=80, deadline=None, derandomize=True)


def test_leases_that_run_out_together_are_taken_back_a_slice_at_a_time() -> None:
    machine = GroupMachine()
    machine.begin()
    for _ in range(5_000):
        machine.office.put(machine.mailbox, 3, b"", 0, machine.now)
    machine.seal_and_commit()
    group = machine.group("a")
    for _ in range(5):
        assert len(group.lease(1_000, 1 << 30, 1_000, 1, machine.now) or ()) == 1_000
    machine.now += 1_000 + TICK_MS
    slices = 1
    while machine.office.tick(machine.now, 1_000):
        waiting = sum(group.state_of(msg_id, 3)[0] == "waiting" for msg_id in range(1, 5_001))
        assert waiting <= slices * 1_000
        slices += 1
    assert slices >= 5
    assert len(group.lease(1_000, 1 << 30, 1_000, 1, machine.now) or ()) == 1_000
    machine.teardown()
