"""What each scenario of tests/clients/README.md must come to, in every language and on every server."""

from __future__ import annotations

from typing import Any, Final

CORE: Final[dict[str, Any]] = {
    "connect": {"max_payload": 1_048_576, "has_client_id": True, "headers": True},
    "publish_subscribe": {"in_order": True, "largest": 1_048_576, "empty": 0},
    "wildcards": {
        "got": [
            "wild.*.end wild.a.end",
            "wild.*.end wild.last.end",
            "wild.> wild.a.end",
            "wild.> wild.b.c",
            "wild.> wild.last.end",
        ]
    },
    "queues": {"workers": 120, "auditors": 120, "plain": 120, "all_worked": True},
    "requests": {"right": 50},
    "requests_old_style": {"right": 50},
    "headers": {
        "first": {"X-Case": "Kept", "lower": "a: b"},
        "bodies": ["body", "", "none"],
        "only": "this",
        "none": True,
    },
    "header_twice": {"values": ["a", "b"]},
    "header_empty": {"values": [""]},
    "no_responders": {"no_responders": True},
    "unsubscribe": {"limited": 3, "witness": 10},
    "no_echo": {"got": "theirs"},
    "drain": {"handled": 200, "closed": True},
    "reconnect": {
        "before": ["again.a", "again.q", "again.w.x"],
        "after": ["again.a", "again.q", "again.w.x"],
        "limited_has_ended": True,
    },
}

MAILBOXES: Final[dict[str, Any]] = {
    "mailbox_create": {"private": True, "name": "create.one", "is_new": [True, True, False], "ttl": 60},
    "mailbox_receive": {
        "got": ["high first", "normal next", "low later"],
        "right": True,
        "pending": "0",
        "live": "urgent live",
        "high": ["first", "again"],
    },
    "mailbox_fetch": {"pages": [["a", "b"], ["c"]], "end": True},
    "mailbox_delete": {"deleted": [True, False], "left": ["b"], "removed": True, "code": "404"},
    "mailbox_list": {
        "events": ["created list.one", "created list.two", "removed list.two"],
        "listed": ["list.one", "list.two"],
    },
    "mailbox_work": {
        "first": ["a 1", "b 1"],
        "acked": "",
        "nacked": "",
        "second": ["b 2", "c 1"],
        "third": [],
    },
    "mailbox_workers": {"handled": 40},
    "mailbox_refusal": {"heard": 1, "connected": True},
    "mailbox_restart": {"before": ["a", "b"], "after": ["a", "b", "c"], "stored": ["a", "b", "c"]},
    "mailbox_work_restart": {"first": ["a 1"], "second": ["b 1"], "acked": ""},
}

ENTERING: Final[dict[str, Any]] = {
    "round_trip": {"got": "hello"},
    "refused": {"refused": True},
    "permissions": {"heard": 1, "got": "hello"},
}
