"""Comparing secrets: in constant time, and those that are stored as bcrypt hashes one after the other on a thread of their own.

A bcrypt hash takes some tens of milliseconds of a processor on purpose. So that nobody can keep the processor busy with wrong
passwords, one is tried at a time, the addresses that ask take turns, and after a wrong one the thread rests as long as that took. A
password that was right is remembered, as a hash under a key that this process made up, so that a client that comes back costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Final

import bcrypt

from mq9.store.worker import Worker

log = logging.getLogger("mq9")

# Attempts of one address, and of all, that may wait for their turn; more are not looked at.
WAITING_OF_ADDRESS_MAX: Final = 64
WAITING_MAX: Final = 1_024
COST_MIN: Final = 4
COST_MAX: Final = 14
_BCRYPT_BYTES_MAX: Final = 72
_BCRYPT = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}")
_LIKE_BCRYPT = re.compile(r"\$2[abxy]\$\d\d\$")
_key = secrets.token_bytes(32)


def is_bcrypt(secret: str) -> bool:
    """Whether a secret of the configuration is meant as a bcrypt hash, as nats-server tells them."""
    return _LIKE_BCRYPT.match(secret) is not None


def bcrypt_cost(secret: str) -> int | None:
    """The cost of a well-formed bcrypt hash, else None."""
    found = _BCRYPT.fullmatch(secret)
    return None if found is None else int(found[1])


def digest(*parts: str) -> bytes:
    """A hash of `parts` that says nothing about them outside of this process."""
    hashed = hashlib.blake2b(key=_key)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hashed.update(len(data).to_bytes(8, "little") + data)
    return hashed.digest()


def same(one: str, other: str) -> bool:
    """Whether two secrets are the same, in a time that tells nothing of either, not even how long it is."""
    return hmac.compare_digest(digest(one), digest(other))


def matches_bcrypt(hashed: str, secret: str) -> bool:
    """Whether `hashed` was made of `secret`. Takes its time."""
    # Like everybody's, nats-server's included: bcrypt reads no more of it.
    data = secret.encode("utf-8", "surrogatepass")[:_BCRYPT_BYTES_MAX]
    try:
        return bcrypt.checkpw(data, hashed.encode())
    except ValueError:
        return False


class PasswordChecks:
    """Compares secrets with bcrypt hashes, for one event loop."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._task: asyncio.Task[None] | None = None
        # By address, in the order of their turns.
        self._waiting: OrderedDict[str, deque[_Check]] = OrderedDict()
        self._count = 0
        # What was right the last time, by the bcrypt hash.
        self._right: dict[str, bytes] = {}

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._count

    def check(
        self, address: str, hashed: str, secret: str, done: Callable[[bool], None], still: Callable[[], bool]
    ) -> None:
        """Call `done` with whether `secret` is what `hashed` was made of, at once or later; never when too many wait already.

        Arguments:
            address: where it comes from; addresses take turns.
            still: whether the answer is still wanted when its turn has come; else `done` is not called.
        """
        if self._was_right(hashed, secret):
            done(True)
            return
        mine = self._waiting.get(address)
        if self._count >= WAITING_MAX or (mine is not None and len(mine) >= WAITING_OF_ADDRESS_MAX):
            return
        self._waiting.setdefault(address, deque()).append(_Check(hashed, secret, done, still))
        self._count += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def forget(self, kept: Collection[str]) -> None:
        """Remember no password for hashes that are not in `kept`."""
        self._right = {hashed: right for hashed, right in self._right.items() if hashed in kept}

    async def stop(self) -> None:
        """End the thread; who waits is not answered any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._worker is not None:
            await asyncio.to_thread(self._worker.stop)
            self._worker = None

    def _was_right(self, hashed: str, secret: str) -> bool:
        """Whether `secret` was found to be right for `hashed` before."""
        right = self._right.get(hashed)
        return right is not None and hmac.compare_digest(right, digest(hashed, secret))

    async def _work(self) -> None:
        while self._waiting:
            address, checks = self._waiting.popitem(last=False)
            check = checks.popleft()
            self._count -= 1
            if checks:
                self._waiting[address] = checks
            if not check.still():
                continue
            if self._was_right(check.hashed, check.secret):
                _tell(check, right=True)
                continue
            if self._worker is None:
                self._worker = Worker("mq9-passwords")
            began = time.monotonic()
            right = await self._worker.run(matches_bcrypt, check.hashed, check.secret)
            if right:
                self._right[check.hashed] = digest(check.hashed, check.secret)
            if check.still():
                _tell(check, right=right)
            if not right:
                await asyncio.sleep(time.monotonic() - began)
        self._task = None


def _tell(check: _Check, *, right: bool) -> None:
    try:
        check.done(right)
    except Exception:  # of one client, which is none of the others' business
        log.exception("an error of the broker's own while a client was let in")


class _Check:
    __slots__ = ("done", "hashed", "secret", "still")

    def __init__(self, hashed: str, secret: str, done: Callable[[bool], None], still: Callable[[], bool]) -> None:
        self.hashed = hashed
        self.secret = secret
        self.done = done
        self.still = still
