"""Keeps a link to the broker: opens it at the first use, and again with growing pauses whenever it is lost, for ever.

Nothing runs while nobody asks: a caller that needs the link opens it, and whoever comes meanwhile waits for the same attempt.
This is also where every request gets its deadline and where what went wrong becomes a sentence for the user.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from typing import TYPE_CHECKING, Any, Final

from mq9.protocol import HEADER_ERROR_CODE
from mq9.sdk.errors import (
    BadRequest,
    ConnectionFailed,
    Forbidden,
    MailboxError,
    Timeout,
    TooLarge,
    Unavailable,
    error_of,
)
from mq9.sdk.link import InboxRefused, Link, LinkFailed, LinkLost, NoBroker, address_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mq9.sdk.credentials import Credentials
    from mq9.sdk.link import Reply, Request

PAUSE_FIRST_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
ALWAYS: Final = math.inf
NEVER: Final = 0.0
# How many FETCHes may wait at the broker over one connection; it allows 64.
FETCHES_MAX: Final = 60
_jitter = random.SystemRandom()
_from_json = json.JSONDecoder().decode


class Connection:
    """The way to one broker.

    Arguments:
        url: where it is, as in `nats://localhost:4222`, without secrets.
        credentials: who this client is.
        connect_timeout_s: how long the very first attempt goes on, in seconds. Later ones use the time of the call.

    Attributes:
        fetch_turns: to be held by whoever lets a FETCH wait at the broker.
        closed: nothing can be asked for any more.
    """

    def __init__(self, url: str, credentials: Credentials, connect_timeout_s: float) -> None:
        self._url = url
        self._credentials = credentials
        self.address = address_of(url)
        self._connect_timeout_s = connect_timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._link: Link | None = None
        self._was_connected = False
        self._reason = "nothing answers"
        self._pause_s = PAUSE_FIRST_S
        self._next_attempt = 0.0
        self._opened_at = 0.0
        self._requests: set[asyncio.Task[Any]] = set()
        self.fetch_turns = asyncio.Semaphore(FETCHES_MAX)
        self.closed = False

    async def link(self, timeout_s: float | None) -> Link:
        """The live link, opened if need be.

        Arguments:
            timeout_s: how long to try, in seconds; None: for ever.

        Raises:
            ConnectionFailed: there is no broker to be reached, or this connection is closed.
            Forbidden: the broker does not accept the credentials.
        """
        self._enter_loop()
        if self._link is not None and not self._link.lost.is_set():
            return self._link
        if timeout_s is not None and not self._was_connected:
            timeout_s = min(timeout_s, self._connect_timeout_s)
        try:
            async with asyncio.timeout(timeout_s), self._lock:
                return await self._reopened()
        except TimeoutError:
            raise ConnectionFailed(f"cannot reach a broker at {self.address}: {self._reason}") from None

    async def request(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        expected: str,
        timeout_s: float,
        repeatable_s: float,
    ) -> dict[str, Any]:
        """Send a request and return the JSON object of its answer.

        Arguments:
            expected: a key that every answer has unless it is a refusal.
            timeout_s: how long the whole may take, in seconds, connecting included.
            repeatable_s: for how many seconds doing it again is the same as doing it once, so that it is asked again after
                a lost connection; one of ALWAYS and NEVER for most requests.

        Raises:
            MailboxError: the broker's refusal, or the reason why there is no answer.
        """
        self._enter_loop()
        task = asyncio.current_task()
        if task is not None:
            self._requests.add(task)
        try:
            answer = await self._request(subject, body, headers, timeout_s, repeatable_s)
        finally:
            if task is not None:
                self._requests.discard(task)
        if expected not in answer:
            raise self._stranger()
        return answer

    async def request_all(
        self, requests: Sequence[Request], *, expected: str, timeout_s: float, repeatable_s: float
    ) -> list[dict[str, Any] | MailboxError]:
        """Send requests one behind the other, without waiting for each answer.

        Arguments:
            expected: a key that every answer has unless it is a refusal.
            timeout_s: how long to wait for the next answer, in seconds, and to connect.
            repeatable_s: for how many seconds asking again is the same as asking once.

        Returns:
            For each the JSON object of its answer, or the refusal. After a lost connection those that have no answer are asked
            again; with none in the end there is the reason.
        """
        self._enter_loop()
        task = asyncio.current_task()
        if task is not None:
            self._requests.add(task)
        try:
            repeatable_until = asyncio.get_running_loop().time() + repeatable_s
            return await self._request_all(requests, expected, timeout_s, repeatable_until)
        finally:
            if task is not None:
                self._requests.discard(task)

    async def _request_all(
        self, requests: Sequence[Request], expected: str, timeout_s: float, repeatable_until: float
    ) -> list[dict[str, Any] | MailboxError]:
        answers: list[dict[str, Any] | MailboxError | None] = [None] * len(requests)
        missing = list(range(len(requests)))
        failure: MailboxError = self._lost_answer()
        while missing and asyncio.get_running_loop().time() < repeatable_until:
            try:
                link = await self.link(timeout_s)
                for place in missing:
                    _subject, body, headers = requests[place]
                    self._check_size(link, body, headers)
                replies = await link.request_all([requests[place] for place in missing], timeout_s)
            except NoBroker:
                failure = self.no_broker()
                break
            except InboxRefused:
                failure = self.deaf()
                break
            except MailboxError as error:
                failure = error
                break
            for place, reply in zip(missing, replies, strict=True):
                answers[place] = None if reply is None else self._answer_of(reply, expected)
            missing = [place for place in missing if answers[place] is None]
            if missing and not link.lost.is_set():
                failure = self.silent(timeout_s)
                break
            link.speaks_mq9 = True
        return [failure if answer is None else answer for answer in answers]

    def _answer_of(self, reply: Reply, expected: str) -> dict[str, Any] | MailboxError:
        try:
            answer = self.object_of(reply)
        except MailboxError as error:
            return error
        return answer if expected in answer else self._stranger()

    async def close(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds for the answers that are still to come, then give the link up."""
        self.closed = True
        if self._loop is not asyncio.get_running_loop():
            return
        mine = {task for task in self._requests if task is not asyncio.current_task()}
        if mine:
            await asyncio.wait(mine, timeout=timeout_s)
        if self._link is not None:
            await self._link.close()

    def abandon(self) -> None:
        """Like close for an owner that is gone: from any thread, at any time, without waiting for anything."""
        self.closed = True
        loop, link = self._loop, self._link
        if loop is not None and link is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(link.lost.set)
            except RuntimeError:  # the loop was closed in this very moment, and the link with it
                return

    async def _request(
        self, subject: str, body: bytes, headers: dict[str, str] | None, timeout_s: float, repeatable_s: float
    ) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        repeatable_until = math.inf  # nothing was sent yet
        while True:
            link = await self.link(max(0.001, deadline - loop.time()))
            self._check_size(link, body, headers)
            if loop.time() >= repeatable_until:
                raise self._lost_answer()
            repeatable_until = min(repeatable_until, loop.time() + repeatable_s)
            try:
                async with asyncio.timeout_at(deadline):
                    answer = self.object_of(await link.request(subject, body, headers))
            except TimeoutError:
                raise self.silent(timeout_s) from None
            except NoBroker:
                raise self.no_broker() from None
            except InboxRefused:
                raise self.deaf() from None
            except LinkLost:
                if self.closed or loop.time() >= repeatable_until:
                    raise self._lost_answer() from None
                continue
            link.speaks_mq9 = True
            return answer

    def _lost_answer(self) -> ConnectionFailed:
        return ConnectionFailed(
            f"the connection to {self.address} was lost before the broker answered; whether it was done is not known"
        )

    def object_of(self, reply: Reply) -> dict[str, Any]:
        """The JSON object of an answer; a refusal is raised as the error it is."""
        try:
            # `json.loads` would look for the encoding of each answer.
            answer = _from_json(reply.body.decode())
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._stranger()
        if not answer.get("error"):
            return answer
        try:
            code = int(answer.get("code", reply.headers.get(HEADER_ERROR_CODE, 0)))
        except (TypeError, ValueError):
            code = 0
        raise error_of(code, str(answer["error"]))

    def _stranger(self) -> Unavailable:
        return Unavailable(f"what answers at {self.address} is not an mq9 broker")

    def silent(self, timeout_s: float) -> Timeout:
        """What to raise when no answer came in time."""
        return Timeout(f"the broker at {self.address} did not answer within {timeout_s:g} s")

    def no_broker(self) -> Unavailable:
        """What to raise when the server knows nothing of mailboxes."""
        return Unavailable(f"the NATS server at {self.address} is not an mq9 broker: it has no mailboxes")

    def deaf(self) -> Forbidden:
        """What to raise when no answer can come in."""
        return Forbidden(
            f"the broker at {self.address} does not let this client subscribe to {self._credentials.inbox_prefix}.>,"
            " where its answers come in; inbox_prefix says where else"
        )

    def _enter_loop(self) -> None:
        """Bind to the running event loop; a loop that is over may be followed by another (asyncio.run called twice)."""
        if self.closed:
            raise ConnectionFailed("this mailbox client is closed")
        running = asyncio.get_running_loop()
        if self._loop is running:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("an AsyncMailbox belongs to the event loop that used it first")
        self._loop = running
        self._link = None
        self._lock = asyncio.Lock()
        self._requests = set()
        self.fetch_turns = asyncio.Semaphore(FETCHES_MAX)

    async def _reopened(self) -> Link:
        """Try until there is a link; the caller holds the lock and sets the limit."""
        loop = asyncio.get_running_loop()
        while self._link is None or self._link.lost.is_set():
            await asyncio.sleep(self._next_attempt - loop.time())
            if self.closed:
                raise ConnectionFailed("this mailbox client is closed")
            # A broker that takes a connection only to drop it gets its pauses as well.
            if loop.time() - self._opened_at > PAUSE_MAX_S and self._link is not None:
                self._pause_s = PAUSE_FIRST_S
                self._link = None
            try:
                self._link = await Link.open(self._url, self._credentials, self._connect_timeout_s)
                self._opened_at = loop.time()
                self._was_connected = True
            except LinkFailed as failure:
                self._reason = str(failure)
                if failure.hopeless and not self._was_connected:
                    kind = Forbidden if "credentials" in self._reason else ConnectionFailed
                    raise kind(f"cannot use the broker at {self.address}: {self._reason}") from None
            self._next_attempt = loop.time() + self._pause_s * _jitter.uniform(0.8, 1.2)
            self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)
        return self._link

    def _check_size(self, link: Link, body: bytes, headers: Mapping[str, str] | None) -> None:
        """Refuse here what would make the broker hang up."""
        size = len(body) + _header_bytes(headers)
        if size > link.message_bytes_max:
            raise TooLarge(
                f"the message has {size} bytes with its headers; "
                f"the broker at {self.address} takes at most {link.message_bytes_max}"
            )


def _header_bytes(headers: Mapping[str, str] | None) -> int:
    """How many bytes a header block takes on the wire."""
    if not headers:
        return 0
    size = len("NATS/1.0\r\n") + len("\r\n")
    for name, value in headers.items():
        size += len(name) + len(": ") + (len(value) if value.isascii() else len(value.encode())) + len("\r\n")
    return size


def checked_seconds(value: float | None, name: str) -> float | None:
    """A timeout as the user gave it; raises BadRequest for one that no clock can wait for."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise BadRequest(f"{name} must be a number of seconds above 0")
    return float(value)
