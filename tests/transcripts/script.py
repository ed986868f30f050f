"""Reads a wire transcript into steps. README.md beside this file explains how one is written.

Text that is sent or expected is bytes here, with its escapes undone; placeholders stay in it until the transcript is
replayed, because what they stand for is only known then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_REPEATED = re.compile(rb"<(.)\*(\d+)>")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[rnt0\\])")
_ESCAPED = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_SETTING = re.compile(r"(servers|split|answers|configuration): (.+)")
_STEP = re.compile(
    r"(?:\[(?P<only>[^]]+)\] )?(?P<clients>[A-Z]\w*(?:\|[A-Z]\w*)*)(?P<word>>=|>|<~|<| [a-z]+)(?: (?P<text>.*))?"
)
_SERVERS = re.compile(r"(mq9|nats-server)(?: (>=|<) (\d+(?:\.\d+)*))?")


class Word(Enum):
    """What a step does; the value is how it is written."""

    SENDS_LINE = ">"
    SENDS_EXACTLY = ">="
    GETS = "<"
    GETS_IN_ANY_ORDER = "<~"
    OPENS = "opens"
    CONNECTS = "connects"
    SILENT = "silent"
    CLOSED = "closed"
    LEAVES = "leaves"


@dataclass(frozen=True)
class Server:
    """Which server a transcript is replayed against: `mq9`, or `nats-server` of a `version`."""

    name: str
    version: tuple[int, ...] = ()

    def is_meant_by(self, conditions: tuple[str, ...]) -> bool:
        """Whether one of `conditions`, such as `nats-server >= 2.12`, names this server."""
        for condition in conditions:
            found = _SERVERS.fullmatch(condition)
            assert found is not None, condition
            bound = tuple(int(part) for part in (found[3] or "0").split("."))
            if found[1] == self.name and (
                found[2] is None or (self.version >= bound if found[2] == ">=" else self.version < bound)
            ):
                return True
        return False


@dataclass(frozen=True)
class Step:
    """One line of a transcript: `clients` (more than one: any of them), and what they do against the servers `only`.

    Lines of Word.GETS_IN_ANY_ORDER that follow each other are one step of several `texts`; every other step has one.
    """

    line: int
    only: tuple[str, ...]
    clients: tuple[str, ...]
    word: Word
    texts: tuple[bytes, ...]

    @property
    def sends(self) -> bool:
        """Whether this step puts bytes on the wire."""
        return self.word in {Word.SENDS_LINE, Word.SENDS_EXACTLY}


@dataclass(frozen=True)
class Transcript:
    """A transcript as written: its title, the servers it holds for, and its steps.

    `split` are those of its servers that hear the same from a frame that is cut in two. `in_order` says that a server
    answers each client's frames in the order of their sending, so that all of them can be sent at once. `configuration` is the
    name of what the servers are configured by, or empty.
    """

    path: Path
    title: str
    servers: tuple[str, ...]
    split: tuple[str, ...]
    in_order: bool
    configuration: str
    steps: tuple[Step, ...]


def load(path: Path) -> Transcript:
    """The transcript at `path`; raises ValueError, with the line's number, for one that is not written right."""
    title = ""
    settings = {"answers": "in order"}
    steps: list[Step] = []
    for number, raw in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            if raw.startswith("#"):
                title = title or raw.lstrip("# ").strip()
            elif not steps and (found := _SETTING.fullmatch(raw)):
                settings[found[1]] = found[2]
            elif raw.strip():
                _add(steps, _step(number, raw))
        except ValueError as reason:
            raise ValueError(f"{path.name}:{number}: {reason}: {raw}") from None
    if not title or settings["answers"] not in {"in order", "when durable"}:
        raise ValueError(f"{path.name}: no title, or answers that are neither `in order` nor `when durable`")
    servers = _conditions(settings.get("servers", ""))
    split = _conditions(settings["split"]) if "split" in settings else servers
    in_order, configuration = settings["answers"] == "in order", settings.get("configuration", "")
    return Transcript(path, title, servers, split, in_order, configuration, tuple(steps))


def _add(steps: list[Step], step: Step) -> None:
    last = steps[-1] if steps else None
    if (
        last
        and step.word is last.word is Word.GETS_IN_ANY_ORDER
        and (step.clients, step.only) == (last.clients, last.only)
    ):
        steps[-1] = replace(last, texts=last.texts + step.texts)
    else:
        steps.append(step)


def _step(number: int, raw: str) -> Step:
    found = _STEP.fullmatch(raw)
    if found is None:
        raise ValueError("not a step")
    only = _conditions(found["only"]) if found["only"] else ()
    text = (found["text"] or "").encode()
    return Step(number, only, tuple(found["clients"].split("|")), Word(found["word"].strip()), (_unescaped(text),))


def _conditions(text: str) -> tuple[str, ...]:
    conditions = tuple(text.split(", "))
    for condition in conditions:
        if _SERVERS.fullmatch(condition) is None:
            raise ValueError(f"{condition!r} names no server")
    return conditions


def _unescaped(text: bytes) -> bytes:
    def undone(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes([int(code[1:], 16)]) if code[:1] == b"x" else _ESCAPED[code]

    return _ESCAPE.sub(undone, _REPEATED.sub(lambda found: found[1] * int(found[2]), text))
