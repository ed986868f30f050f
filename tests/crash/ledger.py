"""What clients asked for and what they were told, and whether a broker that was killed meanwhile still knows it.

Everything that was told is certain. What was asked for and not answered is wholly there or not at all, which the first look after
the next start decides for good.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.store.post import MAILBOX, Mail, Post, delivery_order

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOISE: Final = random.Random(9).randbytes(1 << 20)
_ASKED_AT_ONCE: Final = 32


class Fate(enum.Enum):
    """Whether something is stored, as far as clients were told."""

    UNKNOWN = "asked for and not answered"
    THERE = "there"
    GONE = "gone"


@dataclass(slots=True)
class Message:
    """A message that was sent: `token` is in its payload, and names it among all others."""

    token: int
    box: Box
    priority: str
    headers: tuple[tuple[str, str], ...]
    noise_bytes: int
    fate: Fate = Fate.UNKNOWN
    msg_id: int = 0
    deleting: bool = False

    @property
    def payload(self) -> bytes:
        """What was sent: its token and mailbox, and bytes that its token chooses."""
        start = self.token * 7_919 % (len(_NOISE) - self.noise_bytes)
        return b"%d %b|" % (self.token, self.box.mail_id.encode()) + _NOISE[start : start + self.noise_bytes]


@dataclass(slots=True, eq=False)
class Box:
    """A mailbox that somebody asked for. `ttls`: the ttl that it has, or may have, each with the end that was told with it."""

    mail_id: str
    named: bool
    public: bool
    fate: Fate = Fate.UNKNOWN
    busy: bool = False
    asked: int = 0
    ttls: dict[int, int | None] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    there: dict[int, Message] = field(default_factory=dict)
    highest: int = 0
    highest_at_start: int = 0


class Ledger:
    """Every mailbox and message that clients know of."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.gone: dict[str, Box] = {}
        self.messages: dict[int, Message] = {}
        self.complaints: list[str] = []
        self.sends_told = self.deletes_told = self.others_told = self.shown_count = self.unanswered = 0
        self.compared = 0

    # what clients report

    def sending(self, message: Message) -> None:
        """A message is about to be sent."""
        self.messages[message.token] = message
        message.box.messages[message.token] = message
        message.box.asked += 1

    def sent(self, message: Message, answer: dict[str, Any]) -> None:
        """A send was answered."""
        message.box.asked -= 1
        if "msg_id" in answer:
            self.sends_told += 1
            self._is_there(message, answer["msg_id"])
        else:
            self._refused(message.box, answer)
            message.fate = Fate.GONE

    def shown(self, token: int, msg_id: int) -> None:
        """A receiver was given a message: it must have been durable."""
        self.shown_count += 1
        self._is_there(self.messages[token], msg_id)

    def deleting(self, message: Message) -> None:
        """A message is about to be deleted."""
        message.deleting = True
        message.fate = Fate.UNKNOWN
        message.box.there.pop(message.msg_id)
        message.box.asked += 1

    def deleted(self, message: Message, answer: dict[str, Any]) -> None:
        """A deletion was answered."""
        message.box.asked -= 1
        message.fate = Fate.GONE
        if answer == {"deleted": True}:
            self.deletes_told += 1
        elif answer != {"deleted": False} or message.box.fate is Fate.THERE:
            self._refused(message.box, answer)

    def created(self, box: Box, answer: dict[str, Any], ttl: int) -> None:
        """A creation was answered."""
        self.others_told += 1
        if not answer.get("is_new") or answer["ttl"] != ttl:
            self.complaints.append(f"the creation of {box.mail_id or 'a private mailbox'} was answered {answer}")
            return
        box.mail_id = answer["mail_id"]
        box.fate = Fate.THERE
        box.busy = False
        box.ttls = {ttl: answer["expires_at"]}
        self.boxes[box.mail_id] = box

    def renewed(self, box: Box, answer: dict[str, Any], ttl: int) -> None:
        """A renewal was answered."""
        self.others_told += 1
        box.busy = False
        if answer.get("is_new") is not False or answer["ttl"] != ttl:
            self.complaints.append(f"the renewal of {box.mail_id} was answered {answer}")
        else:
            box.ttls = {ttl: answer["expires_at"]}

    def removed(self, box: Box, answer: dict[str, Any]) -> None:
        """A removal was answered."""
        self.others_told += 1
        if answer != {"deleted": True}:
            self.complaints.append(f"the removal of {box.mail_id} was answered {answer}")
        box.busy = False
        self._is_gone(box)

    def _is_there(self, message: Message, msg_id: int) -> None:
        box = message.box
        if message.msg_id not in (0, msg_id):
            self.complaints.append(f"message {message.token} is {msg_id} to one and {message.msg_id} to another")
        if message.msg_id == 0 and msg_id <= box.highest_at_start:
            self.complaints.append(f"{box.mail_id} gives out {msg_id}, and had {box.highest_at_start} before")
        message.msg_id = msg_id
        box.highest = max(box.highest, msg_id)
        if message.fate is Fate.UNKNOWN and not message.deleting:
            message.fate = Fate.THERE
            box.there[msg_id] = message

    def _is_gone(self, box: Box) -> None:
        box.fate = Fate.GONE
        self.gone[box.mail_id] = box
        self.boxes.pop(box.mail_id, None)
        for message in box.messages.values():
            message.fate = Fate.GONE

    def _refused(self, box: Box, answer: dict[str, Any]) -> None:
        if box.fate is Fate.THERE or answer.get("code") != 404:
            self.complaints.append(
                f"something asked of {box.mail_id}, which is {box.fate.value}, was answered {answer}"
            )

    # what the broker knows

    def compare(self, post: Post) -> None:
        """Look at everything through `post`: all that was told must be so; what was not is decided by what there is."""
        assert not self.complaints, self.complaints
        self._compare_gone(post)
        for box in list(self.boxes.values()):
            self._compare_box(post, box)
        public = {box.mail_id for box in self.boxes.values() if box.public}
        listed = post.listed()
        assert listed.keys() == public
        for name, entry in listed.items():
            assert entry["messages"] == len(self.boxes[name].messages), entry
        assert not self.complaints, self.complaints

    def _compare_gone(self, post: Post) -> None:
        gone = [mail_id for mail_id in self.gone if mail_id not in self.boxes]
        for first in range(0, len(gone), _ASKED_AT_ONCE):
            some = gone[first : first + _ASKED_AT_ONCE]
            answers = post.ask_all((f"{MAILBOX}.LIST.{mail_id}", b"") for mail_id in some)
            back = [mail_id for mail_id, answer in zip(some, answers, strict=True) if answer.get("code") != 404]
            assert not back, f"mailboxes that were removed are there again: {back}"

    def _compare_box(self, post: Post, box: Box) -> None:
        if box.fate is Fate.UNKNOWN:
            exists = "error" not in post.ask(f"{MAILBOX}.LIST.{box.mail_id}", {"limit": 1})
            if not exists:
                self._is_gone(box)
                return
            box.fate = Fate.THERE
        mails = post.fetch(box.mail_id, limit=200)
        assert post.receive(box.mail_id, len(mails)) == delivery_order(mails)
        self._compare_messages(box, mails)
        if box.named:
            answer = post.create(name=box.mail_id)
            assert answer["is_new"] is False, f"{box.mail_id} was there no more"
            assert answer["ttl"] in box.ttls, (answer, box.ttls)
            assert box.ttls[answer["ttl"]] in (None, answer["expires_at"]), (answer, box.ttls)
            box.ttls = {answer["ttl"]: answer["expires_at"]}
        box.busy = False
        box.asked = 0
        box.highest_at_start = box.highest

    def _compare_messages(self, box: Box, mails: Iterable[Mail]) -> None:
        found: dict[int, Mail] = {}
        for mail in mails:
            token = int(mail.payload.partition(b" ")[0])
            assert token not in found, f"message {token} is there twice: {found[token]} and {mail}"
            found[token] = mail
        for token, mail in found.items():
            message = box.messages.get(token)
            assert message is not None, f"message {token} is in {box.mail_id}, where it was not sent or is long gone"
            assert message.fate is not Fate.GONE, f"message {token} ({mail.msg_id}) is back in {box.mail_id}"
            expected = Mail(message.msg_id or mail.msg_id, message.priority, message.payload, message.headers)
            assert mail == expected, f"message {token} is not what was sent"
            self.unanswered += message.fate is Fate.UNKNOWN
            message.deleting = False
            message.fate = Fate.UNKNOWN
            self._is_there(message, mail.msg_id)
        for token, message in list(box.messages.items()):
            if token not in found:
                told = message.fate is Fate.THERE
                assert not told, f"message {token} ({message.msg_id}) is lost from {box.mail_id}"
                self.unanswered += message.fate is Fate.UNKNOWN
                message.fate = Fate.GONE
                box.there.pop(message.msg_id, None)
                del box.messages[token]
        self.compared += len(found)
