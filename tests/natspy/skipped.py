"""Which tests of nats-py's own suite are left out, and why. Nothing else may be: `test_suite.py` looks."""

from __future__ import annotations

from typing import Final

from tests.clients.entering import MQ9_HAS_USERS_AND_TLS

JETSTREAM: Final = "there is no JetStream"
CLUSTERS: Final = "there are no clusters"
JWT: Final = "there is no operator JWT"
WEBSOCKET: Final = "there is no WebSocket listener"
LATER: Final = "there are no users and no TLS yet"

# A file, a class or a test → the reason.
NEVER: Final = {
    "test_js.py": JETSTREAM,
    "test_client.py::ClusterDiscoveryTest": CLUSTERS,
    "test_client.py::ClusterDiscoveryReconnectTest": CLUSTERS,
    "test_client_nkeys.py::ClientJWTAuthTest": JWT,
    "test_client_websocket.py": WEBSOCKET,
    "test_custom_headers_websocket.py": WEBSOCKET,
    "test_compatibility.py": "it is driven by a test program of the NATS project's, over a server of its own",
}
UNTIL_THERE_ARE_USERS_AND_TLS: Final = dict.fromkeys(
    [
        "test_client.py::ClientReconnectTest",
        "test_client.py::ClientAuthTokenTest",
        "test_client.py::ClientTLSTest",
        "test_client.py::ClientTLSReconnectTest",
        "test_client.py::ClientTLSHandshakeFirstTest",
        "test_client.py::NoAuthUserClientTest",
        "test_client.py::ClientServerPoolTest",
        "test_client.py::ClientReconnectToServerHandlerTest",
        "test_client_nkeys.py::ClientNkeysAuthTest",
    ],
    LATER,
)
SKIPPED: Final = NEVER | ({} if MQ9_HAS_USERS_AND_TLS else UNTIL_THERE_ARE_USERS_AND_TLS)
