"""The configuration file and the environment (server/config.py): a configuration within its bounds, or a sentence that names the key.

An input is the file; behind a zero byte come variables of the environment, `KEY=value` with line feeds between.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fuzz.target import Target
from mq9.server.config import ENVIRONMENT_PREFIX, Config, ConfigError
from mq9.server.userconfig import PermissionsConfig, UserConfig

# A file in memory, which is many times faster to write anew than one on a disk.
_MEMORY: Final = os.memfd_create("mq9.toml")
_FILE: Final = Path(f"/proc/self/fd/{_MEMORY}")


def run(data: bytes) -> None:
    """See Target.run."""
    text, _, variables = data.partition(b"\0")
    os.ftruncate(_MEMORY, 0)
    os.pwrite(_MEMORY, text, 0)
    environment = {}
    for line in variables.decode("utf-8", "surrogateescape").split("\n"):
        key, _, value = line.partition("=")
        environment[ENVIRONMENT_PREFIX + key.upper()] = value
    try:
        config = Config.load(_FILE, environment)
    except ConfigError as error:
        assert str(error)
        assert "\n" not in str(error), str(error)
        return
    # What was read would be read again.
    assert Config(**{key: getattr(config, key) for key in Config.__slots__}) == config
    for key in set(Config.__slots__) - {"users", "default_permissions"}:
        value = getattr(config, key)
        assert value is None or isinstance(value, (str, bool, int, float)), key
    assert all(isinstance(user, UserConfig) for user in config.users)
    assert config.default_permissions is None or isinstance(config.default_permissions, PermissionsConfig)


def seeds() -> Iterator[bytes]:
    """Files as docs/configuration.md shows them, and mistakes."""
    yield b'host = "127.0.0.1"\nport = 4222\ndata_dir = "data"\nmemory = true\nhttp_port = 8222\n'
    yield b"max_payload = 65536\nmax_connections = 10\nping_interval = 0.5\nping_max = 2\nmax_store = 1048576\n"
    yield b"port = 4222\n\0PORT=4223\nMEMORY=yes\nPING_INTERVAL=1.5\nHOST=::1"
    yield b"port = -1\n"
    yield b"port = true\n"
    yield b"unknown = 1\n"
    yield b"ping_interval = nan\n"
    yield b"ping_interval = inf\n"
    yield b"\0PING_INTERVAL=nan"
    yield b"\0PORT=1_0\nMAX_PAYLOAD= 5"
    yield b"[port]\nx = 1\n"
    yield b"port = 0x10\nhost = '''a\nb'''\n"
    yield (
        b'[[users]]\nname = "planner"\npassword = "p"\nmax_mailboxes = 1000\nmax_stored = 5\nmax_rate = 50\nmax_connections = 2\n'
        b'[users.permissions]\nmailboxes = ["create", "send"]\npublish = ["a.>", "b"]\nsubscribe = "_INBOX.>"\nallow_responses = true\n'
    )
    yield (
        b'[[users]]\nnkey = "UD466L6EBCM3YY5HEGHJANNTN4LSKTSUXTH7RILHCKEQMQHTBNLHJJXT"\nmax_subscriptions = 3\n'
        b'[[users]]\nname = "b"\ntoken = "t"\n[users.permissions]\nallow_responses = {max = 5, expires = 1.5}\n'
        b'publish = {allow = ["a"], deny = ["a.*"]}\nsubscribe = {deny = "x queue"}\n[default_permissions]\nmailboxes = "all"\n'
    )
    yield b'[[users]]\nname = "a"\npassword = "$2b$11$k5zPdf/tMkGfMVQj/NtCbOlChikWBdEkHA5MhH0QBEsX95F9N5FIe"\nmailboxes = []\n'
    yield b'[[users]]\nname = "a"\ntoken = "x"\n[[users]]\nname = "a"\ntoken = "x"\n[users.permissions]\npublish = 5\n'
    yield b"\xff"
    yield b"a = " + b"[" * 200


TARGET: Final = Target(
    "configuration",
    run,
    seeds,
    words=(
        *(key.encode() + b" = " for key in Config.__slots__),
        *(b"nan", b"inf", b"true", b"false", b"1e999", b"0x", b"'''", b'"""', b"[[", b"]]", b"1979-05-27"),
    ),
    size_max=1024,
)
