"""The wheel, as `make dist` has built it, in an environment of its own, away from the source."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
from typing import TYPE_CHECKING, Final

import pytest

from tests.house.source import ROOT
from tests.support.broker import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dist

DIST: Final = ROOT / "dist"
PROGRAM: Final = """
import mq9

assert mq9.__file__ is not None and "site-packages" in mq9.__file__, mq9.__file__
with mq9.Broker("data") as broker, mq9.Mailbox(broker.url) as mailbox:
    box = mailbox.create(ttl=60)
    mailbox.send(box, {"hello": "wheel"}, priority="high")
    (message,) = mailbox.fetch(box)
    assert message["hello"] == "wheel", message
"""


def only(pattern: str) -> Path:
    """The one file of `dist/` that is called so."""
    found = list(DIST.glob(pattern))
    assert len(found) == 1, f"make dist builds one {pattern}; there are {len(found)}"
    return found[0]


@pytest.mark.timeout(300)
def test_it_works_away_from_the_source(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", only("*.whl")], check=True, env=clean_environment())
    subprocess.run([python, "-c", PROGRAM], check=True, cwd=tmp_path, env=clean_environment())
    said = subprocess.check_output([python.parent / "mq9", "--version"], text=True, cwd=tmp_path)
    assert said.startswith("mq9, version ")
    subprocess.run([python, "-m", "pip", "check"], check=True)


def test_it_is_of_this_python_and_this_machine() -> None:
    """And so it has the compiled modules: one that has none would be of any."""
    assert f"-cp{sys.version_info.major}{sys.version_info.minor}-" in only("*.whl").name


def test_the_sdist_has_what_building_takes_and_a_licence() -> None:
    with tarfile.open(only("*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for kind in ("*.py", "*.pyx", "*.pxd", "*.pyi")
        for path in (ROOT / "src").rglob(kind)
    }
    assert names >= sources | {"LICENSE", "README.md", "setup.py", "pyproject.toml", "src/mq9/py.typed"}
