"""Builds the programs of tests/clients, one in each language that NATS has an official client for, with what their lock files say.

Run by `make clients`. What was built since its source was last changed is left alone; a toolchain that is not there is named, and is a
failure where `CI` or `MQ9_REQUIRE_PEERS` is set. What is built is kept in .tools/clients.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools import debian
from tools.peers import required

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = ROOT / "tests" / "clients"
BUILT: Final = ROOT / ".tools" / "clients"
# The libraries of the C program, as Debian packages.
C_PACKAGES: Final = {"libnats": "libnats-dev", "libcjson": "libcjson-dev"}


class BuildError(Exception):
    """A program that cannot be built; the text says which step failed."""


@dataclass(frozen=True)
class Language:
    """A language, and the program in it.

    Attributes:
        name: of the language, and of its folder.
        client: the official client, as users call it.
        needs: the programs of its toolchain.
        build: builds it from the folder of its source into that of what is built.
        command: what runs it, given the folder of what was built.
        example: the same for the example of docs/clients.md, whose source is the file `example_source`.
    """

    name: str
    client: str
    needs: tuple[str, ...]
    build: Callable[[Path, Path], None]
    command: Callable[[Path], list[str]]
    example: Callable[[Path], list[str]]
    example_source: str

    @property
    def source(self) -> Path:
        """The folder of its source."""
        return SOURCES / self.name

    @property
    def built(self) -> Path:
        """The folder of what is built."""
        return BUILT / self.name

    @property
    def missing(self) -> list[str]:
        """What is not there of its toolchain."""
        return [program for program in self.needs if shutil.which(program) is None]

    @property
    def is_built(self) -> bool:
        """Whether it was built since its source was changed."""
        mark = self.built / "built"
        if not mark.exists():
            return False
        return all(path.stat().st_mtime <= mark.stat().st_mtime for path in self.source.rglob("*") if path.is_file())

    def run(self) -> list[str]:
        """The command that runs it."""
        return self.command(self.built)

    def run_example(self) -> list[str]:
        """The command that runs the example; it wants to be told where the broker is."""
        return self.example(self.built)


def _do(command: list[str], folder: Path, **more: str) -> None:
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, env=os.environ | more, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _go(source: Path, built: Path) -> None:
    _do(["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", f"{built}/", "./..."], source)


def _javascript(source: Path, built: Path) -> None:
    for name in ("package.json", "package-lock.json", "client.js", "example.js"):
        shutil.copyfile(source / name, built / name)
    _do(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], built)


def _rust(source: Path, built: Path) -> None:
    more = {"CARGO_TARGET_DIR": str(built)}
    # rustup looks below HOME for its toolchains, which may be set to another place than the user's own.
    own = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".rustup"
    if "RUSTUP_HOME" not in os.environ and own.is_dir() and not (Path.home() / ".rustup" / "toolchains").is_dir():
        more["RUSTUP_HOME"] = str(own)
    _do(["cargo", "build", "--locked", "--quiet"], source, **more)


def _java(source: Path, built: Path) -> None:
    libraries = built / "lib"
    shutil.rmtree(libraries, ignore_errors=True)
    _do(["mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies", f"-DoutputDirectory={libraries}"], source)
    _do(["javac", "-cp", f"{libraries}/*", "-d", str(built / "classes"), "Client.java", "Example.java"], source)


def _c(source: Path, built: Path) -> None:
    lacking = [package for name, package in C_PACKAGES.items() if not _has_library(name)]
    if lacking and (reason := debian.install_packages(*lacking)):
        raise BuildError(reason)
    warnings = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
    libraries = ["-lnats", "-lcjson", "-lpthread"]
    for name in ("client", "example"):
        _do(["cc", *warnings, "-o", str(built / name), f"{name}.c", *libraries], source)


def _has_library(name: str) -> bool:
    header = {"libnats": "nats/nats.h", "libcjson": "cjson/cJSON.h"}[name]
    tried = subprocess.run(
        ["cc", "-E", "-x", "c", "-"],  # noqa: S607
        input=f"#include <{header}>\n",
        text=True,
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


def _python(source: Path, built: Path) -> None:
    venv.create(built / "venv", clear=True, with_pip=True)
    pip = [str(built / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _do([*pip, "--require-hashes", "--requirement", "requirements.txt"], source)


def _run_java(built: Path, name: str) -> list[str]:
    # It lives for a second or two, which is too short for the second compiler.
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{built}/classes:{built}/lib/*", name]


def _run_python(built: Path, name: str) -> list[str]:
    return [str(built / "venv" / "bin" / "python"), str(SOURCES / "python" / name)]


LANGUAGES: Final = {
    language.name: language
    for language in (
        Language(
            "rust",
            "async-nats",
            ("cargo", "cc"),
            _rust,
            lambda built: [str(built / "debug" / "mq9-test-client")],
            lambda built: [str(built / "debug" / "example")],
            "src/bin/example.rs",
        ),
        Language(
            "go",
            "nats.go",
            ("go",),
            _go,
            lambda built: [str(built / "client")],
            lambda built: [str(built / "example")],
            "example/main.go",
        ),
        Language(
            "java",
            "jnats",
            ("java", "javac", "mvn"),
            _java,
            lambda built: _run_java(built, "Client"),
            lambda built: _run_java(built, "Example"),
            "Example.java",
        ),
        Language(
            "c",
            "nats.c",
            ("cc",),
            _c,
            lambda built: [str(built / "client")],
            lambda built: [str(built / "example")],
            "example.c",
        ),
        Language(
            "javascript",
            "nats.js",
            ("node", "npm"),
            _javascript,
            lambda built: ["node", str(built / "client.js")],
            lambda built: ["node", str(built / "example.js")],
            "example.js",
        ),
        Language(
            "python",
            "nats-py",
            (),
            _python,
            lambda built: _run_python(built, "client.py"),
            lambda built: _run_python(built, "example.py"),
            "example.py",
        ),
    )
}


def prepare(language: Language) -> tuple[str, bool]:
    """Build one of them; returns what to say of it, and whether that is a failure."""
    began = time.monotonic()
    if language.missing:
        return f"{language.name}: not built, {' and '.join(language.missing)} not found", required()
    if language.is_built:
        return f"{language.name}: built already", False
    try:
        language.built.mkdir(parents=True, exist_ok=True)
        language.build(language.source, language.built)
    except (BuildError, OSError) as error:
        return f"{language.name}: {error}", True
    (language.built / "built").touch()
    return f"{language.name}: {language.client} built in {time.monotonic() - began:.0f} s", False


def main() -> int:
    """Build all; the exit code says whether that went as it must."""
    failed = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for said, is_failure in pool.map(prepare, LANGUAGES.values()):
            print(said, file=sys.stderr if is_failure else sys.stdout, flush=True)
            failed = failed or is_failure
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
