"""One seed: what clients, the disk and the clock happen to do, step by step, and what must hold in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from mq9.mailboxes.drops import drop_id_of
from mq9.protocol import PRIORITIES
from tests.simulation.clients import Asked, Client, Subscription
from tests.simulation.model import ViolationError, payload_of
from tests.simulation.watching import Watch, is_public
from tests.simulation.world import BEGINNING_MS, World, silence

STEPS = 200
GROUPS = ("workers", "others")
NAMES = ("ada", "bob", "cy.d")
# What clients call their sends, so few that they say them again.
IDS = tuple(f"send-{number}" for number in range(8))
KEYS = ("one", "two", "three")
# How long a FETCH waits at most.
WAIT_MAX_MS = 5_000
# Beyond every ttl, lease and delay that is used here.
LONG_MS = 200_000_000


def drop_id(name: str) -> str:
    """The send-only address of a mailbox."""
    return drop_id_of(name.encode()).decode()


class SeedFailedError(AssertionError):
    """A seed that found something; its text is what, the last steps, and how to see it again."""


class Simulation:
    """A run.

    Arguments:
        seed: decides everything.
        steps: how many.
    """

    def __init__(self, seed: int, steps: int = STEPS) -> None:
        self.random = Random(seed)
        self.steps = steps
        self.world = World(self.random, self.random.choice((4_096, 4_096, 3, 1)))
        self.tokens = 0
        # A seed has a character of its own, so that rare things come together in some.
        self.sizes = self.random.choice([(0, 50), (0, 50), (200, 3_000), (0, 60_000)])
        self.troubled = self.random.choice([0, 0, 1, 4])
        self.slow_ms = self.random.choice([0, 0, 1, 5, 40])
        self.ttls = self.random.choice([(0,), (0, 0, 0, 1, 60), (0, 1, 1, 2)])
        self.grouped = self.random.choice((0, 1, 2))
        self.named = self.random.choice((0.0, 0.2, 0.6))
        self.keyed = self.random.choice((0.0, 0.1, 0.5))
        self.delays = self.random.choice(((0,), (0, 0, 0, 5, 50), (0, 0, 3, 700, 3_000, 30_000)))
        self.damaging = self.random.choice((0.0, 0.0, 0.5))
        self.lease_ms = self.random.choice(((30_000,), (10, 1_000, 30_000), (5, 50)))
        self.admin = self.world.connect()
        actions: list[tuple[int, Callable[[], object]]] = [
            (40, self.send),
            (8, self.create),
            (1, self.remove),
            (8, self.delete),
            (8, self.receive),
            (3, self.end_receiving),
            (4, self.list_messages),
            (4, self.become_slow),
            (8, self.read_some),
            (self.grouped * 4, self.join),
            (self.grouped * 12, self.fetch),
            (self.grouped * 12, self.acknowledge),
            (6, self.ask_what_became_of_one),
            (2, self.list_public),
            (3, self.watch),
            (1, self.watch_no_more),
            (1, self.misuse_a_drop_id),
            (25, self.time_passes),
            (2, self.time_jumps),
            (3, self.forget_blocks),
            (3, self.come),
            (3, self.go),
            (self.troubled, self.begin_trouble),
            (2, self.end_trouble),
            (self.random.choice([0, 0, 1, 3]), self.crash),
            (self.random.choice([0, 0, 1]), self.restart),
            (1, self.calm),
        ]
        self.weights = [weight for weight, _ in actions]
        self.actions = [action for _, action in actions]

    # running

    def run(self) -> None:
        """Do everything, and see that what must hold does."""
        world, random = self.world, self.random
        world.trouble.slow_ms = self.slow_ms
        for name in NAMES[:2]:
            self._create(name, ttl=0 if name == "ada" else 60, renew=False)
        world.loop.run()
        for action in random.choices(self.actions, self.weights, k=self.steps):
            action()
            world.loop.run(random.choice((0, 1, 3, 200_000, 200_000)))
        self.calm()
        self.finish()

    def pick(self) -> Client:
        """A client other than the one that creates and deletes."""
        others = [client for client in self.world.clients if client is not self.admin]
        return self.random.choice(others) if others else self.come()

    # what clients do

    def send(self) -> None:
        random = self.random
        for _ in range(random.randint(1, 4)):
            self.tokens += 1
            name = random.choice((*NAMES, "ada", "ada"))
            rank = random.choice((0, 1, 2, 3, 3, 4))
            ttl = random.choice(self.ttls)
            payload = payload_of(self.tokens, random.randint(*self.sizes))
            msg_id = random.choice(IDS) if random.random() < self.named else None
            headers = {"mq9-ttl": str(ttl)} if ttl or random.random() < 0.2 else {}
            if msg_id is not None:
                headers["Nats-Msg-Id"] = msg_id
            key = random.choice(KEYS) if random.random() < self.keyed else None
            if key is not None:
                headers["mq9-key"] = key
            delay_ms = random.choice(self.delays)
            if delay_ms:
                headers["mq9-delay"] = f"{delay_ms / 1_000:.3f}"
            address = drop_id(name) if random.random() < 0.2 else name
            subject = f"$mq9.AI.MAILBOX.MSG.{address}.{PRIORITIES[rank]}"
            self.world.ask(
                self.pick(), "send", subject, payload, headers or None, silent=random.random() < 0.2,
                name=name, token=self.tokens, rank=rank, ttl=ttl, size=len(payload), id=msg_id, key=key, delay_ms=delay_ms,
            )  # fmt: skip

    def create(self) -> None:
        self._create(
            self.random.choice(NAMES), ttl=self.random.choice((None, 0, 1, 5, 60)), renew=self.random.random() < 0.3
        )

    def _create(self, name: str, *, ttl: int | None, renew: bool) -> None:
        body: dict[str, Any] = {"name": name, "renew": renew, "public": is_public(name)}
        if ttl is not None:
            body["ttl"] = ttl
        self.world.ask(
            self.admin, "create", "$mq9.AI.MAILBOX.CREATE", json.dumps(body).encode(), name=name, ttl=ttl, renew=renew
        )

    def remove(self) -> None:
        name = self.random.choice(NAMES)
        self.world.ask(self.admin, "remove", f"$mq9.AI.MAILBOX.REMOVE.{name}", name=name)

    def delete(self) -> None:
        boxes = list(self.world.model.boxes.values())
        if not boxes:
            return
        box = self.random.choice(boxes)
        for _ in range(self.random.randint(1, 4)):
            msg_id = self.random.choice([*list(box.letters)[:12], 999_999])
            self.world.ask(
                self.admin, "delete", f"$mq9.AI.MAILBOX.DELETE.{box.name}.{msg_id}", name=box.name, msg_id=msg_id
            )

    def receive(self) -> None:
        rank = self.random.choice((None, None, None, 0, 3))
        level, mask = (
            self.random.choice((("", 31), (".*", 31))) if rank is None else (f".{PRIORITIES[rank]}", 1 << rank)
        )
        if len(self.subscriptions()) < 12:
            self.world.subscribe(self.pick(), self.random.choice(NAMES), level, mask)

    def join(self) -> None:
        rank = self.random.choice((None, None, None, 0, 3))
        level, mask = ("", 31) if rank is None else (f".{PRIORITIES[rank]}", 1 << rank)
        if len(self.subscriptions()) < 12:
            self.world.subscribe(self.pick(), self.random.choice(NAMES), level, mask, self.random.choice(GROUPS))

    def fetch(self) -> None:
        random = self.random
        name, group = random.choice((*NAMES, "ada")), random.choice((*GROUPS, *GROUPS, None))
        limit, wait = random.choice((1, 1, 3, 1000)), random.choice((0, 0, 20, 500, WAIT_MAX_MS))
        lease = random.choice(self.lease_ms)
        deliver = random.choice(("earliest", "earliest", "earliest", "latest", "from_id", "from_time"))
        force = random.random() < 0.03
        from_id = random.randint(1, 60)
        from_time = (self.world.now - random.choice((0, 1, 300, 2_000, 60_000))) / 1_000
        body = {
            "group_name": group, "deliver": deliver, "from_id": from_id, "force_deliver": force, "lease_ms": lease,
            "from_time": from_time,
            "config": {"num_msgs": limit, "max_wait_ms": wait},
        }  # fmt: skip
        self._fetch(self.pick(), name, body)

    def _fetch(self, client: Client, name: str, body: dict[str, Any]) -> Asked:
        return self.world.ask(
            client, "lease", f"$mq9.AI.MSG.FETCH.{name}", json.dumps(body).encode(), name=name, group=body["group_name"],
            limit=body["config"]["num_msgs"], lease_ms=body["lease_ms"], deliver=body["deliver"],
            from_id=body["from_id"], from_time=body["from_time"], force=body["force_deliver"],
        )  # fmt: skip

    def acknowledge(self) -> None:
        random = self.random
        gatherings = [each for each in self.world.model.groups.gatherings.values() if each.works and not each.box.over]
        if not gatherings:
            return
        gathering = random.choice(gatherings)
        leased = [msg_id for msg_id, work in gathering.works.items() if work.lease is not None]
        msg_ids = leased if leased and random.random() < 0.9 else list(gathering.works)
        msg_ids = random.sample(msg_ids, min(len(msg_ids), random.choice((1, 1, 2, 5))))
        lease = gathering.works[msg_ids[0]].lease
        client = lease.client if lease is not None and random.random() < 0.8 else self.pick()
        if client not in self.world.clients:
            client = self.pick()
        work = gathering.works[msg_ids[0]]
        # A single msg_id means those before it in the reply too, so only who has got the reply may say it.
        single = random.random() < 0.5 and lease is not None and client is lease.client and lease.fetch.what == "lease"
        details: dict[str, Any] = {
            "op": random.choice(("ack", "ack", "ack", "nack", "nack", "extend", "dead", "revive")),
            "delay_ms": random.choice((0, 0, 10, 700)),
            "lease_ms": random.choice(self.lease_ms),
            "attempt": work.least if len(msg_ids) == 1 and random.random() < 0.3 else None,
        }
        body = {**details, "group_name": gathering.name, **({"msg_id": msg_ids[0]} if single else {"msg_ids": msg_ids})}
        self.world.ask(
            client, "ack", f"$mq9.AI.MSG.ACK.{gathering.box.name}", json.dumps(body).encode(), name=gathering.box.name,
            group=gathering.name, msg_id=msg_ids[0] if single else None, msg_ids=msg_ids, **details,
        )  # fmt: skip

    def ask_what_became_of_one(self) -> None:
        name = self.random.choice((*NAMES, "ada"))
        known = [letter.msg_id for letter in self.world.model.letters.values() if letter.msg_id]
        box = self.world.model.boxes.get(name)
        here = list(box.letters) if box is not None else []
        for _ in range(self.random.randint(1, 3)):
            msg_id = self.random.choice([*(here or known)[-20:], *known[-3:], 999_999])
            address = drop_id(name) if self.random.random() < 0.5 else name
            self.world.ask(self.pick(), "status", f"$mq9.AI.MSG.STATUS.{address}.{msg_id}", name=name, msg_id=msg_id)

    def misuse_a_drop_id(self) -> None:
        address = drop_id(self.random.choice(NAMES))
        subject = self.random.choice(
            (
                "MAILBOX.LIST.{}",
                "MAILBOX.DELETE.{}.1",
                "MAILBOX.REMOVE.{}",
                "MSG.FETCH.{}",
                "MSG.ACK.{}",
                "MSG.QUERY.{}",
            )
        )
        body = b'{"group_name": "workers", "msg_id": 1}'
        self.world.ask(self.pick(), "forbidden", f"$mq9.AI.{subject.format(address)}", body)

    def list_public(self) -> None:
        details: dict[str, Any] = {
            "limit": self.random.choice((1, 100)), "after": self.random.choice(("", "", "bob")),
            "prefix": self.random.choice(("", "", "b", "cy.")),
        }  # fmt: skip
        self.world.ask(self.pick(), "public", "$mq9.AI.PUBLIC.LIST", json.dumps(details).encode(), **details)

    def watches(self) -> list[Watch]:
        """Those that are there."""
        return [
            each for client in self.world.clients for each in client.watches.values() if each.begun and not each.ended
        ]

    def watch(self) -> None:
        if len(self.watches()) < 6:
            self.world.watch(self.pick(), self.random.choice((None, *NAMES)))

    def watch_no_more(self) -> None:
        if watches := self.watches():
            self.world.unwatch(self.random.choice(watches))

    def subscriptions(self) -> list[Subscription]:
        """Those that are there."""
        return [each for each in self.world.model.subscriptions if not each.ended and not each.client.leaving]

    def end_receiving(self) -> None:
        if subscriptions := self.subscriptions():
            self.world.unsubscribe(self.random.choice(subscriptions))

    def list_messages(self) -> None:
        name = self.random.choice(NAMES)
        body = json.dumps({"limit": self.random.choice((3, 1000))}).encode()
        self.world.ask(self.pick(), "list", f"$mq9.AI.MAILBOX.LIST.{name}", body, name=name)

    def become_slow(self) -> None:
        client = self.pick()
        client.slow = True
        self.world.note(f"{client.number} reads slowly")

    def read_some(self) -> None:
        client = self.pick()
        if self.random.random() < 0.4:
            client.slow = False
        size = self.random.choice((100, 3_000, 20_000)) if client.slow else 1 << 30
        self.world.note(f"{client.number} reads {size if client.slow else 'everything'}")
        client.read(size)

    def come(self) -> Client:
        if len(self.world.clients) < 8:
            self.world.note(f"{self.world.connections + 1} connects")
            self.world.connect()
        return self.world.clients[-1]

    def go(self) -> None:
        self.world.leave(self.pick(), politely=self.random.random() < 0.5)

    # what the clock and the disk do

    def time_passes(self) -> None:
        milliseconds = self.random.choice((1, 1, 2, 3, 5, 10, 30, 100, 400, 1_000))
        self.world.note(f"{milliseconds} ms pass")
        self.world.loop.pass_time(milliseconds)

    def time_jumps(self) -> None:
        milliseconds = self.random.choice((50, 1_000, 5_000, 61_000))
        self.world.note(f"{milliseconds} ms are slept through")
        self.world.loop.pass_time(milliseconds, asleep=True)
        self.world.model.last_trouble += milliseconds  # nobody could try whether the disk works again

    def forget_blocks(self) -> None:
        cache = self.world.office.delivery.cache
        for number in list(self.world.durable.blocks):
            if self.random.random() < 0.6:
                cache.discard(number)
        self.world.note("blocks leave the memory")

    def begin_trouble(self) -> None:
        trouble = self.world.trouble
        what = self.random.choice(("fails", "full", "slow", "reads"))
        trouble.fails = what == "fails"
        trouble.full = what == "full"
        trouble.reads_fail = what == "reads"
        trouble.slow_ms = 300 if what == "slow" else self.slow_ms
        self.world.note(f"trouble: {what}")

    def end_trouble(self) -> None:
        trouble = self.world.trouble
        trouble.fails = trouble.full = trouble.reads_fail = False
        trouble.slow_ms = self.slow_ms
        self.world.note("no trouble")

    def crash(self) -> None:
        self.world.crash(
            self.random.choice((0, 100, 2_000)),
            survives=self.random.random() < 0.5,
            damages=self.random.random() < self.damaging,
        )
        self.admin = self.world.connect()

    def restart(self) -> None:
        self.end_trouble()
        self.world.restart(self.random.choice((0, 100, 2_000)))
        self.admin = self.world.connect()

    # what must hold

    def calm(self) -> None:
        """Let everything come to rest, and see that it is as it must be."""
        world = self.world
        world.note("calm")
        self.end_trouble()
        for client in list(world.clients):
            client.slow = False
            client.read(1 << 30)
        world.rest()
        for subscription in world.model.subscriptions:
            world.model.all_given(subscription, world.now)
        for watch in self.watches():
            watch.check(world.model, world.now)
        world.model.groups.at_rest(world.now)
        waiting = [each for client in world.clients for each in client.waiting.values()]
        unanswered = [each.what for each in waiting if each.what != "lease" or each.at + WAIT_MAX_MS < world.now - 100]
        if unanswered or world.model.pending:
            raise ViolationError(f"never answered: {unanswered} {[each.what for each in world.model.pending]}")
        world.check_counters()

    def drain_groups(self) -> None:
        """When no lease is running any more, a worker gets everything that is not done."""
        world = self.world
        for subscription in self.subscriptions():
            if subscription.group is not None:
                world.unsubscribe(subscription)
        world.loop.run()
        world.loop.pass_time(6_000)  # longer than any FETCH waits
        world.loop.pass_time(40_000, asleep=True)
        world.rest()
        client = world.connect()
        for gathering in list(world.model.groups.gatherings.values()):
            if not gathering.box.live(world.now):
                continue
            missing = {letter.msg_id: letter for letter in world.model.groups.must_be_given(gathering, world.now)}
            for _ in range(1_000):
                asked = self._fetch(client, gathering.box.name, {
                    "group_name": gathering.name, "deliver": "earliest", "from_id": 1, "from_time": 0, "force_deliver": False,
                    "lease_ms": 80_000_000, "config": {"num_msgs": 100, "max_wait_ms": 0},
                })  # fmt: skip
                world.loop.run()
                while not asked.answered and world.loop.now < BEGINNING_MS + 1_000_000_000:
                    world.loop.pass_time(1)
                for msg_id in asked.details["listed"]:
                    missing.pop(msg_id, None)
                if not asked.details["listed"]:
                    break
            left = [str(letter) for letter in missing.values() if letter.live(world.now)]
            if left:
                raise ViolationError(f"group {gathering.name} of {gathering.box.name} has lost {left}")

    def finish(self) -> None:
        """Let everything end."""
        world = self.world
        self.drain_groups()
        for name in NAMES:
            if self.random.random() < 0.5:
                self._create(name, ttl=10, renew=True)
            else:
                world.ask(self.admin, "remove", f"$mq9.AI.MAILBOX.REMOVE.{name}", name=name)
        world.loop.run()
        world.loop.pass_time(3_000)
        world.loop.pass_time(LONG_MS, asleep=True)
        world.rest()
        world.check_counters()
        world.check_empty()


def run(seed: int, steps: int = STEPS) -> Simulation:
    """Run one seed. Raises SeedFailedError, which says how to run it again."""
    with silence():
        simulation = Simulation(seed, steps)
        try:
            simulation.run()
        except Exception as error:
            log = "\n".join(simulation.world.log)
            what = str(error) if isinstance(error, ViolationError) else repr(error)
            again = f"python -m tests.simulation --from {seed} --seeds 1"
            raise SeedFailedError(f"seed {seed}: {what}\n{log}\nagain: {again}") from error
    return simulation
