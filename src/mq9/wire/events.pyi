from typing import Any

def parse(
    data: bytes, control_line_max: int = 4096, payload_max: int = 1048576
) -> tuple[list[tuple[Any, ...]], int, int]: ...
