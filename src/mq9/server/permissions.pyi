from collections.abc import Collection, Iterable
from typing import Final

OPERATIONS: Final[tuple[str, ...]]

class Patterns:
    patterns: tuple[bytes, ...]
    def __init__(self, patterns: Iterable[bytes]) -> None: ...

class Rules:
    def __init__(
        self,
        allow: Collection[tuple[bytes, bytes | None]] | None,
        deny: Collection[tuple[bytes, bytes | None]],
    ) -> None: ...

class Permissions:
    allow_responses: bool
    responses_max: int
    responses_expire_s: float
    def __init__(
        self,
        publish: tuple[Collection[str] | None, Collection[str]] = ...,
        subscribe: tuple[Collection[str] | None, Collection[str]] = ...,
        mailboxes: Collection[str] | None = None,
        responses: tuple[int, float] | None = None,
    ) -> None: ...
    def publishes(self, subject: bytes) -> bool: ...
    def subscribes(self, subject: bytes, queue: bytes | None = None) -> bool: ...
    def hides(self, subject: bytes, queue: bytes | None, published: bytes) -> bool: ...
