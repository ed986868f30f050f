"""What a kill cannot show, because the system keeps what was written: that the disk has it before anybody is told.

docs/protocol.md §3: the reply to a send means that fsync returned, and only then is the message pushed to receivers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.store.post import MAILBOX, Post
from tests.support.broker import BrokerProcess
from tools.peers import required

if TYPE_CHECKING:
    from collections.abc import Iterator

SENDS: Final = 20
_CALLS: Final = "trace=fsync,fdatasync,pwrite64,pwritev,write,writev,sendto,sendmsg"
_SYNCED: Final = re.compile(r"fdatasync(\(\d+<[^>]*\.segment>\)| resumed>\)) += 0")


@contextmanager
def traced(pid: int, output: Path) -> Iterator[None]:
    """Write the calls of the process that write, send or sync to `output`; ends the test where nobody may watch."""
    if shutil.which("strace") is None:
        if required():
            pytest.fail("strace is not installed")
        pytest.skip("strace is not installed")
    command = ["strace", "-f", "-y", "-s", "300", "-e", _CALLS, "-o", str(output), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        try:
            if "attached" not in said:
                pytest.skip(f"strace may not watch: {said.strip()}")
            yield
        finally:
            process.terminate()


def test_the_disk_has_a_message_before_anybody_is_told(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, Post(broker.url) as post, Post(broker.url) as receiver:
        mail_id = post.new()
        receiver.client.send(b"SUB %b.MSG.%b 7\r\n" % (MAILBOX.encode(), mail_id.encode()))
        assert receiver.client.fence() == []
        with traced(broker.pid, tmp_path / "calls"):
            for number in range(SENDS):
                assert "msg_id" in post.send(mail_id, b"payload %d." % number)
                frame = receiver.client.frame()
                assert frame is not None
                assert frame.endswith(b"payload %d." % number)
    synced = 0
    told = [0, 0]
    for line in (tmp_path / "calls").read_text("utf-8", "replace").splitlines():
        synced += _SYNCED.search(line) is not None
        for which, text in enumerate(('{\\"msg_id\\": ', "mq9-msg-id: ")):
            if text in line and ".segment" not in line:
                told[which] += 1
                assert synced >= told[which], f"told before it was synced: {line}"
    assert told == [SENDS, SENDS]
