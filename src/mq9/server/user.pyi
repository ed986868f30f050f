from mq9.mailboxes.owner import Owner
from mq9.server.permissions import Permissions

class Rate:
    rate: float
    def __init__(self, rate: float) -> None: ...
    def wait(self, now: float) -> float: ...
    def published(self, now: float) -> float: ...
    def take(self, now: float) -> bool: ...

class User(Rate):
    name: str
    proof: object
    permissions: Permissions | None
    owner: Owner
    connections_max: int
    subscriptions_max: int
    connections: int
    subscriptions: int
    def __init__(
        self,
        name: str,
        proof: object,
        permissions: Permissions | None,
        owner: Owner,
        connections_max: int = 0,
        subscriptions_max: int = 0,
        rate: float = 0.0,
    ) -> None: ...
    def is_full(self) -> bool: ...
