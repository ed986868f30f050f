from asyncio import AbstractEventLoop, Event
from collections import deque
from collections.abc import Callable
from typing import Any

from mq9.routing.router import Router
from mq9.server.config import Config
from mq9.server.connection import Connection, Shared

class Hub(Shared):
    router: Router
    info: dict[str, Any]
    sessions: dict[int, Session]
    all_gone: Event
    connections_max: int
    subscriptions_max: int
    subject_max: int
    messages_in: int
    messages_out: int
    payload_in: int
    payload_out: int
    connections_total: int
    subscriptions: int
    stale_connections: int
    refusals: dict[str, int]
    gone: deque[ClientState]
    def __init__(self, loop: AbstractEventLoop, config: Config, info: dict[str, Any]) -> None: ...

class ClientState:
    client_id: int
    address: str
    port: int
    client: dict[str, str]
    tls_version: str
    tls_cipher: str
    start_s: float
    last_active_s: float
    stop_s: float
    reason: str
    rtt_s: float
    pending: int
    messages_in: int
    messages_out: int
    payload_in: int
    payload_out: int
    subscriptions: int

class Interest:
    on_end: Callable[[], None] | None
    def describe(self) -> tuple[bytes, bytes | None, bytes, int, int]: ...

class Session(Connection):
    client_id: int
    client_address: str
    client_port: int
    client: dict[str, str]
    messages_in: int
    messages_out: int
    payload_in: int
    payload_out: int
    def __init__(self, hub: Hub) -> None: ...
    def state(self) -> ClientState: ...
    def all_subscriptions(self) -> list[Interest]: ...
    def tell_lame_duck(self) -> None: ...
    def end_all_subscriptions(self) -> None: ...
    def check_alive(self, now: float, ping_interval: float, ping_max: int) -> None: ...
    def add_interest(self, subject: bytes, queue: bytes | None, sid: bytes) -> None: ...
