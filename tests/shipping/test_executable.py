"""The executable, as `make dist` has built it, in a directory that is all there is for it: no Python, no /proc, just the C library.

docs/operations.md, "Installing".
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import bcrypt
import pytest

from mq9 import Mailbox, MailboxError
from mq9.cli import COMMANDS
from tests.house.source import ROOT
from tests.store.post import Post
from tests.support.certificates import Certificates
from tools.executable.root import DATA, make

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.dist

EXECUTABLE: Final = ROOT / "dist" / "mq9"
NKEY: Final = "UD466L6EBCM3YY5HEGHJANNTN4LSKTSUXTH7RILHCKEQMQHTBNLHJJXT"
PATIENCE_S: Final = 20.0
_PORT: Final = re.compile(r"(?:nats|tls)://[^\s,]+:(\d+)")


class Bare:
    """A root directory with the executable and the C library, and what runs in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        make(EXECUTABLE, directory)
        (directory / "tmp").mkdir()
        self._before = self._files()
        self._enter = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        self.started: list[subprocess.Popen[str]] = []

    def command(self, *arguments: object) -> list[str]:
        """`mq9` in there."""
        return [*self._enter, "/usr/sbin/chroot", str(self.directory), "/bin/mq9", *map(str, arguments)]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, env={}, check=False
        )

    def serve(self, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        """Start a broker; gives its process and its URL when it listens."""
        command = self.command("serve", "--port", 0, "--data-dir", "/data", *arguments)
        broker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={})
        self.started.append(broker)
        assert broker.stdout is not None
        said = broker.stdout.readline()
        port = _PORT.search(said)
        assert port is not None, said
        return broker, f"{port[0].partition(':')[0]}://127.0.0.1:{port[1]}"

    def left(self) -> set[Path]:
        """What has come into it since, but for the broker's data."""
        return self._files() - self._before

    def _files(self) -> set[Path]:
        own = self.directory / DATA
        return {path for path in self.directory.rglob("*") if own not in path.parents}


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    """Such a directory; what still runs in it is ended."""
    made = Bare(tmp_path / "root")
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def test_it_is_there() -> None:
    assert EXECUTABLE.exists(), "make dist builds it"
    assert platform.system() == "Linux"


def test_a_broker_in_it_keeps_what_it_was_given(bare: Bare) -> None:
    broker, url = bare.serve()
    with Post(url) as post:
        box = post.new()
        msg_ids = post.send_all(box, [b"one", b"two"], "high")
    broker.send_signal(signal.SIGKILL)
    broker.wait(PATIENCE_S)
    broker, url = bare.serve()
    with Post(url) as post:
        assert [(mail.msg_id, mail.payload) for mail in post.fetch(box)] == list(
            zip(msg_ids, (b"one", b"two"), strict=True)
        )
        assert len(post.receive(box, 2)) == 2
    broker.send_signal(signal.SIGTERM)
    assert broker.wait(PATIENCE_S) == 0
    assert bare.left() == set()
    ran = bare.run("check", "/data")
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    ran = bare.run("backup", "/backup", "--data-dir", "/data")
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    ran = bare.run("restore", "/backup", "--data-dir", "/restored")
    assert (ran.returncode, ran.stderr) == (0, ""), ran


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_it(bare: Bare, name: str) -> None:
    ran = bare.run(name, "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"Usage: mq9 {name} ")


def test_the_commands_reach_its_broker(bare: Bare) -> None:
    _, url = bare.serve()
    box = bare.run("create", "--ttl", 60, "--server", url).stdout.strip()
    assert box.startswith("m-")
    ran = bare.run("send", box, "hello", "--server", url)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert bare.run("receive", box, "--count", 1, "--body", "--server", url).stdout == "hello\n"


def test_it_speaks_tls_and_knows_passwords(bare: Bare) -> None:
    """What is compiled in other languages, and brings libraries of its own, is in it too."""
    certificates = Certificates.make(bare.directory / "tmp")
    (bare.directory / "tmp" / "mq9.toml").write_text(
        'tls_cert = "../tmp/server.pem"\ntls_key = "../tmp/server.key"\n'
        f'[[users]]\nname = "a"\npassword = "{bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()}"\n'
        f'[[users]]\nname = "b"\nnkey = "{NKEY}"\n'
    )
    _, url = bare.serve("--config", "../tmp/mq9.toml")
    with Mailbox(url, user="a", password="secret", tls_ca=certificates.ca) as mailbox:
        mailbox.send(mailbox.create(60), "hello")
    with Mailbox(url, user="a", password="guessed", tls_ca=certificates.ca) as mailbox, pytest.raises(MailboxError):
        mailbox.create(60)


def test_signals_reach_the_broker_itself(bare: Bare) -> None:
    """There is one process: the one that was started."""
    broker, url = bare.serve()
    assert Path(f"/proc/{broker.pid}/task/{broker.pid}/children").read_text() == ""
    broker.send_signal(signal.SIGHUP)
    with Post(url) as post:
        post.new()
    broker.send_signal(signal.SIGUSR2)
    assert broker.wait(PATIENCE_S) == 0
    assert bare.left() == set()


def test_killing_it_at_any_moment_of_its_start_leaves_nothing(tmp_path: Path) -> None:
    """With /proc, as anywhere but in a bare directory, no file is made at all."""
    environment = {"TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path)}
    (tmp_path / "tmp").mkdir()
    for number in range(12):
        command = [str(EXECUTABLE), "serve", "--memory", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path, env=environment) as process:
            time.sleep(number * 0.02)
            assert process.poll() is None
            process.kill()
        assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]


def test_the_python_of_the_machine_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('the environment was asked')")
    (tmp_path / "click.py").write_text("raise SystemExit('the directory was asked')")
    environment = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "click.py"),
    }
    ran = subprocess.run(
        [EXECUTABLE, "--version"], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("mq9, version ")


def test_a_new_version_can_take_its_name_while_it_runs(tmp_path: Path) -> None:
    own = tmp_path / "mq9"
    shutil.copy(EXECUTABLE, own)
    with subprocess.Popen(
        [own, "serve", "--memory", "--port", "0", "--http-port", "0"], stdout=subprocess.PIPE, text=True
    ) as broker:
        assert broker.stdout is not None
        port = _PORT.search(broker.stdout.readline())
        assert port is not None
        (tmp_path / "new").write_bytes(b"another version")
        (tmp_path / "new").rename(own)
        with Post(f"nats://127.0.0.1:{port[1]}") as post:
            box = post.new()
            post.send(box, b"hello")
            assert post.ask(f"$mq9.AI.MSG.FETCH.{box}", {"group_name": "g"})["messages"]
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(PATIENCE_S) == 0
