"""Brings the source distribution of nats-py, which carries its test suite, and puts beside it what it does not carry."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trustme

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE: Final = Path(__file__).parent
KEPT: Final = HERE.parents[1] / ".tools" / "natspy"
# The name of the file, and of the folder in it.
DISTRIBUTION: Final = "nats_py-2.14.0"

# A key of nobody's, which the suite's server knows.
NKEY: Final = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
NKEY_SEED: Final = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"

CONFIGURATIONS: Final = {
    "nkeys/nkeys_server.conf": f"""
        authorization {{
          users: [ {{
            nkey: {NKEY}
            permissions {{
              publish {{ allow: ["help", "_INBOX.>"], deny: ["foo"] }}
              subscribe {{ allow: ["help", "_INBOX.>"], deny: ["foo"] }}
            }}
          }} ]
        }}
    """,
    "conf/no_auth_user.conf": """
        port: 4555
        no_auth_user: foo
        authorization {
          users: [
            { user: foo, password: foo }
            { user: bar, password: bar, permissions { subscribe { deny: ["foo"] } } }
          ]
        }
    """,
    "conf/tls_handshake_first.conf": """
        port: 4224
        tls {
          cert_file: "<folder>/certs/server-cert.pem"
          key_file: "<folder>/certs/server-key.pem"
          ca_file: "<folder>/certs/ca.pem"
          verify: true
          handshake_first: true
        }
    """,
}


def fetch() -> Path:
    """The source distribution as a file, from the package index the first time; its hash is checked by pip."""
    archive = KEPT / f"{DISTRIBUTION}.tar.gz"
    if not archive.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        what = [
            "--no-deps",
            "--no-binary",
            ":all:",
            "--require-hashes",
            "--requirement",
            str(HERE / "requirements.txt"),
        ]
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--dest",
                str(KEPT),
                *what,
            ],
            check=True,
        )
    return archive


def unpack(folder: Path, skipped: Mapping[str, str]) -> Path:
    """Unpack the suite below `folder`, with what is ours in the place of what it lacks; returns where it lies.

    `skipped` says which of its tests are left out, and why.
    """
    with tarfile.open(fetch()) as archive:
        archive.extractall(folder, filter="data")
    suite = folder / DISTRIBUTION
    tests = suite / "tests"
    shutil.copyfile(HERE / "suite_utils.py", tests / "utils.py")
    shutil.copyfile(HERE / "suite_conftest.py", tests / "conftest.py")
    (tests / "__init__.py").touch()
    (tests / "skipped.json").write_text(json.dumps(dict(skipped)))
    (suite / "pytest.ini").write_text("[pytest]\ntimeout = 60\n")
    _issue_certificates(tests / "certs")
    for name, text in CONFIGURATIONS.items():
        path = tests / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("<folder>", str(tests)))
    (tests / "nkeys" / "foo-user.nk").write_text(NKEY_SEED)
    return suite


def _issue_certificates(folder: Path) -> None:
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, whom in (("server", ("localhost", "127.0.0.1")), ("client", ("client@mq9.test",))):
        certificate = authority.issue_cert(*whom)
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}-cert.pem"))
        certificate.private_key_pem.write_to_path(str(folder / f"{name}-key.pem"))
