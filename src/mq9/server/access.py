"""Who may come in: what becomes of a CONNECT, and of those who are in when the configuration changes (docs/protocol.md §8)."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mq9.mailboxes.office import PostOffice
from mq9.server.config import Config
from mq9.server.passwords import PasswordChecks
from mq9.server.throttle import Throttle
from mq9.server.user import User
from mq9.server.users import Check, Users, brings_credentials

if TYPE_CHECKING:
    from mq9.server.session import Session

_NONCE_BYTES = 11
# Sessions looked at in one go when the configuration has changed.
_SLICE = 256


class Access:
    """Lets clients in.

    Arguments:
        loop: the event loop.
        users: who there is.
        config: the configuration that they are of.
        office: where the owners of mailboxes are known.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, users: Users, config: Config, office: PostOffice) -> None:
        self._loop = loop
        self._users = users
        self._office = office
        self._passwords = PasswordChecks()
        self._throttle = Throttle()
        self.patience_s = config.auth_timeout
        users.limit_owners(office.owners)

    @property
    def required(self) -> bool:
        """Whether a client has to say who it is, before anything else."""
        return self._users.required

    @property
    def no_auth_user(self) -> User | None:
        """Who a client is that does not say who it is."""
        return self._users.no_auth_user

    def new_nonce(self) -> str:
        """What one client has to sign if it comes with an nkey; empty when nobody does."""
        if not self._users.needs_nonce:
            return ""
        return base64.urlsafe_b64encode(secrets.token_bytes(_NONCE_BYTES)).decode().rstrip("=")

    def admit(self, session: Session, said: Mapping[str, str]) -> None:
        """Decide on a CONNECT with these credentials: the session is told at once, or held until it is."""
        if not self.required:
            session.admitted(None, not brings_credentials(said))
            return
        wait_s = self._throttle.wait(session.client_address, self._loop.time(), self.patience_s)
        if wait_s == 0.0:
            self._judge(session, said)
            return
        # Nobody gets an answer sooner because it will be too late: its time runs out.
        _hold(session)
        if wait_s is not None:
            self._loop.call_later(wait_s, self._judge, session, said)

    def adopt(self, users: Users, config: Config) -> None:
        """Let those in from now on who are `users`, of the configuration `config`."""
        self._users = users
        self.patience_s = config.auth_timeout
        self._passwords.forget(users.hashes)
        users.limit_owners(self._office.owners)

    async def review(self, sessions: Sequence[Session]) -> None:
        """See who of those who are in may stay, and what of what they subscribed to; a slice at a time."""
        users = self._users
        for seen, session in enumerate(sessions, 1):
            if users is not self._users:
                return  # there is a later configuration already, whose review sees everybody
            if not session.closed and not session.connect_first:
                self._review(session)
            if seen % _SLICE == 0:
                await asyncio.sleep(0)

    async def stop(self) -> None:
        """Let nobody in any more."""
        await self._passwords.stop()

    def _review(self, session: Session) -> None:
        if not self.required:
            session.become(None)
            return
        if session.brought_nothing:
            user = self._users.no_auth_user
        else:
            user = None if session.user is None else self._users.successor(session.user)
        if user is None:
            session.denied()
        else:
            session.become(user)

    def _judge(self, session: Session, said: Mapping[str, str]) -> None:
        if session.closed:
            return
        found = self._users.identify(said, session.nonce, session.certificate())
        if not isinstance(found, Check):
            self._decide(session, said, found)
            return
        users = self._users
        _hold(session)

        def checked(right: bool) -> None:
            if users is not self._users:  # who there is has changed meanwhile
                self._judge(session, said)
            else:
                self._decide(session, said, found.user if right else None)

        self._passwords.check(
            session.client_address, found.hashed, found.secret, checked, still=lambda: not session.closed
        )

    def _decide(self, session: Session, said: Mapping[str, str], user: User | None) -> None:
        if user is None:
            self._throttle.failed(session.client_address, self._loop.time())
            session.denied()
            return
        session.admitted(user, self._users.lets_in_as_nobody(said))
        if session.waits:
            session.go_on()


def _hold(session: Session) -> None:
    if not session.waits:
        session.hold()
