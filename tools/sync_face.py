"""Makes the blocking face of the SDK, `mq9/sdk/blocking.py`, from the asynchronous text, `mq9/sdk/mailbox.py`.

The text is written so that leaving out every `async` and `await`, and renaming what the two faces stand on, gives the blocking
classes. Run `python tools/sync_face.py` after a change; a test fails when the two files do not match.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent.parent / "src" / "mq9" / "sdk"
SOURCE = SDK / "mailbox.py"
TARGET = SDK / "blocking.py"

HEADER = '''"""`Mailbox` and what belongs to it: the blocking face of the SDK.

Made from `mailbox.py` by tools/sync_face.py. Do not edit: change that text and run the tool.
"""
'''

RULES = (
    (r"mq9\.sdk\.async_face", "mq9.sdk.blocking_face"),
    (r"\bAsync(Face|HandleFace)\b", r"Blocking\1"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\b__a(iter|next|enter|exit)__\b", r"__\1__"),
    (r"\basync (?=def|for|with)", ""),
    (r"\bawait ", ""),
)


def blocking_text(text: str) -> str:
    """The blocking face that belongs to the asynchronous `text`."""
    body = text.partition('\n"""\n')[2]  # what follows the module's own docstring
    for pattern, replacement in RULES:
        body = re.sub(pattern, replacement, body)
    formatted = subprocess.run(  # noqa: S603 - our own formatter on our own text
        [sys.executable, "-m", "ruff", "format", "--config", str(SDK.parents[2] / "pyproject.toml"), "-"],
        input=HEADER + body,
        capture_output=True,
        text=True,
        check=True,
    )
    return formatted.stdout


def main() -> None:
    """Write the blocking face."""
    TARGET.write_text(blocking_text(SOURCE.read_text()))


if __name__ == "__main__":
    main()
