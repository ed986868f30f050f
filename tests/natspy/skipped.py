"""Which tests of nats-py's own suite are left out, and why. Nothing else may be: `test_suite.py` looks."""

from __future__ import annotations

from typing import Final

JETSTREAM: Final = "there is no JetStream"
CLUSTERS: Final = "there are no clusters"
JWT: Final = "there is no operator JWT"
WEBSOCKET: Final = "there is no WebSocket listener"

# A file, a class or a test → the reason.
SKIPPED: Final = {
    "test_js.py": JETSTREAM,
    "test_client.py::ClusterDiscoveryTest": CLUSTERS,
    "test_client.py::ClusterDiscoveryReconnectTest": CLUSTERS,
    "test_client_nkeys.py::ClientJWTAuthTest": JWT,
    "test_client_websocket.py": WEBSOCKET,
    "test_custom_headers_websocket.py": WEBSOCKET,
    "test_compatibility.py": "it is driven by a test program of the NATS project's, over a server of its own",
}
