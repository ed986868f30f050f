"""The monitoring port: /healthz, /metrics, and nats-server's /varz, /connz and /subsz.

It runs in threads of its own, so that a slow scraper costs the broker nothing. What the pages show of the connections they ask the event
loop for (monitoring.py).
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from mq9.server.config import ConfigError
from mq9.server.monitoring import BusyError, Monitor
from mq9.server.passwords import same
from mq9.server.query import ConnzQuery, Parameters, QueryError, SubszQuery

if TYPE_CHECKING:
    from mq9.server.metrics import Metrics

_TIMEOUT_S = 10.0
# Requests at a time, each of which has a thread. One more is hung up on.
_REQUESTS_MAX = 64
_LONG = 256
_PATIENT_ENCODER = json.JSONEncoder()
_BUSY = b'{"error":"the broker is stopping or busy"}\n'
_CHALLENGE = (("WWW-Authenticate", "Bearer"),)
_NO_TOKEN = b'{"error":"this needs the broker\'s http_token"}\n'
_INDEX = b"""<!DOCTYPE html>
<html lang="en"><title>mq9</title>
<h1>mq9</h1>
<ul>
<li><a href="healthz">healthz</a>
<li><a href="metrics">metrics</a>
<li><a href="varz">varz</a>
<li><a href="connz">connz</a>
<li><a href="subsz">subsz</a>
</ul>
</html>
"""

StartResponse = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    """A request; who does not finish it in time is hung up on, and nothing of it is logged."""

    timeout = int(_TIMEOUT_S)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


class _WsgiServer(ThreadingWSGIServer):
    """A thread for each request, and no more of them than there may be."""

    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._room = threading.BoundedSemaphore(_REQUESTS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread that would make room again
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


class _WsgiServer6(_WsgiServer):
    address_family = socket.AF_INET6


class HttpServer:
    """The HTTP side of a broker.

    Arguments:
        host, port: where it listens; 0 takes a free port, which `port` then names.
        metrics, monitor: what it shows.
        is_healthy: whether the broker accepts messages.
        token: what has to be shown as `Authorization: Bearer`, for everything but /healthz; empty for nothing.

    Raises ConfigError when it cannot listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        monitor: Monitor,
        is_healthy: Callable[[], bool],
        token: str = "",
    ) -> None:
        self._token = token
        self._monitor = monitor
        self._is_healthy = is_healthy
        self._pages: dict[str, Callable[[dict[str, Any], StartResponse], Iterable[bytes]]] = {
            "/": lambda _environ, respond: _say(respond, "200 OK", _INDEX, "text/html; charset=utf-8"),
            "/metrics": make_wsgi_app(metrics.registry),
            "/healthz": self._healthz,
            "/varz": lambda _environ, respond: _say_json(respond, monitor.varz()),
            "/connz": lambda environ, respond: _say_json(
                respond, monitor.connz(ConnzQuery.parse(_parameters(environ)))
            ),
            "/subsz": lambda environ, respond: _say_json(
                respond, monitor.subsz(SubszQuery.parse(_parameters(environ)))
            ),
        }
        self._pages["/subscriptionsz"] = self._pages["/subsz"]
        kind = _WsgiServer6 if ":" in host else _WsgiServer
        try:
            self._server = make_server(host, port, self._answer, kind, _Handler)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}") from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="mq9-http", daemon=True)
        self._thread.start()

    def adopt(self, token: str) -> None:
        """Ask for this token from now on: the configuration was read again."""
        self._token = token
        self._monitor.config_load_s = time.time()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO") or "/"
        if path != "/healthz" and not self._may_ask(environ):
            return _say(start_response, "401 Unauthorized", _NO_TOKEN, headers=_CHALLENGE)
        page = self._pages.get(path)
        if page is None:
            return _say(start_response, "404 Not Found", b"404 page not found\n", "text/plain; charset=utf-8")
        self._monitor.note_request(path)
        try:
            return page(environ, start_response)
        except QueryError as error:
            return _say(start_response, "400 Bad Request", str(error).encode(), "text/plain; charset=utf-8")
        except BusyError:
            return _say(start_response, "503 Service Unavailable", _BUSY)

    def _healthz(self, _environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if not self._is_healthy():
            body = b'{"status":"unavailable","status_code":503,"error":"the storage is unavailable"}\n'
            return _say(start_response, "503 Service Unavailable", body)
        return _say(start_response, "200 OK", b'{"status":"ok"}\n')

    def _may_ask(self, environ: dict[str, Any]) -> bool:
        scheme, _, shown = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return not self._token or (scheme.lower() == "bearer" and same(self._token, shown.strip()))


def _parameters(environ: dict[str, Any]) -> Parameters:
    try:
        return dict(parse_qsl(environ.get("QUERY_STRING", ""), max_num_fields=32))
    except ValueError as error:
        raise QueryError(str(error)) from None


def _text(answer: dict[str, Any]) -> Iterable[bytes]:
    """JSON, a key on a line and an item of a list on a line: for people, too."""
    between = b"{\n"
    for key, value in answer.items():
        yield between + json.dumps(key).encode() + b": "
        if isinstance(value, list) and value:
            for at, item in enumerate(value):
                yield (b"[\n  " if at == 0 else b",\n  ") + _item(item).encode()
            yield b"\n]"
        else:
            yield json.dumps(value).encode()
        between = b",\n"
    yield b"\n}\n"


def _item(item: dict[str, Any]) -> str:
    """JSON of one connection or subscription.

    The encoder in C keeps the interpreter to itself until it has done with what it was given, so it is given nothing long.
    """
    if any(isinstance(value, list) and len(value) > _LONG for value in item.values()):
        return "".join(_PATIENT_ENCODER.iterencode(item))
    return json.dumps(item)


def _say(
    start_response: StartResponse,
    status: str,
    body: bytes,
    content_type: str = "application/json",
    headers: Sequence[tuple[str, str]] = (),
) -> list[bytes]:
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers])
    return [body]


def _say_json(start_response: StartResponse, answer: dict[str, Any]) -> list[bytes]:
    body = list(_text(answer))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(sum(map(len, body))))])
    return body
