"""What /varz, /connz and /subsz say, in nats-server's words, so that tools made for it (nats-top, exporters) read them.

What is known is gathered on the event loop, in slices: looking at ten thousand connections holds up nobody's message. Sorting it and
putting it into words is left to the thread that asks. What is shown names no mailbox (docs/monitoring.md).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mq9 import protocol
from mq9.routing.subjects import matches
from mq9.server.query import ConnzQuery, State, SubszQuery
from mq9.version import VERSION

if TYPE_CHECKING:
    from mq9.server.broker import Server
    from mq9.server.session import ClientState

Gathered = TypeVar("Gathered")
# Of a subscription: its subject, queue group, sid, how many messages it was given, after how many it ends.
Described = tuple[bytes, bytes | None, bytes, int, int]

_PATIENCE_S = 10.0
# Connections or subscriptions looked at in one slice: well below a millisecond.
_SLICE = 256
# Subscriptions listed in one answer.
_LISTED_MAX = 100_000
_ACCOUNT = "$G"
_HIDDEN = "<hidden>"
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

# What stands before the mail_id in every subject that has one.
_WORDS_BEFORE_A_MAIL_ID = 4
_WORDS = {
    word
    for value in vars(protocol).values()
    if isinstance(value, str) and value.startswith("$mq9.")
    for word in value.rstrip(".").split(".")
} | {"*", ">"}
_SECRET_ID = re.compile(r"\b[md]-[a-z2-7]{26}\b")

# What ended a connection, as nats-server calls it.
_REASONS = {
    "": "Client Closed",
    "maximum connections exceeded": "Maximum Connections Exceeded",
    "maximum control line exceeded": "Maximum Control Line Exceeded",
    "Maximum Payload Violation": "Maximum Message Payload Exceeded",
    "Unknown Protocol Operation": "Protocol Violation",
    "malformed arguments": "Protocol Violation",
    "malformed CONNECT": "Protocol Violation",
    "client sent -ERR": "Protocol Violation",
    "headers not enabled": "Message Header Violation",
    "no responders requires headers support": "No Responders Requires Headers",
    "invalid client protocol": "Bad Client Protocol Version",
    "Authorization Violation": "Authentication Failure",
}

_SORT_KEYS: dict[str, tuple[Callable[[ClientState], Any], bool]] = {
    # By what, and whether the largest comes first.
    "cid": (lambda state: state.client_id, False),
    "start": (lambda state: state.start_s, False),
    "subs": (lambda state: state.subscriptions, True),
    "pending": (lambda state: state.pending, True),
    "msgs_to": (lambda state: state.messages_out, True),
    "msgs_from": (lambda state: state.messages_in, True),
    "bytes_to": (lambda state: state.payload_out, True),
    "bytes_from": (lambda state: state.payload_in, True),
    "last": (lambda state: state.last_active_s, True),
    "idle": (lambda state: -state.last_active_s, True),
    "uptime": (lambda state: -state.start_s, False),
    "stop": (lambda state: state.stop_s, True),
    "reason": (lambda state: _reason(state), False),
    "rtt": (lambda state: state.rtt_s, True),
}


def shown_subject(subject: bytes) -> str:
    """A subject as it may be shown: of one that can be a mailbox's, nothing of where the mail_id stands and behind it."""
    tokens = subject.decode("utf-8", "replace").split(".")
    may_name_a_mailbox = (
        len(tokens) > _WORDS_BEFORE_A_MAIL_ID
        and tokens[0] in {"$mq9", "*"}
        and all(token in _WORDS for token in tokens[1 : _WORDS_BEFORE_A_MAIL_ID - 1])
    )
    if may_name_a_mailbox and not all(token in {"*", ">"} for token in tokens[_WORDS_BEFORE_A_MAIL_ID:]):
        return ".".join(
            [*(token if token in _WORDS else _HIDDEN for token in tokens[:_WORDS_BEFORE_A_MAIL_ID]), _HIDDEN]
        )
    return shown_text(".".join(tokens))


def shown_text(text: str) -> str:
    """A text of a client's own as it may be shown: without private mail_ids and drop_ids."""
    return _SECRET_ID.sub(lambda found: found[0][:2] + _HIDDEN, text)


class BusyError(Exception):
    """The event loop has not answered, or has ended."""


class Monitor:
    """Answers what a broker's HTTP side is asked about its connections, from threads of that.

    Arguments:
        server: the broker.
        loop: its event loop.

    Its methods raise BusyError.
    """

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._start_s = self.config_load_s = time.time()
        self._cpu = (time.monotonic(), time.process_time())
        self._requests: dict[str, int] = {}
        self._requests_lock = threading.Lock()

    def note_request(self, path: str) -> None:
        """Count a request for a page."""
        with self._requests_lock:
            self._requests[path] = self._requests.get(path, 0) + 1

    def _ask(self, gathering: Coroutine[Any, Any, Gathered]) -> Gathered:
        """What the event loop has to say."""
        try:
            asked = asyncio.run_coroutine_threadsafe(gathering, self._loop)
        except RuntimeError:  # it has ended
            gathering.close()
            raise BusyError from None
        try:
            return asked.result(_PATIENCE_S)
        except (TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            raise BusyError from None

    # /varz

    def varz(self) -> dict[str, Any]:
        """The broker as a whole."""
        return self._ask(self._varz())

    async def _varz(self) -> dict[str, Any]:
        server, config, hub = self._server, self._server.config, self._server.hub
        info, now = hub.info, time.time()
        return {
            **{key: info[key] for key in ("server_id", "server_name", "version", "proto", "go", "host", "port")},
            "mq9_version": VERSION,
            "max_connections": config.max_connections,
            "max_subscriptions": config.max_subscriptions,
            "ping_interval": int(config.ping_interval * 1e9),
            "ping_max": config.ping_max,
            "http_host": config.host,
            "http_port": 0 if server.http is None else server.http.port,
            "http_base_path": "",
            "https_port": 0,
            "max_control_line": config.max_control_line,
            "max_payload": config.max_payload,
            "max_pending": config.max_pending,
            **{key: True for key in ("auth_required", "tls_required", "tls_verify") if info[key]},
            "auth_timeout": config.auth_timeout,
            "tls_timeout": config.tls_timeout,
            **{part: {} for part in ("cluster", "gateway", "leaf", "mqtt", "websocket", "jetstream")},
            "start": go_time(self._start_s),
            "now": go_time(now),
            "uptime": go_uptime(now - self._start_s),
            "mem": resident_bytes(),
            "cores": os.cpu_count() or 1,
            "gomaxprocs": os.cpu_count() or 1,
            "cpu": self._cpu_percent(),
            "connections": len(hub.sessions),
            "total_connections": hub.connections_total,
            **dict.fromkeys(("routes", "remotes", "leafnodes"), 0),
            "in_msgs": hub.messages_in,
            "out_msgs": hub.messages_out,
            "in_bytes": hub.payload_in,
            "out_bytes": hub.payload_out,
            # There is nobody but clients.
            "in_client_msgs": hub.messages_in,
            "out_client_msgs": hub.messages_out,
            "in_client_bytes": hub.payload_in,
            "out_client_bytes": hub.payload_out,
            "slow_consumers": hub.slow_consumers,
            "stale_connections": hub.reached["ping_max"],
            "subscriptions": hub.subscriptions,
            "http_req_stats": self._requests.copy(),
            "config_load_time": go_time(self.config_load_s),
            "slow_consumer_stats": {"clients": hub.slow_consumers, "routes": 0, "gateways": 0, "leafs": 0},
            "stale_connection_stats": {"clients": hub.reached["ping_max"], "routes": 0, "gateways": 0, "leafs": 0},
        }

    def _cpu_percent(self) -> float:
        """How much of one core the process has used since somebody asked last."""
        then, used_then = self._cpu
        now, used = self._cpu = (time.monotonic(), time.process_time())
        return round(100 * (used - used_then) / (now - then), 1) if now > then else 0.0

    # /connz

    def connz(self, query: ConnzQuery) -> dict[str, Any]:
        """A page of the connections that `query` asks for."""
        states = self._ask(self._states(query))
        key, largest_first = _SORT_KEYS[query.sort]
        states.sort(key=lambda state: state.client_id)
        states.sort(key=key, reverse=largest_first)
        page = states[query.offset : query.offset + query.limit]
        now = time.time()
        rows = [_connection(state, now, query.auth) for state in page]
        if query.subs:
            found = self._ask(self._subscriptions([state.client_id for state in page if not state.stop_s]))
            for row in rows:
                _list_subscriptions(row, *found.get(row["cid"], ([], False)), query.detail)
        return {
            "server_id": self._server.hub.info["server_id"],
            "now": go_time(now),
            "num_connections": len(rows),
            "total": len(states),
            "offset": query.offset,
            "limit": query.limit,
            "connections": rows,
        }

    async def _states(self, query: ConnzQuery) -> list[ClientState]:
        hub = self._server.hub
        found: list[ClientState] = []
        if query.account not in {None, _ACCOUNT}:
            return found
        if query.state is not State.CLOSED:
            for numbers in _slices([query.cid] if query.cid is not None else list(hub.sessions)):
                found += [hub.sessions[number].state() for number in numbers if number in hub.sessions]
                await asyncio.sleep(0)
        if query.state is not State.OPEN:
            for states in _slices(list(hub.gone)):
                found += [state for state in states if query.cid in {None, state.client_id}]
                await asyncio.sleep(0)
        return [state for state in found if query.user in {None, state.user}]

    async def _subscriptions(self, clients: list[int]) -> dict[int, tuple[list[Described], bool]]:
        """What each of `clients` is subscribed to, and whether it is more than that."""
        found: dict[int, tuple[list[Described], bool]] = {}
        left, looked_at = _LISTED_MAX, 0
        for number in clients:
            session = self._server.hub.sessions.get(number)
            subscriptions = [] if session is None else session.all_subscriptions()
            described: list[Described] = []
            for chunk in _slices(subscriptions[:left]):
                described += [each.describe() for each in chunk]
                looked_at += len(chunk)
                if looked_at >= _SLICE:
                    looked_at = 0
                    await asyncio.sleep(0)
            found[number] = described, len(subscriptions) > left
            left -= len(described)
        return found

    # /subsz

    def subsz(self, query: SubszQuery) -> dict[str, Any]:
        """What is counted of subscriptions to core NATS subjects and, when `query` asks for them, a page of these."""
        counted, total, found = self._ask(self._core_subscriptions(query))
        answer = {
            "server_id": self._server.hub.info["server_id"],
            "now": go_time(time.time()),
            **counted,
            "total": total,
            "offset": query.offset,
            "limit": query.limit,
        }
        rows = [{"account": _ACCOUNT, **_subscription(described, number)} for number, described in found]
        return answer | ({"subscriptions_list": rows} if rows else {})

    async def _core_subscriptions(self, query: SubszQuery) -> tuple[dict[str, float], int, list[tuple[int, Described]]]:
        hub = self._server.hub
        found: list[tuple[int, Described]] = []
        total = looked_at = 0
        for number in list(hub.sessions) if query.subs and query.account in {None, _ACCOUNT} else ():
            session = hub.sessions.get(number)
            for chunk in _slices([] if session is None else session.all_subscriptions()):
                for each in chunk:
                    described = each.describe()
                    # What is the broker's own is no core subject; nor may anybody find out by asking whether it is there.
                    if described[0].startswith(b"$mq9.") or (query.test and not matches(described[0], query.test)):
                        continue
                    if query.offset <= total < query.offset + query.limit:
                        found.append((number, described))
                    total += 1
                looked_at += len(chunk)
                if looked_at >= _SLICE:
                    looked_at = 0
                    await asyncio.sleep(0)
        return hub.router.statistics(), total, found


def _slices(items: list[Any]) -> Iterable[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, _SLICE)):
        yield chunk


def _subscription(described: Described, client_id: int) -> dict[str, Any]:
    subject, queue, sid, delivered, maximum = described
    row: dict[str, Any] = {"subject": shown_subject(subject)}
    if queue is not None:
        row["qgroup"] = shown_text(queue.decode("utf-8", "replace"))
    row |= {"sid": shown_text(sid.decode("utf-8", "replace")), "msgs": delivered}
    if maximum:
        row["max"] = maximum
    return row | {"cid": client_id}


def _list_subscriptions(row: dict[str, Any], found: list[Described], cut: bool, detail: bool) -> None:
    """Add to a row of /connz what its client is subscribed to."""
    if found and detail:
        row["subscriptions_list_detail"] = [_subscription(described, row["cid"]) for described in found]
    elif found:
        row["subscriptions_list"] = [shown_subject(described[0]) for described in found]
    if cut:
        row["subscriptions_list_cut"] = True


def _reason(state: ClientState) -> str:
    return _REASONS.get(state.reason, state.reason)


def _connection(state: ClientState, now: float, auth: bool) -> dict[str, Any]:
    """A row of /connz."""
    end = state.stop_s or now
    row: dict[str, Any] = {
        "cid": state.client_id,
        "kind": "Client",
        "type": "nats",
        "ip": state.address,
        "port": state.port,
        "start": go_time(state.start_s),
        "last_activity": go_time(state.last_active_s),
    }
    if state.stop_s:
        row |= {"stop": go_time(state.stop_s), "reason": _reason(state)}
    row |= {
        "rtt": go_duration(state.rtt_s),
        "uptime": go_uptime(end - state.start_s),
        "idle": go_uptime(end - state.last_active_s),
        "pending_bytes": state.pending,
        "in_msgs": state.messages_in,
        "out_msgs": state.messages_out,
        "in_bytes": state.payload_in,
        "out_bytes": state.payload_out,
        "subscriptions": state.subscriptions,
    }
    row |= {key: shown_text(text) for key in ("name", "lang", "version") if (text := state.client.get(key))}
    if state.tls_version:
        row |= {"tls_version": state.tls_version, "tls_cipher_suite": state.tls_cipher}
    if auth:
        row |= {"authorized_user": shown_text(state.user)} if state.user else {}
        row["account"] = _ACCOUNT
    return row


# how Go writes times


def go_time(unix_s: float) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def go_duration(seconds: float) -> str:
    """As Go prints a duration below a minute: `512.3µs`, `1.5s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{round(seconds / size, 6):.6f}".rstrip("0").rstrip(".") + unit
    return f"{round(seconds * 1e9)}ns" if seconds > 0 else "0s"


def go_uptime(seconds: float) -> str:
    """As nats-server prints how long something has lasted: `1y2d3h4m5s`, without what is zero in front."""
    whole = int(max(seconds, 0))
    days, rest = divmod(whole, 86_400)
    parts = [(days // 365, "y"), (days % 365, "d"), (rest // 3600, "h"), (rest // 60 % 60, "m"), (rest % 60, "s")]
    first = next((at for at, (amount, _) in enumerate(parts) if amount), len(parts) - 1)
    return "".join(f"{amount}{unit}" for amount, unit in parts[first:])


def resident_bytes() -> int:
    """How much memory the process has; where the system does not tell, the most that it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_SIZE
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
