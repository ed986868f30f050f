"""`mq9 backup`, `restore` and `check`, as somebody uses them who looks after a broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.post import Post
from tests.support.broker import BrokerProcess, clean_environment


def run(*arguments: str | Path, where: Path, **environment: str) -> tuple[int, str, str]:
    """`mq9` with these arguments: its exit code, and what it says."""
    ran = subprocess.run(
        [sys.executable, "-m", "mq9", *map(str, arguments)],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=30,
        env={**clean_environment(), **environment},
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def box(tmp_path: Path) -> str:
    """A mailbox with two messages in the data of a broker that was killed, in `mq9-data`."""
    with BrokerProcess(tmp_path / "mq9-data") as broker, Post(broker.url) as post:
        mail_id = post.new()
        post.send(mail_id, b"hello")
        post.send(mail_id, b"again")  # and so the first commit is not one that was perhaps never finished
        broker.kill()
    return mail_id


def test_a_broker_is_moved_with_two_commands(tmp_path: Path, box: str) -> None:
    code, said, complained = run("backup", "monday", where=tmp_path)
    assert (code, complained) == (0, "")
    assert said.startswith("monday: 2 files, ")
    code, said, complained = run("restore", "monday", "--data-dir", "moved", where=tmp_path)
    assert (code, complained) == (0, "")
    assert said.startswith("moved: 2 files, ")
    code, said, complained = run("check", "moved", where=tmp_path)
    assert (code, said, complained) == (
        0,
        "moved: 1 segments, 2 blocks, 2 messages, 2 rows; nothing damaged\n",
        "",
    )
    with BrokerProcess(tmp_path / "moved") as broker, Post(broker.url) as post:
        assert [mail.payload for mail in post.fetch(box)] == [b"hello", b"again"]


def test_damage_is_told_a_line_for_each_and_by_the_exit_code(tmp_path: Path, box: str) -> None:
    segment = tmp_path / "mq9-data" / "journal" / "000000000001.segment"
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"hello", b"hallo"))
    expected = [
        "the blocks of commit 3 in segment 1 do not match their checksum",
        "block 1 does not match its checksum",
    ]
    code, said, complained = run("check", "mq9-data", where=tmp_path)
    assert (code, complained) == (6, "")
    assert said.splitlines()[:-1] == expected
    assert said.splitlines()[-1].endswith("; 2 damaged")
    assert box not in said
    # A backup is the same with the same damage, and says so.
    code, said, complained = run("backup", "monday", where=tmp_path)
    assert (code, complained) == (6, "")
    assert said.splitlines()[1:] == expected
    assert run("restore", "monday", "--data-dir", "moved", where=tmp_path)[0] == 0


def test_a_backup_that_was_changed_is_restored_when_that_is_asked_for(tmp_path: Path, box: str) -> None:
    assert run("backup", "monday", where=tmp_path)[0] == 0
    segment = tmp_path / "monday" / "journal" / "000000000001.segment"
    segment.write_bytes(segment.read_bytes().replace(b"hello", b"hallo"))
    sentence = "journal/000000000001.segment does not match its checksum"
    assert run("restore", "monday", "--data-dir", "moved", where=tmp_path) == (1, "", f"Error: {sentence}\n")
    assert not (tmp_path / "moved").exists()
    code, said, complained = run("restore", "monday", "--data-dir", "moved", "--damaged", where=tmp_path)
    assert (code, complained) == (6, "")
    assert said.splitlines()[1:] == [sentence]


def test_the_data_is_where_the_broker_would_have_it(tmp_path: Path, box: str) -> None:
    (tmp_path / "mq9-data").rename(tmp_path / "elsewhere")
    assert run("backup", "one", where=tmp_path)[0] == 1
    assert run("backup", "one", where=tmp_path, MQ9_DATA_DIR="elsewhere")[0] == 0
    (tmp_path / "mq9.toml").write_text('data_dir = "elsewhere"\n')
    assert run("backup", "two", "--config", "mq9.toml", where=tmp_path)[0] == 0
    (tmp_path / "mq9.toml").write_text("data_dir = 7\n")
    code, said, complained = run("backup", "three", "--config", "mq9.toml", where=tmp_path)
    assert (code, said) == (1, "")
    assert "data_dir" in complained


def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, box: str) -> None:
    data = tmp_path / "mq9-data"
    assert run("check", "none", where=tmp_path) == (1, "", "Error: there is no data in none\n")
    assert run("restore", "none", where=tmp_path)[2] == ("Error: none is not a finished backup: it has no mq9.backup\n")
    with BrokerProcess(data):
        sentence = f"Error: another broker has the data directory {data} open\n"
        assert run("check", data, where=tmp_path) == (1, "", sentence)
    assert run("check", where=tmp_path)[0] == 2
