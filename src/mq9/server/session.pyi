from asyncio import AbstractEventLoop, Event
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
    connections_total: int
    refusals: dict[str, int]
    def __init__(self, loop: AbstractEventLoop, config: Config, info: dict[str, Any]) -> None: ...

class Interest:
    on_end: Callable[[], None] | None

class Session(Connection):
    client_id: int
    client_address: str
    client: dict[str, str]
    def __init__(self, hub: Hub) -> None: ...
    def end_all_subscriptions(self) -> None: ...
    def check_alive(self, now: float, ping_interval: float, ping_max: int) -> None: ...
    def add_interest(self, subject: bytes, queue: bytes | None, sid: bytes) -> None: ...
