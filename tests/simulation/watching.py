"""What may be told of mailboxes: in lists of the public ones, to those who watch these lists, and to those who watch one mailbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.model import Box, ViolationError, demand

if TYPE_CHECKING:
    from tests.simulation.clients import Asked, Client
    from tests.simulation.model import Model


@dataclass(eq=False)
class Watch:
    """A subscription to the list of public mailboxes, or, with a name, to what happens to one.

    Attributes:
        box: the mailbox.
        renewals: how many it had had when this began, and how many this was told of since.
        known: the public mailboxes that this was told of, with what was said last.
    """

    client: Client
    sid: bytes
    name: str | None
    box: Box | None = None
    renewals: int = 0
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: bool = False
    ended: bool = False

    def begin(self, box: Box | None) -> None:
        """The broker reads the SUB."""
        self.box = box
        self.begun = self.name is None or box is not None
        self.ended = not self.begun
        self.renewals = 0 if box is None else box.renewals

    def told(self, event: dict[str, Any]) -> None:
        """Something was told."""
        what = event["event"]
        demand(self.begun and not self.ended, f"{event} came to a subscription that has ended")
        if self.name is not None:
            self._told_of_one(what, event)
            return
        name = event["mail_id"]
        demand(is_public(name), f"{name} is not public, and is told of: {event}")
        demand((name in self.known) == (what != "created"), f"{what} was told of {name}, of {sorted(self.known)}")
        if what in ("created", "renewed"):
            self.known[name] = event
        else:
            self.known.pop(name, None)

    def _told_of_one(self, what: str, event: dict[str, Any]) -> None:
        assert self.box is not None
        if what == "renewed":
            self.renewals += 1
            demand(self.renewals <= self.box.renewals, f"{event} was told of {self.name}, which was not renewed")
        else:
            demand(what in ("expired", "removed"), f"{event} was told of {self.name}")
            self.ended = True

    def check(self, model: Model, now: int) -> None:
        """Nothing happens any more: everything was told."""
        if self.ended or not self.begun:
            return
        if self.name is None:
            there = {box.name: box for box in model.boxes.values() if box.live(now) and is_public(box.name)}
            demand(self.known.keys() == there.keys(), f"of the public {sorted(there)} {sorted(self.known)} are known")
            for name, box in there.items():
                check_described(self.known[name], box)
        elif self.box is not None:
            demand(self.box.live(now), f"nobody was told of the end of {self.name}")
            demand(self.renewals == self.box.renewals, f"nobody was told that {self.name} was renewed")


def is_public(name: str) -> bool:
    """Whether a mailbox is created as a public one."""
    return name != "ada"


def check_described(item: dict[str, Any], box: Box) -> None:
    """A public mailbox was described."""
    shown = (item["mail_id"], item["ttl"], item["created_at"], item["expires_at"])
    expected = (box.name, box.ttl, box.created // 1_000, box.end // 1_000 or None)
    demand(shown == expected or box.lapsed, f"{box.name} is {expected}, not {item}")


def check_list(model: Model, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
    """A list of public mailboxes was answered, in the turn in which it was asked for."""
    demand(code is None, f"a list was answered {reply}")
    details = asked.details
    names = sorted(box.name for box in model.boxes.values() if box.live(now) and is_public(box.name))
    wanted = [name for name in names if name.startswith(details["prefix"]) and name > details["after"]]
    listed = [item["mail_id"] for item in reply["mailboxes"]]
    demand(listed == wanted[: details["limit"]], f"of {wanted} a list shows {listed}")
    demand((reply["next"] is not None) == (len(wanted) > len(listed)), f"of {wanted} there is more than {reply}")
    for item in reply["mailboxes"]:
        box = model.boxes[item["mail_id"]]
        check_described(item, box)
        least, most = sum(1 for _ in box.stored(now)), len(box.letters)
        demand(least <= item["messages"] <= most, f"{box.name} has {least} messages, not {item}")


def check_forbidden(reply: dict[str, Any], code: int | None) -> None:
    """What a drop_id does not allow was answered."""
    if code != 403:
        raise ViolationError(f"a drop_id was allowed to be used for more than it is for: {reply}")
