"""/healthz and /metrics over HTTP, from a thread of their own so that a slow scraper costs the broker nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from mq9.server.config import ConfigError
from mq9.server.passwords import same

if TYPE_CHECKING:
    from mq9.server.metrics import Metrics

_TIMEOUT_S = 10.0
_CHALLENGE = (("WWW-Authenticate", "Bearer"),)

StartResponse = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    """A request; who does not finish it in time is hung up on, and nothing of it is logged."""

    timeout = int(_TIMEOUT_S)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


class HttpServer:
    """The HTTP side of a broker.

    Arguments:
        host, port: where it listens; 0 takes a free port, which `port` then names.
        metrics: what it shows.
        is_healthy: whether the broker accepts messages.
        token: what has to be shown as `Authorization: Bearer`, for everything but /healthz; empty for nothing.

    Raises ConfigError when it cannot listen there.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, is_healthy: Callable[[], bool], token: str = "") -> None:
        self.token = token
        self._is_healthy = is_healthy
        self._metrics_app = make_wsgi_app(metrics.registry)
        try:
            self._server = make_server(host, port, self._answer, ThreadingWSGIServer, _Handler)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}") from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="mq9-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path != "/healthz" and not self._may_ask(environ):
            return _say(
                start_response, "401 Unauthorized", b'{"error":"this needs the broker\'s http_token"}\n', _CHALLENGE
            )
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics_app(environ, start_response)
            return answer
        if path == "/healthz":
            if not self._is_healthy():
                return _say(start_response, "503 Service Unavailable", b'{"status":"unavailable"}\n')
            return _say(start_response, "200 OK", b'{"status":"ok"}\n')
        return _say(start_response, "404 Not Found", b'{"error":"there is only /healthz and /metrics"}\n')

    def _may_ask(self, environ: dict[str, Any]) -> bool:
        scheme, _, shown = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return not self.token or (scheme.lower() == "bearer" and same(self.token, shown.strip()))


def _say(
    start_response: StartResponse, status: str, body: bytes, headers: Sequence[tuple[str, str]] = ()
) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers])
    return [body]
