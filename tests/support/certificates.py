"""Certificates for tests, made anew for each run: an authority, a server's, and those of clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files below a folder: the authority's certificate, and the server's with its key."""

    folder: Path
    authority: trustme.CA
    ca: Path
    cert: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """An authority, and a server's certificate for localhost and 127.0.0.1."""
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        made = cls(folder, authority, folder / "ca.pem", folder / "server.pem", folder / "server.key")
        authority.cert_pem.write_to_path(made.ca)
        made.issue("server", "localhost", "127.0.0.1")
        return made

    def issue(self, name: str, *identities: str) -> tuple[Path, Path]:
        """A certificate for `identities`, and its key, in files called after `name`."""
        issued = self.authority.issue_cert(
            *identities, common_name=name, organization_name="Agents", organization_unit_name="Tests"
        )
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return cert, key

    def context(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """What a client needs that trusts the authority, and shows the certificate of `client`."""
        context = ssl.create_default_context(cafile=self.ca)
        if client is not None:
            context.load_cert_chain(*client)
        return context

    def configuration(self, *, of_clients: bool = False) -> dict[str, Any]:
        """The keys of mq9's configuration for the server's; `of_clients`: with the authority of those."""
        keys = {"tls_cert": str(self.cert), "tls_key": str(self.key)}
        return keys | {"tls_ca": str(self.ca)} if of_clients else keys
