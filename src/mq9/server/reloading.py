"""Taking over a changed configuration while the broker runs (docs/configuration.md): who may come in, certificates, and limits.

All of it or nothing: what cannot be used leaves everything as it was. Nobody is dropped but those who may not be there any more.
"""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

from mq9.server.config import Config
from mq9.server.tls import context_of
from mq9.server.users import Users

if TYPE_CHECKING:
    from mq9.server.broker import Server

log = logging.getLogger("mq9")

# Keys that take effect at once; the others do at the next start.
RELOADED: Final = frozenset(
    {
        *("token", "user", "password", "no_auth_user", "auth_timeout", "users", "default_permissions"),
        *("tls_cert", "tls_key", "tls_ca", "tls_verify", "tls_verify_and_map", "tls_handshake_first"),
        *("tls_min_version", "tls_timeout", "http_token", "insecure"),
        *("max_connections", "max_address_connections", "max_subscriptions", "max_rate", "max_create_rate"),
        *("max_requests", "max_total_requests", "max_mailboxes", "max_messages", "max_mailbox_messages"),
        *(
            "max_mailbox_bytes",
            "max_message_ids",
            "max_groups",
            "max_total_groups",
            "max_unfinished",
            "max_header_size",
        ),
        *("ping_interval", "ping_max", "default_ttl"),
        *("lame_duck_grace_period", "lame_duck_duration", "log_level", "log_format"),
    }
)


async def reload(server: Server, given: Config) -> None:
    """Let `server`, which runs, go by `given` as far as that can change.

    Raises ConfigError when `given` cannot be used; then nothing has changed.
    """
    changed = {each.name for each in fields(Config) if getattr(server.config, each.name) != getattr(given, each.name)}
    taken = changed & RELOADED
    if bool(given.tls_cert) != (server.tls is not None):
        taken = {key for key in taken if not key.startswith("tls_")}
    config = replace(server.config, **{key: getattr(given, key) for key in taken})
    users = Users(config, server.office.owner_of, server.users)
    context = context_of(config)
    server.refuse_strangers(config, users)
    server.config = config
    server.users = users
    if server.tls is not None and context is not None:
        server.tls.adopt(context, config)
    if server.http is not None:
        server.http.adopt(config.http_token)
    server.api.default_ttl = config.default_ttl
    server.leasing.adopt(config)
    server.fetcher.adopt(config)
    server.adopt_capacity(config)
    server.limit_connections(config.max_connections)
    server.hub.adopt(config)
    server.hub.info = server.describe(users, context)
    server.access.adopt(users, config)
    await server.access.review(list(server.hub.sessions.values()))
    log.info("the configuration was read again: %s", ", ".join(sorted(taken)) or "the same as before")
    if left := sorted(changed - taken):
        log.warning("%s changed too, which takes effect at the next start only", ", ".join(left))
