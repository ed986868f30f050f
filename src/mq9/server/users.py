"""The users of a configuration: who there is, and who a client is by what it shows in CONNECT (docs/protocol.md §8)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from mq9.mailboxes.owner import Owner
from mq9.server.config import Config, ConfigError
from mq9.server.passwords import COST_MAX, COST_MIN, bcrypt_cost, digest, is_bcrypt, same
from mq9.server.user import User
from mq9.server.userconfig import UserConfig

NAME_BYTES_MAX: Final = 256
# By which a user is known that has no name: there is only this one then.
TOKEN_USER: Final = "token"  # noqa: S105 - a name
# What is compared with a secret when there is none: a hash of nothing that anybody knows, of the cost that is usual.
_NO_HASH: Final = "$2b$11$" + "." * 53
# The first byte of an nkey that is a user's, which makes its text begin with U.
_NKEY_OF_USER: Final = 20 << 3
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
# How a certificate's subject is written (RFC 2253), by the names that the ssl module gives.
_ATTRIBUTES: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}


def brings_credentials(said: Mapping[str, str]) -> bool:
    """Whether a CONNECT claims to be somebody; a JWT says nothing here."""
    return not said.keys().isdisjoint(("user", "pass", "auth_token", "nkey"))


class Check(NamedTuple):
    """Who the client is if `secret` is what the bcrypt hash `hashed` was made of; None: nobody, even if it is."""

    user: User | None
    hashed: str
    secret: str


class Users:
    """Everybody whom a configuration lets in.

    Arguments:
        config: the configuration.
        owner_of: gives the owner of a name.
        former: the users of the configuration before; one that is still the same is taken over.

    Raises ConfigError, with the user and the key, for what cannot be used.
    """

    def __init__(self, config: Config, owner_of: Callable[[bytes], Owner], former: Users | None = None) -> None:
        self._configs = {each.name: each for each in _everybody(config)}
        self._by_name: dict[str, User] = {}
        self._passwords: dict[str, str] = {}
        self._tokens: list[tuple[str, User]] = []
        self._nkeys: dict[str, tuple[VerifyKey, User]] = {}
        self._maps_certificates = config.tls_verify_and_map
        for name, each in self._configs.items():
            user = None if former is None else former.unchanged(each)
            self._add(each, user or _user(each, owner_of(name.encode())))
        hashes = [
            secret for secret in (*self._passwords.values(), *(token for token, _ in self._tokens)) if is_bcrypt(secret)
        ]
        self.hashes: Final = frozenset(hashes)
        if sum(is_bcrypt(token) for token, _ in self._tokens) > 1:
            raise ConfigError(
                "only one token may be a bcrypt hash: to find out whose a token is, all of them are tried"
            )
        # For those whom nobody knows, so that their answer takes as long as that to a wrong password.
        self._no_hash = max(hashes, key=lambda hashed: bcrypt_cost(hashed) or 0, default=None)
        self.no_auth_user = self._find_no_auth_user(config.no_auth_user)

    @property
    def required(self) -> bool:
        """Whether a client has to be one of them."""
        return bool(self._by_name)

    @property
    def needs_nonce(self) -> bool:
        """Whether there is somebody who signs a nonce."""
        return bool(self._nkeys)

    def limit_owners(self, owners: Mapping[bytes, Owner]) -> None:
        """Let the owners' limits be those of the configuration; owners that are no users have none."""
        for name, owner in owners.items():
            limits = self._configs.get(name.decode())
            owner.mailboxes_max = 0 if limits is None else limits.max_mailboxes
            owner.bytes_max = 0 if limits is None else limits.max_stored

    def unchanged(self, config: UserConfig) -> User | None:
        """The user of this name when everything that is said of it is the same."""
        return self._by_name[config.name] if self._configs.get(config.name) == config else None

    def successor(self, user: User) -> User | None:
        """Who a client is now that was `user` of an earlier configuration; None when it has to show something else."""
        found = self._by_name.get(user.name)
        return found if found is not None and found.proof == user.proof else None

    def lets_in_as_nobody(self, said: Mapping[str, str]) -> bool:
        """Whether a client that says this is the no_auth_user, or else nobody."""
        return not brings_credentials(said) and not self._maps_certificates

    def identify(
        self, said: Mapping[str, str], nonce: str, certificate: Mapping[str, Any] | None
    ) -> User | Check | None:
        """Who a client is.

        Arguments:
            said: the credentials of its CONNECT, without those that are empty.
            nonce: what it was given to sign.
            certificate: what it showed in the TLS handshake, as ssl.SSLSocket.getpeercert gives it.

        Returns the user, what is to be checked first, or None for nobody.
        """
        if "nkey" in said and self._nkeys:
            return self._by_signature(said, nonce)
        if self._maps_certificates:
            return self._by_certificate(certificate or {})
        if self.lets_in_as_nobody(said):
            return self.no_auth_user
        if "user" in said:
            return self._by_password(said["user"], said.get("pass", ""))
        return self._by_token(said.get("auth_token", ""))

    def _add(self, config: UserConfig, user: User) -> None:
        self._by_name[user.name] = user
        if config.password is not None:
            self._passwords[user.name] = config.password
        elif config.token is not None:
            self._tokens.append((config.token, user))
        elif config.nkey is not None:
            self._nkeys[config.nkey] = (_verify_key(config.nkey), user)
        elif not self._maps_certificates:
            raise ConfigError(f"user {user.name} needs a password, a token or an nkey")

    def _find_no_auth_user(self, name: str) -> User | None:
        if name and name not in self._by_name:
            raise ConfigError(f"no_auth_user is {name}, and there is no such user")
        return self._by_name.get(name)

    def _by_password(self, name: str, password: str) -> User | Check | None:
        user, secret = self._by_name.get(name), self._passwords.get(name)
        return self._compare(user, secret, password)

    def _by_token(self, token: str) -> User | Check | None:
        found: tuple[User | None, str | None] = (None, None)
        for secret, user in self._tokens:
            # All of them are looked at, so that the time does not tell which it was.
            if is_bcrypt(secret):
                found = (user, secret) if found[0] is None else found
            elif same(secret, token):
                found = (user, secret)
        return self._compare(found[0], found[1], token)

    def _compare(self, user: User | None, secret: str | None, shown: str) -> User | Check | None:
        if user is not None and secret is not None and is_bcrypt(secret):
            return Check(user, secret, shown)
        if same(secret if secret is not None else _NO_HASH, shown) and user is not None and secret is not None:
            return user
        return None if self._no_hash is None else Check(None, self._no_hash, shown)

    def _by_signature(self, said: Mapping[str, str], nonce: str) -> User | None:
        key, user = self._nkeys.get(said["nkey"], (None, None))
        if key is None or user is None or not nonce:
            return None
        try:
            key.verify(nonce.encode(), _decoded(said.get("sig", "")))
        except (CryptoError, ValueError):
            return None
        return user

    def _by_certificate(self, certificate: Mapping[str, Any]) -> User | None:
        names = certificate.get("subjectAltName", ())
        for kind in ("email", "DNS", "URI"):
            for found in (name for of_kind, name in names if of_kind == kind):
                if found in self._by_name:
                    return self._by_name[found]
        parts = [
            f"{_ATTRIBUTES.get(attribute, attribute)}={value}"
            for relative in certificate.get("subject", ())
            for attribute, value in relative
        ]
        if parts:
            for name, user in self._by_name.items():
                if "=" in name and sorted(_name_parts(name)) == sorted(parts):
                    return user
        return None


def _everybody(config: Config) -> Collection[UserConfig]:
    """The users: those of the list, or the one that the single keys make."""
    single = [key for key in ("token", "user") if getattr(config, key)]
    if len(single) + bool(config.users) > 1:
        raise ConfigError(f"{' and '.join([*single, *(['users'] if config.users else [])])} cannot be given together")
    if bool(config.user) != bool(config.password):
        raise ConfigError("user and password go together")
    if config.token:
        everybody = [UserConfig(name=TOKEN_USER, token=config.token)]
    elif config.user:
        everybody = [UserConfig(name=config.user, password=config.password)]
    else:
        everybody = list(config.users)
    names: set[str] = set()
    for each in everybody:
        _check(each)
        if each.name in names:
            raise ConfigError(f"there are two users called {each.name}")
        names.add(each.name)
    return [
        each if each.permissions is not None else replace(each, permissions=config.default_permissions)
        for each in everybody
    ]


def _check(config: UserConfig) -> None:
    name = config.name
    if len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX or _NAME.fullmatch(name) is None:
        raise ConfigError(f"the name of a user must have 1 to {NAME_BYTES_MAX} bytes and no control characters")
    for key, secret in (("password", config.password), ("token", config.token)):
        if secret == "":
            raise ConfigError(f"the {key} of user {name} must not be empty")
        if secret is not None and is_bcrypt(secret):
            cost = bcrypt_cost(secret)
            if cost is None:
                raise ConfigError(f"the {key} of user {name} begins like a bcrypt hash and is none")
            if not COST_MIN <= cost <= COST_MAX:
                raise ConfigError(
                    f"the {key} of user {name} has the bcrypt cost {cost}; it must be from {COST_MIN} to {COST_MAX}"
                )


def _user(config: UserConfig, owner: Owner) -> User:
    return User(
        config.name,
        digest(config.password or "", config.token or "", config.nkey or ""),
        config.permissions.compiled() if config.permissions is not None else None,
        owner,
        config.max_connections,
        config.max_subscriptions,
        config.max_rate,
    )


def _verify_key(nkey: str) -> VerifyKey:
    """The Ed25519 key of a user's public nkey: base32 of a prefix, the key, and a checksum."""
    try:
        raw = base64.b32decode(nkey)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != 35 or raw[0] != _NKEY_OF_USER or binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
        raise ConfigError(f"the nkey {nkey!r} is not the public key of a user: one begins with U and has 56 characters")
    return VerifyKey(raw[1:-2])


def _decoded(signature: str) -> bytes:
    """A signature's bytes, from base64 of either alphabet, with padding or without. Raises ValueError."""
    text = signature.rstrip("=").replace("+", "-").replace("/", "_")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _name_parts(name: str) -> list[str]:
    """The parts of a distinguished name as it is written in the configuration."""
    return [part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\),", name)]
