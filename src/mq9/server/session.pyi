from asyncio import AbstractEventLoop, BaseTransport, Event
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mq9.routing.router import Router
from mq9.server.access import Access
from mq9.server.addresses import Addresses
from mq9.server.config import Config
from mq9.server.connection import Connection, Shared
from mq9.server.user import Rate, User

class Hub(Shared):
    router: Router
    info: dict[str, Any]
    access: Access
    sessions: dict[int, Session]
    all_gone: Event
    connections_max: int
    addresses: Addresses
    address_connections_max: int
    rate: float
    create_rate: float
    subscriptions_max: int
    subject_max: int
    messages_in: int
    messages_out: int
    payload_in: int
    payload_out: int
    connections_total: int
    rate_waits: int
    subscriptions: int
    gone: deque[ClientState]
    def __init__(self, loop: AbstractEventLoop, config: Config, info: dict[str, Any], access: Access) -> None: ...
    def adopt(self, config: Config) -> None: ...

class ClientState:
    client_id: int
    address: str
    port: int
    client: dict[str, str]
    user: str
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
    user: User | None
    creates: Rate | None
    nonce: str
    brought_nothing: bool
    messages_in: int
    messages_out: int
    payload_in: int
    payload_out: int
    def __init__(self, hub: Hub) -> None: ...
    def limit_rates(self) -> None: ...
    def introduce(self, transport: BaseTransport) -> bytes: ...
    def certificate(self) -> Mapping[str, Any] | None: ...
    def admitted(self, user: User | None, brought_nothing: bool) -> None: ...
    def denied(self) -> None: ...
    def become(self, user: User | None) -> None: ...
    def review(self, sid: bytes, subscription: object) -> None: ...
    def revoke(self, sid: bytes, subject: bytes, subscription: object) -> None: ...
    def publishes(self, subject: bytes) -> bool: ...
    def note_asked(self, reply: bytes) -> None: ...
    def state(self) -> ClientState: ...
    def all_subscriptions(self) -> list[Interest]: ...
    def tell_lame_duck(self) -> None: ...
    def end_all_subscriptions(self) -> None: ...
    def check_alive(self, now: float, ping_interval: float, ping_max: int) -> None: ...
    def add_interest(self, subject: bytes, queue: bytes | None, sid: bytes) -> None: ...
