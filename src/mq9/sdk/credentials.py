"""What a client shows to be let in, and how it makes sure whom it talks to.

Everything here is checked when a mailbox client is made, files included, so that a wrong path is not found out at three in the
morning when the connection is lost for the first time.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from mq9.sdk.errors import BadRequest

if TYPE_CHECKING:
    import os

INBOX_PREFIX: Final = "_INBOX"
_SEED = re.compile(r"\bSU[A-Z2-7]{56}\b")
_INBOX = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a client is. See AsyncMailbox for what each is.

    Raises:
        BadRequest: they do not go together, or a file cannot be used; the sentence names no secret.
    """

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    seed: str | None = field(default=None, repr=False)
    inbox_prefix: str = INBOX_PREFIX
    context: ssl.SSLContext | None = None
    tls_hostname: str | None = None
    tls_first: bool = False
    needs_tls: bool = False

    def nats_options(self) -> dict[str, Any]:
        """The same as arguments for nats-py."""
        options = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "nkeys_seed_str": self.seed,
            "inbox_prefix": self.inbox_prefix,
            "tls": self.context,
            "tls_hostname": self.tls_hostname,
            "tls_handshake_first": self.tls_first,
        }
        return {key: value for key, value in options.items() if value is not None}


def take_credentials(
    url: str,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    nkey: str | None = None,
    credentials: str | os.PathLike[str] | None = None,
    inbox_prefix: str | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_hostname: str | None = None,
    tls_first: bool = False,
) -> tuple[str, Credentials]:
    """The URL without what is secret in it, and the credentials from there and from the arguments, which win.

    Raises BadRequest; see Credentials.
    """
    bare, url_user, url_password = _split(url)
    if user is None and password is None and token is None and nkey is None and credentials is None and url_user:
        user, password, token = (url_user, url_password, None) if url_password is not None else (None, None, url_user)
    given = [
        name
        for name, value in (("user", user), ("token", token), ("nkey", nkey), ("credentials", credentials))
        if value is not None
    ]
    if len(given) > 1:
        raise BadRequest(f"{' and '.join(given)} cannot be given together")
    if (user is None) != (password is None):
        raise BadRequest("user and password go together")
    if inbox_prefix is not None and _INBOX.fullmatch(inbox_prefix) is None:
        raise BadRequest("inbox_prefix must be tokens of A-Z a-z 0-9 _ - separated by single dots")
    scheme = urlsplit(bare).scheme
    wants_tls = scheme in {"tls", "wss"} or tls_first or tls_ca is not None or tls_cert is not None
    return bare, Credentials(
        user=user,
        password=password,
        token=token,
        seed=_seed(nkey, credentials),
        inbox_prefix=inbox_prefix or INBOX_PREFIX,
        context=_context(tls_ca, tls_cert, tls_key) if wants_tls else None,
        tls_hostname=tls_hostname,
        tls_first=tls_first,
        needs_tls=wants_tls and scheme not in {"ws", "wss"},
    )


def without_secrets(url: object) -> str:
    """`url` as it may be shown: without what stands before an `@`."""
    return re.sub(r"^(\w+://)?.*@", r"\1", repr(url)[1:-1] if isinstance(url, str) else repr(url))


def _split(url: str) -> tuple[str, str | None, str | None]:
    """A URL that can be the address of a broker: without user and password, and those."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    host = parts.netloc.rpartition("@")[2]
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return urlunsplit((parts.scheme, host, parts.path, parts.query, "")), user, password


def _seed(nkey: str | None, credentials: str | os.PathLike[str] | None) -> str | None:
    """The seed of an nkey: as it was given, or from a file that has it, alone or beside the JWT of a .creds file."""
    if credentials is not None:
        try:
            text = Path(credentials).read_text("utf-8", "replace")
        except OSError as error:
            raise BadRequest(f"cannot read credentials {credentials}: {error.strerror}") from None
        found = _SEED.search(text)
        if found is None:
            raise BadRequest(f"credentials {credentials} has no seed of a user's nkey; one begins with SU")
        return found[0]
    if nkey is not None and _SEED.fullmatch(nkey.strip()) is None:
        raise BadRequest("nkey must be the seed of a user's nkey: it begins with SU and has 58 characters")
    return None if nkey is None else nkey.strip()


def _context(
    ca: str | os.PathLike[str] | None, cert: str | os.PathLike[str] | None, key: str | os.PathLike[str] | None
) -> ssl.SSLContext:
    """What TLS needs: whose certificates are trusted, the system's by default, and what this client shows."""
    for name, path in (("tls_ca", ca), ("tls_cert", cert), ("tls_key", key)):
        try:
            if path is not None:
                Path(path).read_bytes()
        except OSError as error:
            raise BadRequest(f"cannot read {name} {path}: {error.strerror}") from None
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        what = f"tls_ca {ca}" if cert is None else f"tls_ca {ca}, tls_cert {cert} or tls_key {key}"
        raise BadRequest(
            f"{what} cannot be used (PEM, keys not encrypted): {getattr(error, 'reason', None) or error}"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
