"""One fuzzer, which is one process: libFuzzer by way of atheris. `python -m fuzz` starts it in the build that it needs.

The first argument is the target's name; the others are libFuzzer's own.
"""

from __future__ import annotations

import sys

import atheris

from fuzz.target import load


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    with atheris.instrument_imports(include=["mq9", "fuzz.targets", "tomllib"], enable_loader_override=False):
        target = load(sys.argv[1])
    # A merge begins processes of its own by what stands first here.
    command = f"{sys.executable} -m fuzz.engine {sys.argv[1]}"
    atheris.Setup([command, *sys.argv[2:]], target.run, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
