"""What a transcript expects against what came: placeholders that learn, and JSON compared as JSON."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_PLACEHOLDER: Final = re.compile(rb"<(\*|[a-z][a-z0-9_]*)(?::([a-z]+))?>")
_AND_MORE: Final = re.compile(rb"(?<=[{,])\s*\.\.\.\s*(?=\})")
_KINDS: Final = {
    b"": (rb"\S+", object),
    b"int": (rb"-?\d+", int),
    b"positive": (rb"[1-9]\d*", int),
    b"text": (rb"[^\r\n]*", str),
    b"private": (rb"m-[a-z2-7]{26}", str),
}


class UnknownPlaceholderError(LookupError):
    """A placeholder that stands for nothing yet; the argument is its name."""


class Known:
    """What each placeholder stands for. The first thing it meets in an expectation, it stands for ever after.

    Arguments:
        given: what is known from the start.
    """

    def __init__(self, **given: bytes) -> None:
        self._values = {name.encode(): value for name, value in given.items()}

    def fill(self, text: bytes, **sizes: bytes) -> bytes:
        """`text` with each placeholder replaced by what it stands for, or one of `sizes`.

        Raises UnknownPlaceholderError for one that has not been learned.
        """
        here = {name.encode(): value for name, value in sizes.items()}

        def value_of(found: re.Match[bytes]) -> bytes:
            value = here.get(found[1], self._values.get(found[1]))
            if value is None:
                raise UnknownPlaceholderError(found[1].decode())
            return value

        return _PLACEHOLDER.sub(value_of, text)

    def matches(self, expected: bytes, line: bytes) -> bool:
        """Whether `line` is as `expected`; learns from it when it is."""
        if expected.startswith((b"{", b"INFO {")):
            return self._matches_json(expected.removeprefix(b"INFO "), line.removeprefix(b"INFO "))
        found = re.fullmatch(self._pattern(expected), line, re.DOTALL)
        if found is not None:
            self._values |= {name.encode(): value for name, value in found.groupdict().items()}
        return found is not None

    def _pattern(self, expected: bytes) -> bytes:
        pattern, end, new = b"", 0, set()
        for found in _PLACEHOLDER.finditer(expected):
            name, kind = found[1], found[2] or b""
            pattern += re.escape(expected[end : found.start()])
            end = found.end()
            if name == b"*":
                pattern += _KINDS[kind][0]
            elif name in self._values:
                pattern += re.escape(self._values[name])
            elif name in new:
                pattern += b"(?P=" + name + b")"
            else:
                pattern += b"(?P<" + name + b">" + _KINDS[kind][0] + b")"
                new.add(name)
        return pattern + re.escape(expected[end:])

    def _matches_json(self, expected: bytes, line: bytes) -> bool:
        try:
            value = json.loads(line)
        except ValueError:
            return False
        return self._fits(json.loads(_AND_MORE.sub(b' "...": 0', expected)), value)

    def _fits(self, pattern: Any, value: Any) -> bool:
        if isinstance(pattern, dict):
            wanted = pattern.keys() - {"..."}
            if not isinstance(value, dict) or wanted - value.keys() or (value.keys() - wanted and "..." not in pattern):
                return False
            return all(self._fits(pattern[key], value[key]) for key in sorted(wanted))
        if isinstance(pattern, list):
            return isinstance(value, list) and len(pattern) == len(value) and all(map(self._fits, pattern, value))
        if not isinstance(pattern, str):
            return type(pattern) is type(value) and bool(pattern == value)
        return self._fits_text(pattern.encode(), value)

    def _fits_text(self, pattern: bytes, value: Any) -> bool:
        """A string that is one placeholder may stand for a value of any JSON type, if its kind allows."""
        text = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        alone = _PLACEHOLDER.fullmatch(pattern)
        if alone is None:
            return isinstance(value, str) and self.matches(pattern, text)
        if alone[1] in self._values:
            return self._values[alone[1]] == text
        pattern_of_kind, kind = _KINDS[alone[2] or b""]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            return False
        if alone[1] != b"*":
            self._values[alone[1]] = text
        return re.fullmatch(pattern_of_kind, text, re.DOTALL) is not None
