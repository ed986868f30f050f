"""Clients that are a nuisance, in a process of their own: `python -m tests.faults.nuisance KIND URL [SECONDS]`, then a count in JSON.

Each kind keeps a pace: what the machine can do at all is the others' time, too, and says nothing of the broker.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT: Final = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
BOX: Final = "victim"
DRIBBLERS: Final = 100
OPENED_PER_S: Final = 1_000
HEADER_BYTES: Final = 8 * 1024 * 1024
FLOODS_PER_S: Final = 20
STORED_PER_S: Final = 4
SUBJECT: Final = b"$mq9.AI.MAILBOX.MSG." + BOX.encode()


def connected(port: int) -> socket.socket:
    """A client that has said CONNECT."""
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(CONNECT)
    return client


def paced(per_s: float, seconds: float) -> Iterator[int]:
    """Numbers, at most so many in a second, for so many seconds."""
    began = time.perf_counter()
    number = 0
    while (now := time.perf_counter()) < began + seconds:
        if now >= began + number / per_s:
            yield number
            number += 1
        else:
            time.sleep(min(0.001, began + number / per_s - now))


def dribble(port: int, seconds: float) -> dict[str, int]:
    """Many clients that send messages a byte at a time."""
    frame = b"PUB %b 200\r\n%b\r\n" % (SUBJECT, b"d" * 200)
    clients = [connected(port) for _ in range(DRIBBLERS)]
    sent = 0
    for number in paced(50, seconds):
        for client in clients:
            at = number % len(frame)
            client.sendall(frame[at : at + 1])
            sent += 1
    return {"clients": len(clients), "bytes": sent}


def read_nothing(port: int, seconds: float) -> dict[str, int]:
    """A receiver of a full mailbox, a core subscriber to what many publish, and one that asks for pages and pages; none ever reads."""
    receiver, subscriber, publisher = (connected(port) for _ in range(3))
    for client in (receiver, subscriber):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    receiver.sendall(b"SUB %b.* 1\r\n" % SUBJECT)
    subscriber.sendall(b"SUB core 1\r\n")
    asker = asking(port)
    body = b'{"limit": 1000}'
    ask = b"PUB $mq9.AI.MAILBOX.LIST.%b in %d\r\n%b\r\n" % (BOX.encode(), len(body), body)
    rest = b""
    cut_off = 0
    message = b"PUB core 10000\r\n%b\r\n" % bytes(10_000)
    asked = published = 0
    for _ in paced(500, seconds):
        try:
            rest = rest or ask
            rest = rest[asker.send(rest) :]
            asked += not rest
        except BlockingIOError:
            pass
        except ConnectionError:
            asker, rest = asking(port), b""
            cut_off += 1
        publisher.sendall(message)
        published += len(message)
    return {"asked": asked, "published": published, "cut_off": cut_off}


def asking(port: int) -> socket.socket:
    """A client that waits for answers, and does not wait to say something."""
    client = connected(port)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(b"SUB in 1\r\n")
    client.setblocking(False)
    return client


def open_and_drop(port: int, seconds: float) -> dict[str, int]:
    """A thousand connections in a second, each dropped at once, every other one with a reset."""
    opened = 0
    for number in paced(OPENED_PER_S, seconds):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 30) as client:
            opened += 1
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    return {"opened": opened}


def flood_headers(port: int, seconds: float) -> dict[str, int]:
    """Messages with 8 MB of headers, one after the other."""
    return _flood(port, seconds, FLOODS_PER_S)


def store_headers(port: int, seconds: float) -> dict[str, int]:
    """The same at a pace at which a disk can store them."""
    return _flood(port, seconds, STORED_PER_S)


def _flood(port: int, seconds: float, per_s: float) -> dict[str, int]:
    """On a new connection whenever the old one is closed."""
    line = b"name: a,b,c\r\n"
    block = b"NATS/1.0\r\n" + line * (HEADER_BYTES // len(line)) + b"\r\n"
    frame = b"HPUB %b in %d %d\r\n%b\r\n" % (SUBJECT, len(block), len(block), block)
    client = connected(port)
    client.sendall(b"SUB in 1\r\n")
    sent = closed = 0
    for _ in paced(per_s, seconds):
        try:
            client.sendall(frame)
            sent += len(frame)
        except OSError:
            client.close()
            client = connected(port)
            closed += 1
    return {"bytes": sent, "closed": closed}


KINDS: Final[dict[str, Callable[[int, float], dict[str, int]]]] = {
    "dribble": dribble,
    "read_nothing": read_nothing,
    "open_and_drop": open_and_drop,
    "flood_headers": flood_headers,
    "store_headers": store_headers,
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](urlsplit(sys.argv[2]).port or 0, float(sys.argv[3]))))  # noqa: T201
