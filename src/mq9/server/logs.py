"""What `mq9 serve` logs, as lines on standard error: for people, or for programs as JSON. One line per event, and no secret in any.

A broker that is embedded in somebody else's process logs to the logger `mq9` and leaves the rest to its host.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

from mq9.protocol import masked

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
# What a record may say besides its sentence, under the same names (docs/operations.md).
_DETAILS: Final = ("client", "address")
# What would begin another line, or change how a terminal shows this one.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class TextFormatter(logging.Formatter):
    """Time, level and sentence; the traceback of an error follows on the same line, its line ends escaped."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return _CONTROLS.sub(_escaped, masked(super().format(record)))


class JsonFormatter(logging.Formatter):
    """An object with the keys that docs/operations.md explains."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": masked(record.getMessage()),
            "template": masked(str(record.msg)),
        }
        said |= {name: getattr(record, name) for name in _DETAILS if hasattr(record, name)}
        if record.exc_info:
            said["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(said, default=str)


def set_up(level: str, line_format: str) -> None:
    """Have this process log to standard error from now on; may be called again.

    Arguments:
        level: one of LEVELS: what is less than that is not logged.
        line_format: one of FORMATS.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if line_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _escaped(control: re.Match[str]) -> str:
    return repr(control[0])[1:-1]
