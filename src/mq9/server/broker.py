"""A broker: the store, the mailboxes, the sessions and the listeners put together, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import platform
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mq9.mailboxes.format import MARKS_KEY, DamagedError
from mq9.mailboxes.loading import Loading
from mq9.mailboxes.mailbox import Mailbox
from mq9.mailboxes.office import PostOffice
from mq9.mailboxes.owner import Owner
from mq9.server.access import Access
from mq9.server.api import Api
from mq9.server.blockreader import BlockReader
from mq9.server.clock import CLOCK_KEY, SteadyClock, boot_id
from mq9.server.committer import Committer
from mq9.server.config import Config, ConfigError
from mq9.server.fetching import Fetcher
from mq9.server.http import HttpServer
from mq9.server.lameduck import LameDuck
from mq9.server.leasing import Leasing
from mq9.server.mail import MailHub, MailSession
from mq9.server.metrics import Metrics
from mq9.server.monitoring import Monitor
from mq9.server.process import connections_max
from mq9.server.quiet import Quiet
from mq9.server.reloading import reload
from mq9.server.rewriter import Rewriter
from mq9.server.session import Session
from mq9.server.tls import Tls, context_of
from mq9.server.users import Users
from mq9.store.contract import Store, Table
from mq9.store.disk_engine import DiskStore
from mq9.store.memory_engine import MemoryStore
from mq9.version import VERSION

log = logging.getLogger("mq9")

# What INFO says of the version: clients compare it to learn which parts of the NATS protocol a server speaks (headers,
# no responders with the subject), so it is the nats-server release whose core protocol this broker follows.
NATS_VERSION = "2.12.0"
ALIVE_CHECK_S = 1.0
# Clients looked at in one slice.
ALIVE_SLICE = 256
STOP_TIMEOUT_S = 5.0

_Item = TypeVar("_Item")


class Protocol(MailSession, asyncio.BufferedProtocol):
    """A session as the event loop knows it."""

    __slots__ = ()


class Server:
    """One broker on the running event loop.

    Arguments:
        config: see `Config`.
        clock: gives Unix ms; for tests, which set the time instead of waiting for it. By default a SteadyClock.
        store: the engine; by default the one that `config` asks for.
    """

    # Timers fired in one slice.
    tick_budget = 4_096

    def __init__(self, config: Config, clock: Callable[[], int] | None = None, store: Store | None = None) -> None:
        self.config = config
        self.port = config.port
        self._steady: SteadyClock | None = None
        if clock is None:
            clock = self._steady = SteadyClock(boot_id())
        self.now = clock
        self._id = "N" + secrets.token_hex(28).upper()[:55]
        self.store = store or (MemoryStore() if config.memory else DiskStore(config.data_dir, config.max_store))
        self.http: HttpServer | None = None
        self.tls: Tls | None = None
        # Set when the broker cannot go on because of an error of its own: whoever runs it should end it.
        self.failed = asyncio.Event()
        # Set when all clients have been sent off after `leave`.
        self.left = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._timers: dict[str, asyncio.Handle] = {}

    async def start(self) -> None:
        """Open the store, take over what it holds, and listen.

        Raises ConfigError when it cannot listen, StoreError when the data cannot be opened; nothing is left open then.
        """
        self._loop = asyncio.get_running_loop()
        self._quiet = Quiet(log, self._loop.time)
        listener = self._bind()
        try:
            self._address, port = listener.getsockname()[:2]
            # Before anything is touched: a configuration that cannot be used is to change nothing.
            self.refuse_strangers(self.config, Users(self.config, Owner))
            context = context_of(self.config)
            await self.store.open()
            continued = await self._continue_clock()
            self._assemble(port, context)
            self.limit_connections(self.config.max_connections)
            await self._load()
            if self.config.http_port is not None:
                self.http = HttpServer(
                    self.config.host,
                    self.config.http_port,
                    self.metrics,
                    Monitor(self, self._loop),
                    lambda: self.office.refusal is None,
                    self.config.http_token,
                )
        except BaseException:
            listener.close()
            await self.store.close()
            raise
        new_protocol = self._new_session if self.tls is None else self.tls.new_protocol
        self._server = await self._loop.create_server(new_protocol, sock=listener, backlog=1024)
        self.office.on_sooner(self._plan_tick_soon)
        log.addFilter(self._quiet)
        if self._steady is not None and not continued:
            self.committer.put_row(Table.META, CLOCK_KEY, self._steady.pack())
        # What the broker before had not come to: nothing else may happen for long.
        self.rewriter.wake()
        self._check_alive()

    def leave(self) -> None:
        """Stop listening and send the clients off little by little (lame duck mode); `left` says when to `stop`."""
        if self._server is None or self._leaving is not None:
            return
        self._server.close()
        duck = LameDuck(self.hub, self.office, self.config.lame_duck_grace_period, self.config.lame_duck_duration)
        self._leaving = self._loop.create_task(duck.leave())
        self._leaving.add_done_callback(lambda _task: self.left.set())

    async def stop(self) -> None:
        """Stop listening, make everything that was asked for durable, tell who asked, and end every connection."""
        if self._server is None:
            return
        self._server.close()
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.wait([self._leaving])
        self.office.on_sooner(lambda: None)
        for timer in self._timers.values():
            timer.cancel()
        if self.tls is not None:
            await self.tls.stop()
        await self.access.stop()
        for session in list(self.hub.sessions.values()):
            session.pause_reading()
        await self.rewriter.stop()
        await self.fetcher.stop()
        await self.leasing.stop()
        await self.committer.drain()
        self.hub.flush()
        for session in list(self.hub.sessions.values()):
            session.close("")
        await self._wait_for_sessions()
        await self.committer.drain()  # what has been handed over since then
        await self.block_reader.stop()
        await self.store.close()
        self.office.close()
        self.hub.router.close()
        if self.http is not None:
            await asyncio.to_thread(self.http.stop)
        await self._server.wait_closed()
        self._server = None
        log.removeFilter(self._quiet)

    async def reload(self, config: Config) -> None:
        """Go by another configuration from now on, as far as that is possible without a restart (mq9.server.reloading).

        Raises ConfigError when it cannot be used; then nothing has changed.
        """
        await reload(self, config)

    @property
    def url(self) -> str:
        """Where a client connects to."""
        return f"{'nats' if self.tls is None else 'tls'}://{_address(self.config.host, self.port)}"

    @property
    def announcement(self) -> str:
        """The line that says what listens where."""
        where = "keeps nothing (memory)" if self.config.memory else f"data in {Path(self.config.data_dir).resolve()}"
        http = "" if self.http is None else f", http://{_address(self.config.host, self.http.port)}"
        return f"mq9 {VERSION} listens on {self.url}{http}, {where}"

    def tick(self) -> bool:
        """Let the time that has come bring about what it does; returns whether more is left for another slice."""
        more = self.office.tick(self.now(), self.tick_budget)
        self._deliver()
        self.rewriter.wake()
        return more

    # putting it together

    def _assemble(self, port: int, context: ssl.SSLContext | None) -> None:
        self.port = port
        self.metrics = Metrics(self)
        self.office = PostOffice(
            self.now(),
            self._has_work,
            self._public_event,
            self._wants_run,
            self.store.region,
            self.store.region_bytes,
        )
        self.adopt_capacity(self.config)
        self.committer = Committer(self.office, self.store, self.now, self._settled, self._refused, self.failed.set)
        self.block_reader = BlockReader(self.store, self.office.delivery, self._deliver)
        self.rewriter = Rewriter(self.office, self.block_reader, self.now)
        self.fetcher = Fetcher(self.block_reader, self.office.groups, self.config, self.now)
        self.leasing = Leasing(
            self.office,
            self.block_reader,
            self.config,
            self.now,
            lambda client_id: client_id in self.hub.sessions,
        )
        self.api = Api(self.office, self.config.default_ttl, self.fetcher, self.leasing, self.now)
        self.users = Users(self.config, self.office.owner_of)
        self.access = Access(self._loop, self.users, self.config, self.office)
        self.hub = MailHub(
            self._loop,
            self.config,
            self.describe(self.users, context),
            self.access,
            self.office,
            self.api,
            self.now,
            self.block_reader.want,
            self.failed.set,
        )
        self.tls = None if context is None else Tls(self.hub, self._new_session, context, self.config)

    def _new_session(self) -> Protocol:
        return Protocol(self.hub)

    def refuse_strangers(self, config: Config, users: Users) -> None:
        """Raise ConfigError when others than this machine reach the broker, and need to show nothing for it."""
        if is_loopback(self._address):
            return
        if config.insecure:
            if not users.required:
                log.warning("insecure: whoever reaches %s may do everything", config.host)
            return
        if not users.required:
            raise ConfigError(
                f"whoever reaches {config.host} may read every mailbox whose name they know: give the broker users or a"
                " token (docs/configuration.md), or say insecure (--insecure) if that is what you want"
            )
        if config.http_port is not None and not config.http_token:
            raise ConfigError(
                f"whoever reaches {config.host} may read whom it serves (/connz, /metrics): set http_token, or say insecure (--insecure)"
            )

    async def _load(self) -> None:
        """Take over everything that is stored."""
        loading, now = Loading(self.office), self.now()
        await self._load_rows(Table.META, lambda key, value: loading.load_marks(value) if key == MARKS_KEY else None)
        await self._load_rows(Table.MAILBOXES, lambda key, value: loading.load_mailbox(key, value, now))
        await self._load_rows(Table.GROUPS, loading.load_group)
        await self._load_rows(Table.DEAD, loading.load_dead)
        damaged: set[int] = set()
        async for blocks in _ahead(self.store.scan_blocks()):
            for number, data in blocks:
                try:
                    loading.load_block(number, data, now)
                except DamagedError as error:
                    log.error("block %d %s: its messages are lost", number, error)  # noqa: TRY400
                    damaged.add(number)
        self.metrics.damaged_blocks = len(damaged)
        loading.finish_loading(damaged, self.now())

    async def _load_rows(self, table: Table, load: Callable[[bytes, bytes], None]) -> None:
        """Take over the rows of a table; a damaged one is reported by its number and costs only itself."""
        async for rows in self.store.scan_rows(table):
            for key, value in rows:
                try:
                    load(key, value)
                except DamagedError as error:
                    log.error("row %d of table %s %s: it is lost", int.from_bytes(key), table.value, error)  # noqa: TRY400
                    self.metrics.damaged_rows += 1

    def _has_work(self) -> None:
        self.committer.wake()

    def _public_event(self, event: str, mailbox: Mailbox) -> None:
        self.api.public_feeds.tell(event, mailbox)

    def _wants_run(self) -> None:
        self.hub.want_run()

    def _deliver(self) -> None:
        self.hub.run()

    def _settled(self, seconds: float) -> None:
        self.metrics.commit_seconds.observe(seconds)
        self.hub.relieve()
        self._deliver()
        self.rewriter.wake()

    def _refused(self) -> None:
        # Senders that were made to wait for the disk wait for nothing now.
        self.hub.relieve()

    def adopt_capacity(self, config: Config) -> None:
        """Hold at most what `config` says from now on; what is there stays."""
        capacity = self.office.capacity
        capacity.mailboxes_max = config.max_mailboxes
        capacity.messages_max = config.max_messages
        capacity.mailbox_messages_max = config.max_mailbox_messages
        capacity.mailbox_bytes_max = config.max_mailbox_bytes
        capacity.message_ids_max = config.max_message_ids

    def limit_connections(self, wanted: int) -> None:
        """Take so many clients at a time, or no more than there may be open files beside the store's."""
        possible = connections_max(wanted)
        if possible < wanted != Config().max_connections:
            log.warning(
                "at most %d clients at a time, not %d: this process may have no more open files", possible, wanted
            )
        self.hub.connections_max = possible

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.config.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.config.host, self.config.port))
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"cannot listen on {self.config.host}:{self.config.port}: {error.strerror or error}"
            ) from None
        return listener

    def describe(self, users: Users, context: ssl.SSLContext | None) -> dict[str, Any]:
        """What INFO says of the broker to everybody."""
        return {
            "server_id": self._id,
            "server_name": self.config.server_name or self._id,
            "version": NATS_VERSION,
            "mq9_version": VERSION,
            "proto": 1,
            "go": f"python{platform.python_version()}",
            "host": self.config.host,
            "port": self.port,
            "headers": True,
            "max_payload": self.config.max_payload,
            "auth_required": users.required and users.no_auth_user is None,
            "tls_required": context is not None,
            "tls_verify": context is not None and context.verify_mode is ssl.CERT_REQUIRED,
            "tls_available": False,
        }

    # time

    async def _continue_clock(self) -> bool:
        """Go on with the clock of the broker before this one, if it ran since the machine was booted; returns whether it did."""
        continued = False
        async for rows in self.store.scan_rows(Table.META):
            for key, value in rows:
                if key == CLOCK_KEY and self._steady is not None:
                    try:
                        continued = self._steady.take_up(value)
                    except DamagedError as error:
                        log.error("the row of the clock %s: it is lost", error)  # noqa: TRY400
        return continued

    def _follow_clock(self) -> None:
        """See whether somebody has set the system's clock. What has a duration lasts as long all the same."""
        if self._steady is None or not (set_by_ms := self._steady.follow()):
            return
        log.warning(
            "the system's clock was set %s by %.1f s: no lease or delay ends sooner or later for that;"
            " times to live follow by a second in a hundred",
            "forward" if set_by_ms > 0 else "back",
            abs(set_by_ms) / 1_000,
        )
        self.committer.put_row(Table.META, CLOCK_KEY, self._steady.pack())

    def _check_alive(self) -> None:
        self._follow_clock()
        self._quiet.tell()
        # A sleep is not as long as it was to be.
        self._plan_tick()
        self._check_some_alive(iter(list(self.hub.sessions.values())))

    def _check_some_alive(self, rest: Iterator[Session]) -> None:
        """Look at the clients, a slice at a time: each may have to be sent a PING."""
        now = self._loop.time()
        checked = 0
        for session in islice(rest, ALIVE_SLICE):
            session.check_alive(now, self.config.ping_interval, self.config.ping_max)
            checked += 1
        if checked == ALIVE_SLICE:
            self._timers["alive"] = self._loop.call_soon(self._check_some_alive, rest)
        else:
            self._timers["alive"] = self._loop.call_later(ALIVE_CHECK_S, self._check_alive)

    def _tick(self) -> None:
        try:
            self.tick()
        except Exception:
            log.exception("an error of the broker's own while time passed")
            self.failed.set()
        self._plan_tick()

    def _plan_tick(self) -> None:
        """Sleep until there is something to do: an idle broker has no other reason to wake up."""
        if (planned := self._timers.pop("tick", None)) is not None:
            planned.cancel()
        due = self.office.next_due()
        if due is not None:
            wait_ms = due - self.now()
            self._timers["tick"] = (
                self._loop.call_later(wait_ms / 1_000, self._tick) if wait_ms > 0 else self._loop.call_soon(self._tick)
            )

    def _plan_tick_soon(self) -> None:
        self._timers["plan"] = self._loop.call_soon(self._plan_tick)

    async def _wait_for_sessions(self) -> None:
        """Give clients a while to take what was written for them; who does not is cut off."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.hub.all_gone.wait(), STOP_TIMEOUT_S)
        for session in list(self.hub.sessions.values()):
            session.abort("")
        await asyncio.sleep(0)


async def _ahead(items: AsyncIterator[_Item]) -> AsyncIterator[_Item]:
    """The same items; while the caller looks at one, the next is read."""
    following = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await following) is not None:
            following = asyncio.ensure_future(anext(items, None))
            await asyncio.sleep(0)  # so that it has begun when the caller takes its time
            yield item
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an IP address of its own."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
