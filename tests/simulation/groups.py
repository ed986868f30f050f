"""What is allowed of groups: who may be given what, how often, and what may never come again.

What was answered is certain, and so is the opposite of what was refused. Between the two, and after a crash, a message may be either
one thing or the other: then nothing is demanded of it until an answer tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from tests.simulation.model import Box, Letter, demand, letter_of, passed

if TYPE_CHECKING:
    from mq9.mailboxes.office import PostOffice
    from tests.simulation.clients import Asked, Client, Subscription
    from tests.simulation.model import Model

ATTEMPTS_MAX = 16


class Sure(Enum):
    """What is known."""

    NO = 0
    PERHAPS = 1
    YES = 2


@dataclass(frozen=True)
class Lease:
    """A message that a FETCH gave to a client: nobody else gets it before `until` (Unix ms), which is the earliest end possible.

    `extended`: the place of the ACK that extended it last, 0 for none.
    """

    client: Client
    fetch: Asked
    until: int
    extended: int = 0


@dataclass
class Work:
    """A message as its group sees it. `least`, `most`: attempts that have been counted. `not_before`: Unix ms.

    `member` is the receiver on its way to which it is. `overlaps`: it was with somebody when the group was made to
    start over; when that one is done with it, the group may come by and give it out once more. `claimed`: the place of
    the last extend by somebody who was not known to hold it, who may have taken it over. `reply`: the FETCH that listed it last.
    """

    done: Sure = Sure.NO
    dead: Sure = Sure.NO
    least: int = 0
    most: int = 0
    lease: Lease | None = None
    not_before: int = 0
    member: Subscription | None = None
    taken: bool = False
    overlaps: bool = False
    changes: int = 0
    claimed: int = 0
    reply: Asked | None = None


@dataclass(eq=False)
class Gathering:
    """A group. Messages before `first` may have been left out when it began.

    `under_way`: FETCHes that are not answered; `loose`: attempts that may have been counted though nobody was given anything.
    `durable`: it is certain to be stored; one that is not may have been refused, or forgotten by a crash, and begin anew.
    `since`: messages sent before may have been left out as well (Unix ms). `restarting`: FETCHes that look for where it is to start over.
    """

    box: Box
    name: str
    first: int
    works: dict[int, Work] = field(default_factory=dict)
    under_way: int = 0
    loose: int = 0
    durable: bool = False
    since: int = 0
    restarting: set[Asked] = field(default_factory=set)

    def work(self, msg_id: int) -> Work:
        """What is known of a message."""
        if msg_id not in self.works:
            self.works[msg_id] = Work(most=self.loose)
        return self.works[msg_id]


class Groups:
    """All groups of a model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.gatherings: dict[tuple[int, str], Gathering] = {}
        self.given = 0
        self.settled_since = 0
        self._taken: list[tuple[Gathering, int, Work]] = []
        self._in_commit: list[Work] = []
        # What was done or dead and went to a receiver, with its changes up to then.
        self._reopened: list[tuple[Work, int]] = []
        self._reopened_in_commit: list[tuple[Work, int]] = []

    def gathering(self, box: Box, name: str, first: int) -> Gathering:
        """The group of this name, which begins at `first` when it is new."""
        return self.gatherings.setdefault((box.number, name), Gathering(box, name, first))

    def of(self, box: Box) -> Iterator[Gathering]:
        """The groups of a mailbox."""
        return (each for each in self.gatherings.values() if each.box is box)

    # FETCH

    def asked_lease(self, asked: Asked, box: Box | None, now: int) -> None:
        """The broker reads a FETCH."""
        details = asked.details
        name = details["group"]
        if box is None or name is None:
            return
        deliver = details["deliver"]
        box.wanted = True
        first = {"earliest": 0, "from_time": 0, "from_id": details["from_id"]}.get(deliver)
        if first is None:
            first = max((letter.msg_id for letter in box.visible(31, now)), default=0)
        since = int(details["from_time"] * 1_000) if deliver == "from_time" else 0
        known = (box.number, name) in self.gatherings
        gathering = details["gathering"] = self.gathering(box, name, first)
        gathering.under_way += 1
        if not known or not gathering.durable or details["force"]:
            gathering.first = max(gathering.first, first)
            gathering.since = max(gathering.since, since)
        if known and details["force"]:
            self._start_over(gathering, now)
            if since:  # it starts over when the message is found
                gathering.restarting.add(asked)

    def _start_over(self, gathering: Gathering, now: int) -> None:
        for work in gathering.works.values():
            work.changes += 1
            work.overlaps = True
            work.least = 0
            work.taken = False
            if work.done is not Sure.NO:  # acked by another while it is on its way to a receiver
                work.member = None
            if work.done is Sure.YES:
                work.done = Sure.PERHAPS
            if work.dead is Sure.NO and (work.lease is None or work.lease.until <= now) and work.member is None:
                work.done = Sure.PERHAPS

    def answered_lease(
        self, asked: Asked, reply: dict[str, Any], code: int | None, now: int, *, settling: bool
    ) -> None:
        """A FETCH was answered. `settling`: when a commit was settled."""
        details = asked.details
        box: Box | None = details["box"]
        gathering: Gathering | None = details.get("gathering")
        if gathering is not None:
            self.over(asked, now)
            self._restarted(gathering, asked, now)
        if code in (503, 507) and gathering is not None:
            self._count_perhaps(
                gathering, 1
            )  # should its leases be stored, and a crash come before they are given back
        if code is not None:
            allowed = code in (503, 507) or (code == 404 and (box is None or not box.live(now) or box.back_at == now))
            demand(allowed, f"FETCH was answered {reply}")
            return
        demand(len(reply["messages"]) <= details["limit"], "FETCH gave more than was asked for")
        if gathering is not None:
            gathering.durable = True
        last = (-1, -1)
        for item in reply["messages"]:
            letter = letter_of(self.model, item)
            seen = letter.live(now) or letter in self.model.replaced_now
            letter.offered = letter.offered or gathering is not None
            demand(letter.box is box and seen, f"{letter} was leased when it was gone")
            demand(letter.visible <= now, f"{letter} was leased before its time")
            demand((letter.rank, letter.msg_id) > last, f"FETCH gave {letter} behind {last}")
            last = (letter.rank, letter.msg_id)
            if gathering is None:
                demand(item["attempt"] == 0, f"{letter} was read with an attempt")
                self._may_be_read(asked, letter)
                continue
            work = gathering.work(letter.msg_id)
            if work.lease is not None and work.lease.extended > asked.place:
                work.lease = None  # extended before the reply was made
            self._may_be_given(gathering, letter, now)
            attempt = item["attempt"]
            # Leases of FETCHes that are under way may have run out already, which counts.
            most = min(work.most + 1 + gathering.under_way, ATTEMPTS_MAX)
            demand(work.least < attempt <= most, f"{letter}: attempt {attempt}, not {work.least + 1} to {most}")
            begun = max(asked.at, self.settled_since) if settling else asked.at
            until = 0 if work.claimed > asked.place else passed(begun, details["lease_ms"])
            work.lease = Lease(asked.client, asked, until)
            work.reply = asked
            work.least = work.most = attempt
            work.done = Sure.NO
            work.dead = Sure.NO
            work.not_before = 0
            work.changes += 1
            self.given += 1

    def over(self, asked: Asked, now: int) -> None:
        """A FETCH is answered, or its client has gone."""
        gathering: Gathering = asked.details["gathering"]
        if not asked.details.get("over"):
            asked.details["over"] = True
            gathering.under_way -= 1
            if now - asked.at >= asked.details["lease_ms"]:
                self._count_perhaps(gathering, 1)  # a lease that nobody got may have run out, which counts

    def _count_perhaps(self, gathering: Gathering, attempts: int) -> None:
        gathering.loose = min(gathering.loose + attempts, ATTEMPTS_MAX)
        for work in gathering.works.values():
            work.most = min(work.most + attempts, ATTEMPTS_MAX)
            if work.most == ATTEMPTS_MAX and work.dead is Sure.NO:
                work.dead = Sure.PERHAPS

    def _may_be_read(self, asked: Asked, letter: Letter) -> None:
        """Whether a message may be in the answer to a FETCH without a group."""
        details = asked.details
        if details["deliver"] == "from_id":
            demand(letter.msg_id >= details["from_id"], f"{letter} was read from {details['from_id']} on")
        elif details["deliver"] == "from_time":
            sent = letter.at >= int(details["from_time"] * 1_000) or letter.stored_at >= asked.at
            demand(sent, f"{letter} was sent before {details['from_time']}")

    def _restarted(self, gathering: Gathering, asked: Asked, now: int) -> None:
        """A FETCH has found where its group was to start over, if that was its task."""
        if asked in gathering.restarting:
            gathering.restarting.remove(asked)
            self._start_over(gathering, now)

    def at_rest(self, now: int) -> None:
        """Nothing is under way any more, not even for clients that have gone."""
        for gathering in self.gatherings.values():
            for asked in [asked for asked in gathering.restarting if asked.client.gone or asked.client.leaving]:
                self._restarted(gathering, asked, now)

    def _may_be_given(self, gathering: Gathering, letter: Letter, now: int) -> None:
        """Whether a message may go to somebody now."""
        work = gathering.work(letter.msg_id)
        where = f"{letter} of group {gathering.name}"
        demand(work.lease is None or work.lease.until <= now, f"{where} has two holders")
        demand(work.member is None, f"{where} is on its way to a receiver, and given to another")
        again = gathering.restarting or (work.done is not Sure.YES and not work.taken)
        demand(again, f"{where} was done, and is given out again")
        demand(work.dead is not Sure.YES, f"{where} was dead, and is given out again")
        demand(work.not_before <= now, f"{where} came {work.not_before - now} ms before its delay was over")

    # ACK

    def asked_ack(self, asked: Asked, box: Box | None, now: int) -> None:
        """The broker reads an ACK: what it says is in force at once, and certain when it is answered."""
        details = asked.details
        gathering = None if box is None else self.gatherings.get((box.number, details["group"]))
        details["gathering"] = gathering
        details["before"] = {}
        if gathering is None:
            return
        for msg_id in self._meant(gathering, details, now):
            work = gathering.work(msg_id)
            details["before"][msg_id] = replace(work)
            work.changes += 1
            known = work.lease is not None and work.lease.client is asked.client and not gathering.under_way
            if details["op"] == "extend" and not known:
                work.claimed = asked.place
            if gathering.under_way:  # it may be in a reply that is not made yet, and will not be in it
                work.most = min(work.most + 1, ATTEMPTS_MAX)
            self._perhaps(work, details, now)
            details.setdefault("changes", {})[msg_id] = work.changes

    def _meant(self, gathering: Gathering, details: dict[str, Any], now: int) -> list[int]:
        """The messages of which an ACK speaks: with a single msg_id, those before it in the same FETCH reply too."""
        msg_id = details["msg_id"]
        if msg_id is None:
            return list(dict.fromkeys(details["msg_ids"]))
        work = gathering.work(msg_id)
        details["listed"] = []
        details["whole"] = work.done is Sure.NO  # else what was listed before it may be left alone
        if work.reply is None or details["op"] != "ack":
            return [msg_id]
        if (work.lease is None or work.lease.until <= now) and gathering.under_way:
            self._blur(gathering)  # it may be in another reply by now, which is on its way to the same client
        listed = work.reply.details["listed"]
        before = listed[: listed.index(msg_id)] if msg_id in listed else []
        details["listed"] = [each for each in before if gathering.work(each).reply is work.reply]
        return [*details["listed"], msg_id]

    def _blur(self, gathering: Gathering) -> None:
        """Anything may be done."""
        gathering.first = 1 << 63
        for work in gathering.works.values():
            work.done = Sure.PERHAPS if work.done is Sure.NO else work.done

    def _perhaps(self, work: Work, details: dict[str, Any], now: int) -> None:
        op = details["op"]
        if work.overlaps:
            work.least = 0
        if op == "revive" and work.dead is Sure.NO:
            return
        if op == "extend":
            if work.lease is not None:
                work.lease = replace(work.lease, until=min(work.lease.until, passed(now, details["lease_ms"])))
            return
        work.lease = None
        work.not_before = 0
        if op == "ack":
            work.done = Sure.YES if work.done is Sure.YES else Sure.PERHAPS
            work.dead = Sure.NO if work.dead is Sure.NO else Sure.PERHAPS
        elif op == "dead" or (op == "nack" and work.most >= ATTEMPTS_MAX):
            work.dead = Sure.YES if work.dead is Sure.YES else Sure.PERHAPS
        elif op == "revive":
            work.dead = Sure.NO if work.dead is Sure.NO else Sure.PERHAPS
            work.least = 0

    def answered_ack(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        """An ACK was answered."""
        details = asked.details
        gathering: Gathering | None = details["gathering"]
        if code in (503, 507) or gathering is None:
            return
        before: dict[int, Work] = details["before"]
        single = () if details["msg_id"] is None else (details["msg_id"],)
        refused = set(reply.get("msg_ids", single or before)) if code is not None else set()
        for msg_id, former in before.items():
            if code is not None and single and msg_id not in refused:
                continue  # nothing is said of those before a single one
            work = gathering.works[msg_id]
            untouched = work.changes == details["changes"][msg_id]
            if msg_id in refused:
                self._may_be_refused(asked, gathering, msg_id, former, reply)
                if untouched:
                    # But for the leases that may have run out meanwhile.
                    dead = work.dead if work.most == ATTEMPTS_MAX else former.dead
                    work = gathering.works[msg_id] = replace(former, most=max(former.most, work.most), dead=dead)
                    if reply["error"] == f"message {msg_id} is done" and not work.overlaps:
                        work.done = Sure.YES
            elif untouched:
                self._may_be_done(asked, msg_id, former)
                self._certain(asked, work, former, msg_id in details.get("listed", ()))
            elif details["op"] == "ack" and msg_id not in details.get("listed", ()):
                work.done = Sure.PERHAPS if work.lease is not None else work.done

    def _may_be_refused(
        self, asked: Asked, gathering: Gathering, msg_id: int, work: Work, reply: dict[str, Any]
    ) -> None:
        details = asked.details
        lease = work.lease
        holds = lease is not None and lease.client is asked.client and lease.until > asked.at and not asked.client.gone
        holds = holds and lease is not None and lease.fetch.place > work.claimed
        letter = gathering.box.letters.get(msg_id)
        there = details["op"] == "ack" or (letter is not None and letter.live(asked.at))
        if holds and there and gathering.box.live(asked.at) and details["op"] in ("ack", "nack", "extend", "dead"):
            unsure = details["attempt"] is not None and not details["attempt"] == work.least == work.most
            demand(unsure, f"{details['op']} of message {msg_id} was answered {reply}")

    def _may_be_done(self, asked: Asked, msg_id: int, work: Work) -> None:
        """An ACK was carried out: nobody extends what somebody else holds, unless he names the attempt."""
        lease = work.lease
        if asked.details["op"] != "extend" or asked.details["attempt"] is not None or lease is None:
            return
        there = not lease.client.gone and not lease.client.leaving
        held = lease.until > asked.at and there and work.claimed <= lease.fetch.place
        demand(not held or lease.client is asked.client, f"message {msg_id} was extended by another")

    def _certain(self, asked: Asked, work: Work, former: Work, listed: bool) -> None:
        details = asked.details
        op = details["op"]
        if op == "ack":
            held = former.lease is not None and former.lease.until > asked.at
            sure = not work.overlaps and (not listed or (held and details["whole"]))
            work.done = Sure.YES if sure else Sure.PERHAPS
            work.dead = Sure.NO if work.done is Sure.YES else work.dead
        elif op == "nack":
            work.done = Sure.NO
            work.dead = Sure.YES if former.least >= ATTEMPTS_MAX else work.dead
            work.not_before = passed(asked.at, details["delay_ms"]) if details["delay_ms"] else 0
        elif op == "extend":
            fetch = asked if former.lease is None else former.lease.fetch
            work.lease = Lease(asked.client, fetch, passed(asked.at, details["lease_ms"]), asked.place)
        elif op == "dead":
            work.dead = Sure.YES
        elif op == "revive":
            work.dead = work.done = Sure.NO
            work.least = work.most = 0

    # receivers

    def joined(self, subscription: Subscription) -> None:
        """A receiver has become a member."""
        self.gathering(subscription.box, subscription.group or "", 0)

    def given_member(self, subscription: Subscription, letter: Letter, end: int, now: int) -> None:
        """A message was written for a member; it ends at `end` of the output."""
        gathering = self.gathering(subscription.box, subscription.group or "", 0)
        self._may_be_given(gathering, letter, now)
        work = gathering.work(letter.msg_id)
        work.member = subscription
        work.lease = work.reply = None
        work.changes += 1
        if work.done is not Sure.NO or work.dead is not Sure.NO:
            # What made it open again, a revive or a start over, may not be durable: a crash may undo both.
            work.done = work.dead = Sure.PERHAPS
            self._reopened.append((work, work.changes))
        subscription.untaken.append((end, letter.msg_id))
        self.given += 1

    def taken(self, subscription: Subscription, position: int) -> None:
        """The socket of a member has taken everything up to `position`: it is done."""
        while subscription.untaken and subscription.untaken[0][0] <= position:
            _, msg_id = subscription.untaken.popleft()
            gathering = self.gathering(subscription.box, subscription.group or "", 0)
            work = gathering.work(msg_id)
            work.member = None
            work.changes += 1
            work.taken = not work.overlaps
            work.done = Sure.YES if work.done is Sure.YES else Sure.PERHAPS
            self._taken.append((gathering, msg_id, work))

    def lost(self, subscription: Subscription, office: PostOffice) -> None:
        """A member's connection is gone: what its socket has not taken goes to others, and perhaps what it took just now."""
        gathering = self.gathering(subscription.box, subscription.group or "", 0)
        while subscription.untaken:
            work = gathering.work(subscription.untaken.popleft()[1])
            work.member = None
            work.changes += 1
        for taken in self._taken:
            if taken[0] is gathering and _is_open(office, gathering, taken[1]):
                taken[2].taken = False

    # commits and restarts

    def commit_begun(self, office: PostOffice) -> None:
        """What receivers were given, and have taken, up to now becomes durable with this commit."""
        self._in_commit = [work for gathering, msg_id, work in self._taken if not _is_open(office, gathering, msg_id)]
        self._reopened_in_commit = list(self._reopened)

    def commit_ended(self) -> None:
        """That commit is durable."""
        for work in self._in_commit:
            if work.taken and not work.overlaps:
                work.done = Sure.YES
        kept = {id(work) for work in self._in_commit}
        self._taken = [each for each in self._taken if id(each[2]) not in kept]
        self._in_commit = []
        for work, changes in self._reopened_in_commit:
            if work.changes == changes:
                work.done = work.dead = Sure.NO
        del self._reopened[: len(self._reopened_in_commit)]
        self._reopened_in_commit = []

    def restarted(self) -> None:
        """A new process: what was under way may be, or not."""
        for gathering in self.gatherings.values():
            if gathering.under_way:
                self._count_perhaps(gathering, gathering.under_way)
                gathering.under_way = 0
            gathering.restarting.clear()
            for work in gathering.works.values():
                work.member = None
                work.taken = False
        self._taken = []
        self._in_commit = []
        self._reopened = []
        self._reopened_in_commit = []

    def abandoned(self, asked: Asked, now: int) -> None:
        """The client of a FETCH has gone: should the broker crash before what it got is given back durably, that counts."""
        gathering: Gathering | None = asked.details.get("gathering")
        if gathering is not None and not asked.details.get("over"):
            self.over(asked, now)
            gathering.under_way += 1
            self._count_perhaps(gathering, 1)  # its lease may run out before the broker notices
            for work in gathering.works.values():  # what it extended before it had the reply is given back as well
                if work.lease is not None and work.lease.client is asked.client and work.lease.extended > asked.place:
                    work.lease = None

    # the end

    def must_be_given(self, gathering: Gathering, now: int) -> list[Letter]:
        """What there certainly is to give when no lease and no delay is running any more."""
        found = []
        for letter in self.model.seen(gathering.box, 31, now):
            work = gathering.works.get(letter.msg_id)
            if (
                letter.msg_id >= gathering.first
                and letter.at >= gathering.since
                and (
                    work is None
                    or (work.done is Sure.NO and work.dead is Sure.NO and work.member is None and not work.taken)
                )
            ):
                found.append(letter)
        return found


def _is_open(office: PostOffice, gathering: Gathering, msg_id: int) -> bool:
    """Whether the broker has not noticed yet that a receiver's socket has taken the message."""
    mailbox = office.mailboxes.get(gathering.box.name.encode())
    if mailbox is None or mailbox.number != gathering.box.number:
        return False
    group = office.groups.find(mailbox, gathering.name.encode())
    return group is not None and msg_id in group.open
