"""What STATUS may say of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.groups import ATTEMPTS_MAX, Gathering, Sure
from tests.simulation.model import Box, Letter, demand

if TYPE_CHECKING:
    from tests.simulation.clients import Asked
    from tests.simulation.model import Model


def check_receipt(model: Model, asked: Asked, reply: dict[str, Any], code: int | None, now: int) -> None:
    """STATUS was answered, in the turn in which it was read."""
    box: Box | None = asked.details["box"]
    msg_id = asked.details["msg_id"]
    if code is not None:
        allowed = code == 404 and (box is None or not 0 < msg_id <= model.highest)
        demand(allowed, f"the status of message {msg_id} was answered {reply}")
        return
    if box is None:
        raise AssertionError(f"there is a status of a message of {asked.details['name']}, which is not there")
    demand(reply["msg_id"] == msg_id, f"the status of message {msg_id} was answered {reply}")
    letter = box.letters.get(msg_id)
    there = letter if letter is not None and letter.live(now) else None
    demand(reply["state"] in _states(model, there, now), f"{there or msg_id} is {reply['state']}")
    demand(reply["offered"] or there is None or not there.offered, f"{there} was given to somebody, and not offered")
    given = there is not None and (there.offered or box.wanted)
    demand(not reply["offered"] or given, f"{there or msg_id} was given to nobody, and offered")
    for gathering in model.groups.of(box):
        shown = reply["groups"].pop(gathering.name, None)
        if shown is not None:
            where = f"{there or msg_id} in group {gathering.name}"
            _check_group(gathering, msg_id, there, shown["state"], shown["attempts"], where, now)
        else:
            demand(there is None or not gathering.durable, f"group {gathering.name} is missing in {reply}")
    demand(not reply["groups"], f"there are groups that nobody has asked for: {reply}")


def _states(model: Model, letter: Letter | None, now: int) -> tuple[str, ...]:
    if letter is None:
        return ("gone",)
    if letter.visible > now:
        return ("delayed",)
    return ("stored",) if model.has_appeared(letter) else ("stored", "delayed")


def _check_group(
    gathering: Gathering, msg_id: int, letter: Letter | None, state: str, attempts: int, where: str, now: int
) -> None:
    demand(state in ("waiting", "leased", "done", "dead") and 0 <= attempts <= ATTEMPTS_MAX, f"{where} is {state}")
    work = gathering.works.get(msg_id)
    if letter is None or gathering.restarting or msg_id < gathering.first or letter.at < gathering.since:
        return
    if work is None:
        demand(state in ("waiting", "leased"), f"{where} was given to nobody, and is {state}")
        return
    if state not in ("done", "dead"):
        most = work.most + gathering.under_way
        demand(work.least <= attempts <= most, f"{where}: {attempts} attempts, not {work.least} to {most}")
    if work.overlaps:
        return
    if work.done is Sure.YES:
        demand(state == "done", f"{where} is done, and shown as {state}")
    elif work.dead is Sure.YES:
        demand(state == "dead", f"{where} is dead, and shown as {state}")
    elif work.done is Sure.NO and work.dead is Sure.NO and not work.taken:
        held = work.member is not None or (work.lease is not None and work.lease.until > now)
        demand(state == "leased" if held else state in ("waiting", "leased"), f"{where} is shown as {state}")
