"""The limits that clients can reach: what each is called, as its configuration key is, and how often it was.

`mq9_limit_reached` in /metrics has one line for each. docs/limits.md has the table of them; a test holds it against this.
"""

from __future__ import annotations

from typing import Final

# Of what a refusal is counted under (`mq9_refusals`), which limit was reached, where that is certain.
LIMIT_OF_REFUSAL: Final = {
    "maximum connections": "max_connections",
    "maximum connections of an address": "max_address_connections",
    "maximum account active connections exceeded": "users.max_connections",
    "authentication timeout": "auth_timeout",
    "payload too large": "max_payload",
    "control line too long": "max_control_line",
    "stale connection": "ping_max",
}

LIMITS: Final = (
    *("max_connections", "max_address_connections", "auth_timeout", "ping_max", "max_subscriptions"),
    *("max_payload", "max_header_size", "max_control_line", "max_subject", "max_pending"),
    *("max_rate", "max_create_rate", "max_requests", "max_total_requests", "max_backlog"),
    *("max_mailboxes", "max_mailbox_messages", "max_mailbox_bytes", "max_messages", "max_store"),
    *("max_groups", "max_total_groups", "max_unfinished", "max_message_ids"),
    *("users.max_connections", "users.max_subscriptions", "users.max_rate", "users.max_mailboxes", "users.max_stored"),
)
