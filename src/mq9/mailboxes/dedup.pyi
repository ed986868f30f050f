from mq9.mailboxes.blocks import BlockTable
from mq9.mailboxes.timers import TimerOwner, Timers
from mq9.protocol import ProtocolError

class Repeats(TimerOwner):
    timers: Timers
    blocks: BlockTable
    count: int
    def __init__(self, timers: Timers, blocks: BlockTable) -> None: ...

class Repeat:
    def apply(self, now: int) -> None: ...
    def fail(self, error: ProtocolError) -> None: ...
