"""What is allowed: mailboxes and messages as a user may expect them, told by what was asked and what was answered.

Nothing here is taken from the broker's own state but what no answer can tell: which messages were in a commit that became durable,
and, after a crash, which of the changes that were under way have survived it. Whatever contradicts the model raises `ViolationError`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mq9.protocol import PRIORITIES
from mq9.store.contract import Commit

if TYPE_CHECKING:
    from mq9.mailboxes.office import PostOffice
    from tests.simulation.clients import Asked, Frame, Subscription

# For so long the broker may refuse what needs space after a commit has failed: it tries twice a second.
REFUSING_MS = 3_000
DEFAULT_TTL = 86_400
# A Nats-Msg-Id that is said again within this time is a repeat.
WINDOW_MS = 120_000
# Timers are due at whole ticks.
TICK_MS = 4
_BLOCK_HEAD = 32
_RECORD = struct.Struct("<IIQQQ")


class ViolationError(AssertionError):
    """The broker did what is not allowed."""


def demand(condition: object, sentence: str) -> None:
    """Raise ViolationError unless the condition holds."""
    if not condition:
        raise ViolationError(sentence)


@dataclass(eq=False)
class Letter:
    """A message, from the moment when the broker reads it. Times in Unix ms, 0 for never, or for at once.

    `end`: when it expires by its own ttl. `visible`: when it may first be seen. `hopeless`: it would never be, and is to be refused.
    `offered`: somebody was given it since the broker was started. `lost`: its block is damaged, and with it its Nats-Msg-Id.
    `name`, `key`: its Nats-Msg-Id and mq9-key, "" without one. `replaced`: a later one with its key is stored.
    """

    token: int
    box: Box | None
    rank: int
    size: int
    end: int
    at: int
    msg_id: int = 0
    refused: bool = False
    name: str = ""
    key: str = ""
    replaced: bool = False
    stored_at: int = 0
    visible: int = 0
    hopeless: bool = False
    offered: bool = False
    lost: bool = False

    def live(self, now: int) -> bool:
        """Whether it is stored, and neither gone nor over at `now` (Unix ms)."""
        box = self.box
        return box is not None and box.letters.get(self.msg_id) is self and not 0 < self.end <= now and box.live(now)

    @property
    def tick(self) -> int:
        """When its delay ends, by the broker's timers."""
        return -(-self.visible // TICK_MS) * TICK_MS

    def has_appeared(self, idle_at: int) -> bool:
        """Whether it must be seen by a broker that had nothing to do at `idle_at` (Unix ms)."""
        return not self.visible or max(self.tick, self.stored_at) < idle_at

    def __str__(self) -> str:
        return f"message {self.msg_id} ({PRIORITIES[self.rank]}, token {self.token})"


@dataclass(eq=False)
class Box:
    """A mailbox. Times in Unix ms; an `end` of 0 is never. `letters` are those that are stored, by msg_id.

    `lapsed`: it is known to have ended by its time; `back_at`: when it was over, and a renewal asked for in time came into force.
    `named`: what was stored with a Nats-Msg-Id, gone or not. `renewals`: how often it was renewed. `wanted`: somebody has
    received, or asked for a FETCH with a group, since the broker was started.
    """

    name: str
    number: int
    ttl: int
    created: int
    end: int
    over: bool = False
    lapsed: bool = False
    back_at: int = 0
    letters: dict[int, Letter] = field(default_factory=dict)
    named: dict[str, list[Letter]] = field(default_factory=dict)
    renewals: int = 0
    wanted: bool = False

    def live(self, now: int) -> bool:
        """Whether it is there at `now` (Unix ms)."""
        return not self.over and not self.lapsed and not 0 < self.end <= now

    def first_of(self, letter: Letter) -> Letter | None:
        """The stored message that a message repeats for certain, None: there is none."""
        firsts = [
            each for each in self.firsts_of(letter) if letter.at != each.stored_at or letter.at < each.at + WINDOW_MS
        ]
        return next((each for each in reversed(firsts) if not each.lost), None)

    def firsts_of(self, letter: Letter) -> list[Letter]:
        """Those that a message may repeat: sent in the last two minutes, or stored when it was sent."""
        return [
            each
            for each in (self.named.get(letter.name, ()) if letter.name else ())
            if 0 <= letter.at - each.at < WINDOW_MS or each.at <= letter.at <= each.stored_at
        ]

    def is_of(self, box: Box | None) -> bool:
        """Whether it is this mailbox, perhaps renewed since."""
        return box is not None and (self is box or 0 < self.number == box.number)

    def finish(self) -> None:
        """It is gone, and everything in it."""
        self.over = True
        self.letters.clear()

    def stored(self, now: int) -> Iterator[Letter]:
        """The messages that it has at `now`, those included that are delayed."""
        return (letter for letter in self.letters.values() if letter.live(now))

    def visible(self, mask: int, now: int) -> Iterator[Letter]:
        """The messages of the priorities in `mask` that may be seen at `now`: of those whose delay is just over, all."""
        return (letter for letter in self.stored(now) if mask >> letter.rank & 1 and letter.visible <= now)


class Model:
    """Everything that may be expected of one broker, over all its restarts.

    Arguments:
        idle_at: gives the last moment at which the broker had nothing to do, Unix ms.
    """

    def __init__(self, idle_at: Callable[[], int]) -> None:
        self._idle_at = idle_at
        self.boxes: dict[str, Box] = {}
        self.by_number: dict[int, Box] = {}
        self.letters: dict[int, Letter] = {}
        self.pending: list[Asked] = []
        self.subscriptions: list[Subscription] = []
        self.highest = 0
        self.last_trouble = -REFUSING_MS
        self.delivered = 0
        self.repeats = 0
        self.replaced = 0
        self.receipts = 0
        self.damaged = 0
        # What the commit replaces that is being settled: FETCHes that were asked for before may still be given it.
        self.replaced_now: set[Letter] = set()
        self.groups = Groups(self)
        self.settling = False
        self._perhaps_lost: set[int] = set()

    def box(self, name: str, now: int) -> Box | None:
        """The mailbox of this name that is there at `now`."""
        box = self.boxes.get(name)
        return box if box is not None and box.live(now) else None

    def seen(self, box: Box, mask: int, now: int) -> Iterator[Letter]:
        """As `Box.visible`, without those whose delay is just over, and that the broker may not have shown yet."""
        return (letter for letter in box.visible(mask, now) if self.has_appeared(letter))

    def has_appeared(self, letter: Letter) -> bool:
        """Whether its delay is over for so long that the broker must have noticed."""
        return letter.has_appeared(self._idle_at())

    def ended_since(self, since: int) -> bool:
        """Whether something has come to its end at `since` or later, but not in the future: the broker may take a moment to notice."""
        now = since + 100
        boxes = [box for box in self.boxes.values() if not box.over]
        return any(
            since < end <= now
            for box in boxes
            for end in (box.end, *(end for each in box.letters.values() for end in (each.end, each.visible)))
        )

    # what is asked

    def asked(self, asked: Asked, now: int) -> None:
        """The broker reads what a client asks for."""
        asked.at = now
        details = asked.details
        box = details["box"] = self.box(details.get("name", ""), now)
        if asked.what == "send":
            end = now + details["ttl"] * 1_000 if details["ttl"] else 0
            letter = Letter(details["token"], box, details["rank"], details["size"], end, now)
            letter.name, letter.key = details["id"] or "", details["key"] or ""
            letter.visible = passed(now, details["delay_ms"]) if details["delay_ms"] else 0
            letter.hopeless = any(0 < ends <= letter.visible for ends in (end, 0 if box is None else box.end))
            self.letters[letter.token] = details["letter"] = letter
        elif asked.what == "receive":
            self._subscribed(details["subscription"], box)
        elif asked.what == "unsubscribe":
            self.ended(details["subscription"])
        elif asked.what == "watch":
            details["watch"].begin(box)
        elif asked.what == "unwatch":
            details["watch"].ended = True
        elif asked.what == "list":
            details["there"] = set() if box is None else {letter.msg_id for letter in self.seen(box, 31, now)}
            details["perhaps"] = set() if box is None else {letter.msg_id for letter in box.visible(31, now)}
        elif asked.what == "lease":
            self.groups.asked_lease(asked, box, now)
        elif asked.what == "ack":
            self.groups.asked_ack(asked, box, now)
        elif asked.what == "delete":
            found = None if box is None else box.letters.get(details["msg_id"])
            details["letter"] = found
            details["there"] = found is not None and found.live(now)
        if asked.what in ("create", "remove", "delete"):
            self.pending.append(asked)

    def _subscribed(self, subscription: Subscription, box: Box | None) -> None:
        subscription.box = box
        if box is None:
            subscription.ended = True
        else:
            subscription.confirmed = box.wanted = True
            self.subscriptions.append(subscription)
            if subscription.group is not None:
                self.groups.joined(subscription)

    def ended(self, subscription: Subscription) -> None:
        """Whoever received has gone."""
        subscription.ended = True
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)

    # what becomes durable

    def durable(self, commit: Commit, now: int) -> None:
        """A commit is durable: these messages are stored now, whether or not anybody hears of it."""
        for _, data in commit.blocks:
            for msg_id, number, rank, token in records(bytes(data)):
                letter = self.letters[token]
                if letter.msg_id:  # rewritten
                    demand(letter.msg_id == msg_id, f"{letter} is stored anew as {msg_id}")
                    continue
                demand(not letter.refused and not letter.hopeless, f"token {token} was refused, and is stored")
                demand(msg_id > self.highest, f"msg_id {msg_id} comes after {self.highest}")
                self.highest = letter.msg_id = msg_id
                box = letter.box
                demand(box is not None and box.number == number, f"{letter} is stored in another mailbox")
                demand(rank == letter.rank, f"{letter} is stored with another priority")
                letter.stored_at = now
                if box is not None and not box.over:
                    self._stored(box, letter)

    def _stored(self, box: Box, letter: Letter) -> None:
        """A message has come into its mailbox."""
        first = box.first_of(letter)
        demand(first is None, f"{letter} repeats {first}, and is stored")
        if letter.name:
            box.named.setdefault(letter.name, []).append(letter)
        for former in [each for each in box.letters.values() if letter.key and each.key == letter.key]:
            former.replaced = True
            del box.letters[former.msg_id]
            self.replaced += 1
            self.replaced_now.add(former)
        box.letters[letter.msg_id] = letter

    # what is answered

    def answered(self, asked: Asked, reply: dict[str, Any], now: int) -> None:
        """A client was answered."""
        demand(not asked.answered, f"request {asked.number} was answered twice")
        asked.answered = True
        code = reply.get("code") if reply.get("error") else None
        if asked in self.pending:
            self.pending.remove(asked)
        if code in (503, 507):
            demand(now - self.last_trouble <= REFUSING_MS + now - asked.at, f"{asked.what} was refused: {reply}")
        getattr(self, f"_{asked.what}_answered")(asked, reply, code, now)

    def _send_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        letter: Letter = asked.details["letter"]
        if code is None and reply.get("duplicate"):
            firsts = [] if letter.box is None else [first.msg_id for first in letter.box.firsts_of(letter)]
            demand(not letter.msg_id, f"{letter} is stored, and said to be a repeat")
            demand(reply["msg_id"] in firsts, f"token {letter.token} repeats {firsts}, not {reply}")
            self.repeats += 1
            letter.refused = True
        elif code is None:
            demand(
                letter.msg_id and reply["msg_id"] == letter.msg_id, f"{letter} was answered as {reply} and not stored"
            )
        elif code == 404:
            letter.refused = True
            demand(
                letter.box is None or not letter.box.live(now),
                f"a send to {asked.details['name']} was refused: {reply}",
            )
        else:
            letter.refused = True
            allowed = code in (503, 507) or (code == 400 and letter.hopeless)
            demand(allowed and not letter.msg_id, f"{letter} was refused: {reply}")

    def _create_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        details = asked.details
        box = self.boxes.get(details["name"])
        if code is None:
            self.boxes[details["name"]] = self._after_create(box, asked, reply, now)
        elif code == 404:
            demand(details["renew"] and (box is None or not box.live(now)), f"create was answered {reply}")
            if box is not None and box.live(asked.at):  # it was renewed, and its new end has passed as well
                box.ttl = box.ttl if details["ttl"] is None else details["ttl"]
                box.end = asked.at + box.ttl * 1_000 if box.ttl else 0
                others = any(each.what == "create" and each.details["name"] == box.name for each in self.pending)
                demand(others or not box.live(now), f"a renewal was answered {reply}")
                box.lapsed = True
        else:
            demand(code in (503, 507), f"create was answered {reply}")

    def _after_create(self, box: Box | None, asked: Asked, reply: dict[str, Any], now: int) -> Box:
        """The mailbox that there is after a create, which must be what the reply says."""
        details, at = asked.details, asked.at
        if reply["is_new"]:
            demand(box is None or not box.live(at), f"{details['name']} was there, and is said to be new")
            if box is not None:
                box.finish()
            ttl = DEFAULT_TTL if details["ttl"] is None else details["ttl"]
            box = Box(details["name"], 0, ttl, at, at + ttl * 1_000 if ttl else 0)
        else:
            if box is None or box.over:
                raise ViolationError(f"{details['name']} was not there, and is said not to be new")
            if details["renew"]:
                box.back_at = now if 0 < box.end <= now else box.back_at
                box.ttl = box.ttl if details["ttl"] is None else details["ttl"]
                box.end = at + box.ttl * 1_000 if box.ttl else 0
                box.renewals += 1
            else:
                demand(not 0 < box.end <= at, f"{details['name']} had expired, and is said not to be new")
        if box.lapsed:
            return box
        demand(reply["ttl"] == box.ttl, f"{details['name']} has the ttl {box.ttl}, not {reply}")
        demand(reply["expires_at"] == (box.end // 1_000 or None), f"{details['name']} ends at {box.end}, not {reply}")
        demand(
            reply["created_at"] == box.created // 1_000, f"{details['name']} was created at {box.created}, not {reply}"
        )
        return box

    def numbered(self, office: PostOffice) -> None:
        """Learn by which numbers the broker calls new mailboxes."""
        for box in self.boxes.values():
            if not box.number and not box.over:
                mailbox = office.mailboxes.get(box.name.encode())
                if mailbox is None:
                    raise ViolationError(f"{box.name} was created, and is not there")
                demand(mailbox.number not in self.by_number, f"the number {mailbox.number} is given to two mailboxes")
                box.number = mailbox.number
                self.by_number[box.number] = box

    def _remove_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        box: Box | None = asked.details["box"]
        if code is not None:
            demand(code in (503, 507) or (code == 404 and box is None), f"remove was answered {reply}")
        elif box is None:
            raise ViolationError("a mailbox that was not there was removed")
        else:
            demand(reply["deleted"] is not box.over or not box.live(now), f"remove of {box.name} was answered {reply}")
            box.finish()

    def _delete_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        details = asked.details
        letter: Letter | None = details["letter"]
        if code is not None:
            allowed = code in (503, 507) or (code == 404 and details["box"] is None)
            demand(allowed, f"delete was answered {reply}")
        elif reply["deleted"]:
            if letter is None or not details["there"]:
                raise ViolationError(f"message {details['msg_id']} was not there, and was deleted")
            if not letter.box or (letter.box.letters.pop(letter.msg_id, None) is None and not letter.replaced):
                raise ViolationError(f"{letter} was deleted twice")
        else:
            demand(not details["there"] or (letter is not None and not letter.live(now)), f"{letter} was not deleted")

    def _list_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        details = asked.details
        box: Box | None = details["box"]
        if code is not None:
            unreadable = code == 503
            demand(unreadable or (code == 404 and (box is None or not box.live(now))), f"fetch was answered {reply}")
            return
        if box is None:
            raise ViolationError("a mailbox was read that was not there")
        listed = [item["msg_id"] for item in reply["messages"]]
        demand(listed == sorted(set(listed)), f"fetch gave {listed}")
        for item in reply["messages"]:
            letter = self.letters[token_of(item["payload"].encode())]
            demand(letter.box is box and letter.msg_id == item["msg_id"], f"fetch gave {item}")
            demand(
                letter.msg_id in details["perhaps"]
                or max(letter.stored_at, letter.visible) >= asked.at
                or letter.live(now),
                f"{letter} was listed",
            )
            demand(PRIORITIES[letter.rank] == item["priority"], f"{letter} was listed as {item['priority']}")
            demand(letter.visible <= now, f"{letter} was listed before its time")
        still = {letter.msg_id for letter in box.stored(now)} & details["there"]
        missing = {msg_id for msg_id in still - set(listed) if not reply["next"] or msg_id <= reply["next"]}
        demand(not missing, f"fetch left out {sorted(missing)}")

    def _lease_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        asked.details["listed"] = [item["msg_id"] for item in reply.get("messages", ())]
        self.groups.answered_lease(asked, reply, code, now, settling=self.settling)

    def _status_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        self.receipts += 1
        check_receipt(self, asked, reply, code, now)

    def _public_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        check_list(self, asked, reply, code, now)

    def _forbidden_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        check_forbidden(reply, code)

    def _ack_answered(self, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
        self.groups.answered_ack(asked, reply, code, now)

    # what is delivered

    def given(self, subscription: Subscription, frame: Frame, now: int) -> Letter:
        """The broker has written a message for a receiver; returns which one."""
        self.delivered += 1
        letter = self.letters[token_of(frame.payload)]
        letter.offered = True
        demand(subscription.confirmed and not subscription.ended, f"{letter} came to a subscription that has ended")
        demand(letter.msg_id == int(frame.headers[b"mq9-msg-id"]), f"{letter} came as {frame.headers}")
        demand(letter.box is subscription.box, f"{letter} came to another mailbox")
        demand(frame.subject.endswith(f".{PRIORITIES[letter.rank]}".encode()), f"{letter} came on {frame.subject!r}")
        demand(subscription.mask >> letter.rank & 1, f"{letter} came to who does not want its priority")
        demand(len(frame.payload) == letter.size, f"{letter} came with another payload")
        demand(int(frame.headers[b"mq9-time"]) == letter.at, f"{letter} was sent at {letter.at}, not {frame.headers}")
        demand(letter.live(now), f"{letter} was given to a receiver when it was gone")
        demand(letter.visible <= now, f"{letter} came {letter.visible - now} ms before its time")
        if subscription.maximum:
            demand(len(subscription.given) < subscription.maximum, f"{letter} came after the last that was asked for")
        return letter

    def given_plain(self, subscription: Subscription, frame: Frame, now: int) -> None:
        """A plain receiver gets everything once, the most urgent first."""
        letter = self.given(subscription, frame, now)
        demand(letter.msg_id not in subscription.given, f"{letter} came twice")
        place = (letter.rank, letter.msg_id)
        is_late = letter.msg_id < subscription.cursors.get(letter.rank, 0)
        more = perhaps = False
        for other in letter.box.visible(subscription.mask, now) if letter.box is not None else ():
            if other is letter or other.msg_id in subscription.given:
                continue
            perhaps = True
            if not other.has_appeared(self._idle_at()):
                continue
            more = True
            # Who is past both gets them as they have appeared.
            later = is_late and other.rank == letter.rank and other.tick > letter.tick
            demand((other.rank, other.msg_id) > place or later, f"{letter} came before {other}")
        pending = int(frame.headers[b"mq9-pending"])
        demand(perhaps if pending else not more, f"{letter} came with mq9-pending {pending}")
        subscription.given.add(letter.msg_id)
        subscription.cursors[letter.rank] = max(letter.msg_id, subscription.cursors.get(letter.rank, 0))

    def all_given(self, subscription: Subscription, now: int) -> None:
        """Nothing happens any more: a plain receiver that reads has everything."""
        box = subscription.box
        if not subscription.ended and box.live(now) and subscription.group is None:
            missing = [
                str(each) for each in self.seen(box, subscription.mask, now) if each.msg_id not in subscription.given
            ]
            demand(not missing, f"a receiver never got {missing}")

    # restarts

    def restarted(self, office: PostOffice, now: int) -> None:
        """A new process has taken over what was durable: of what was not answered, any beginning may have been."""
        pending, self.pending = self.pending, []
        for letter in self.letters.values():
            letter.refused = letter.refused or not letter.msg_id
            letter.offered = False
        for subscription in self.subscriptions:
            subscription.ended = True
            subscription.untaken.clear()
        self.subscriptions.clear()
        self.groups.restarted()
        for name in sorted(self.boxes.keys() | {asked.details["name"] for asked in pending}):
            self._settle_box(name, [asked for asked in pending if asked.details["name"] == name], office, now)
        for box in self.boxes.values():
            box.wanted = False
            if box.live(now):
                self._settle_letters(box, pending, office, now)
        self._perhaps_lost.clear()

    def damage(self, block: bytes, others: list[bytes]) -> None:
        """A block is about to be damaged: what is in it is lost, or, when it is in another one as well, perhaps."""
        elsewhere = {token for other in others for *_, token in records(other)}
        self.damaged += 1
        for *_, token in records(block):
            letter = self.letters[token]
            if token in elsewhere:
                self._perhaps_lost.add(letter.msg_id)
            else:
                letter.lost = True

    def _settle_box(self, name: str, pending: list[Asked], office: PostOffice, now: int) -> None:
        """Find out which of the changes to a mailbox that were under way have become durable."""
        state = self.boxes.get(name)
        states: list[Box | None] = [state]
        for asked in pending:
            details = asked.details
            if asked.what == "remove" and state is not None and state.is_of(details["box"]):
                state = replace(state, over=True)
            elif asked.what == "create":
                ttl = details["ttl"]
                if state is None or not state.live(asked.at):
                    ttl = DEFAULT_TTL if ttl is None else ttl
                    state = Box(name, 0, ttl, asked.at, asked.at + ttl * 1_000 if ttl else 0)
                elif details["renew"]:
                    ttl = state.ttl if ttl is None else ttl
                    state = replace(state, ttl=ttl, end=asked.at + ttl * 1_000 if ttl else 0)
            states.append(state)
        mailbox = office.get(name.encode(), now)
        if mailbox is None:
            demand(any(each is None or not each.live(now) for each in states), f"{name} was lost")
            if name in self.boxes:
                self.boxes[name].finish()
            return
        found = (mailbox.ttl_s, mailbox.created_ms, mailbox.expires_ms)
        for each in states:
            if each is not None and each.live(now) and (each.ttl, each.created, each.end) == found:
                former = self.boxes.get(name)
                if each.number:
                    demand(mailbox.number == each.number, f"{name} has another number")
                if former is not None and each.number == former.number:
                    former.ttl, former.end = each.ttl, each.end
                    return
                if former is not None:
                    former.finish()
                self.boxes[name] = each
                self.numbered(office)
                return
        raise ViolationError(f"{name} came back with {found}")

    def _settle_letters(self, box: Box, pending: list[Asked], office: PostOffice, now: int) -> None:
        """Find out which of the deletions that were under way have become durable; nothing else may be missing or too much."""
        mailbox = office.get(box.name.encode(), now)
        assert mailbox is not None
        listed = {letter.msg_id for letter in self.letters.values() if mailbox.look_up(letter.msg_id, now) is not None}
        uncertain = {
            asked.details["msg_id"] for asked in pending if asked.what == "delete" and asked.details["box"] is box
        }
        for letter in [letter for letter in box.stored(now) if letter.lost]:
            demand(letter.msg_id not in listed, f"{letter} was in a damaged block, and is there")
            del box.letters[letter.msg_id]
        there = {letter.msg_id for letter in box.stored(now)}
        uncertain |= self._perhaps_lost & there
        demand(mailbox.count == len(listed), f"{mailbox.count} messages for {sorted(listed)}")
        demand(listed <= there, f"{sorted(listed - there)} came back")
        demand(there - listed <= uncertain, f"{sorted(there - listed - uncertain)} were lost")
        for msg_id in there - listed:
            del box.letters[msg_id]


def letter_of(model: Model, item: dict[str, Any]) -> Letter:
    """The message that FETCH or QUERY has given as `item`."""
    payload = base64.b64decode(item["payload"])
    letter = model.letters[token_of(payload)]
    demand(letter.msg_id == item["msg_id"] and len(payload) == letter.size, f"{letter} came as {item}")
    demand(item["priority"] == PRIORITIES[letter.rank], f"{letter} came as {item['priority']}")
    demand(item["create_time"] == letter.at // 1_000, f"{letter} was sent at {letter.at}, not {item['create_time']}")
    return letter


def records(block: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(msg_id, the mailbox's number, rank, token) of each record of a block."""
    at = _BLOCK_HEAD
    while at < len(block):
        size, _, msg_id, place, _ = _RECORD.unpack_from(block, at)
        yield msg_id, place & ((1 << 48) - 1), place >> 48 & 255, token_of(block[at : at + size])
        at += size


def passed(at: int, milliseconds: int) -> int:
    """The first Unix ms at which so much has passed for certain: what happened at `at` may have happened up to a millisecond later."""
    return at + 1 + milliseconds


def payload_of(token: int, size: int) -> bytes:
    """A payload of about `size` bytes that ends with its token."""
    return b"." * size + b"#%d" % token


def token_of(payload: bytes) -> int:
    """The token with which a payload ends."""
    return int(payload[payload.rindex(b"#") + 1 :])


# These speak of boxes and letters.
from tests.simulation.groups import Groups  # noqa: E402
from tests.simulation.receipts import check_receipt  # noqa: E402
from tests.simulation.watching import check_forbidden, check_list  # noqa: E402
