"""Runs the program of a language, restarts the server when it asks for that, and gathers what it says."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.clients.conftest import Restartable

# A program waits for each thing at most a quarter of this.
PATIENCE_S: Final = 60.0


def play(
    command: Sequence[str], server: Restartable, scenarios: Iterable[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the program `command` says of each of the `scenarios`; of one that failed, and of what it never told, a sentence.

    `environment` says how to enter, where the server asks for it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "MQ9_"))}
    said: dict[str, Any] = {}
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [*command, *scenarios],
            env=kept | {"NATS_URL": server.url} | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        too_late = threading.Timer(PATIENCE_S, process.kill)
        too_late.start()
        try:
            for line in process.stdout:
                message = json.loads(line)
                if message.get("ask") == "restart":
                    server.stop()
                    server.start()
                    process.stdin.write("done\n")
                    process.stdin.flush()
                else:
                    said[message["scenario"]] = message.get("result", message.get("error"))
            process.stdin.close()
            code = process.wait()
        finally:
            too_late.cancel()
            too_late.join()
        complaints.seek(0)
        text = complaints.read().decode("utf-8", "replace")[-4_000:]
    missing = f"the program ended with {code} before that; it complained: {text}"
    return {name: said.get(name, missing) for name in scenarios} | ({} if code == 0 else {"exit": missing})
