"""One client's NATS session.

What every operation of the NATS client protocol does to this client: CONNECT and its options, subscriptions, publishing to core
subjects, PING, and the fate of wrong input as nats-server deals it (docs/protocol.md §1). Subjects of the broker's own are handed
to the subclass in mail.pyx.
"""

import asyncio
import json
import logging
import time
from bisect import insort
from collections import deque

from libc.string cimport memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from mq9.native.bytemap cimport is_named
from mq9.native.memory cimport write_bytes
from mq9.server.addresses import Addresses
from mq9.server.permissions cimport Patterns
from mq9.server.user cimport Rate, User
from mq9.routing.subjects cimport is_literal, is_subscription_subject, subject_matches
from mq9.wire.encode cimport message_head, message_head_max
from mq9.wire.frames cimport (
    CONTROL_LINE_TOO_LONG, MALFORMED_ARGUMENTS, PAYLOAD_TOO_LARGE, PEER_ERROR, UNKNOWN_OPERATION, Violation,
)

log = logging.getLogger("mq9")

cdef enum:
    ROOT_SIZE = 5
    # Refusals of one client that are logged.
    NOTES_MAX = 10
    # More wildcard subscriptions than this and the router is asked which of them match a reply.
    WILDCARDS_SCANNED_MAX = 32
    # Reply subjects that are remembered for a client that may answer them.
    ASKED_MAX = 4096

cdef double STALL_S = 0.005
# How long after CONNECT a client's round trip is measured, and how often after that; as nats-server does.
cdef double FIRST_RTT_S = 2.0
cdef double RTT_INTERVAL_S = 3600.0

# What a client is told and whether it may stay is nats-server's choice: clients depend on the words.
_VIOLATIONS = {
    UNKNOWN_OPERATION: ("unknown operation", "Unknown Protocol Operation"),
    CONTROL_LINE_TOO_LONG: ("control line too long", "maximum control line exceeded"),
    PAYLOAD_TOO_LARGE: ("payload too large", "Maximum Payload Violation"),
    MALFORMED_ARGUMENTS: ("malformed arguments", None),
    PEER_ERROR: ("client sent -ERR", None),
}
_CLIENT_TEXTS = ("lang", "version", "name")
_CREDENTIALS = ("user", "pass", "auth_token", "nkey", "sig", "jwt")
_FLAGS = {"verbose": True, "pedantic": True, "echo": True, "headers": False, "no_responders": False}


cdef class Hub(Shared):
    """What all sessions of one broker share.

    Arguments:
        loop: the event loop they live on.
        config: the broker's limits (mq9.server.config.Config).
        info: what INFO says to every client, as a dict; client_id and client_ip are added for each.
        access: mq9.server.access.Access, who decides which client may come in.
    """

    def __init__(self, loop, config, dict info, access):
        Shared.__init__(self, loop, config.max_control_line, config.max_payload, config.max_pending)
        self.router = Router()
        self.info = info
        self.access = access
        self.sessions = {}
        self.all_gone = asyncio.Event()
        self.all_gone.set()
        self.connections_max = config.max_connections
        self.addresses = Addresses()
        self.adopt(config)
        self.subject_max = config.max_subject
        self.gone = deque(maxlen=0 if config.http_port is None else config.max_closed_clients)

    def adopt(self, config):
        """Go by the limits of `config` that may change while the broker runs; `connections_max` is the broker's to set."""
        self.address_connections_max = config.max_address_connections
        self.subscriptions_max = config.max_subscriptions
        self.rate, self.create_rate = config.max_rate, config.max_create_rate
        for session in self.sessions.values():
            session.limit_rates()


cdef double _monotonic() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec / 1e9


cdef class ClientState:
    """What is known of a client at one moment, or of one that has left.

    Attributes:
        client_id, address, port, client: who it is; `client` is what CONNECT said of its lang, version and name.
        user: the name of its user, or empty.
        tls_version, tls_cipher: of its connection, or empty.
        start_s, last_active_s, stop_s: Unix time; `stop_s` is 0 while it is there.
        reason: why it left, or empty when it hung up itself.
        rtt_s: seconds there and back; 0 when not measured yet.
        pending: bytes that wait to be written to it.
        messages_in, payload_in: what it published, in messages and in bytes of headers and payload.
        messages_out, payload_out: what it was sent.
        subscriptions: how many it has.
    """


cdef class Interest(Subscription):
    """A core NATS subscription of a session."""

    def describe(self):
        """Its subject, queue group or None, sid, how many messages it was given, and after how many it ends (0: never)."""
        return self.subject, self.queue, self.sid, self.delivered, self.maximum

    cdef bint deliver(self, Publish* frame) except -1:
        cdef Session session = self.session
        if session.closed or (not session.echo and session.hub.publisher is session):
            return False
        if self.hidden is not None and self.hidden.match(frame.subject, frame.subject_size):
            return False
        if frame.reply != NULL and session._asked is not None:
            session.note_asked(frame.reply[:frame.reply_size])
        self.write(
            frame.subject, frame.subject_size, frame.reply, frame.reply_size,
            frame.header_size, frame.data, frame.size,
        )
        return True

    cdef int write(self, const char* subject, Py_ssize_t subject_size, const char* reply, Py_ssize_t reply_size,
                   Py_ssize_t header_size, const char* data, Py_ssize_t size) except -1:
        """Write one message; the subscription ends with the last one that its client asked for."""
        cdef Session session = self.session
        cdef char* start
        cdef char* at
        if header_size >= 0 and not session.headers:
            data += header_size
            size -= header_size
            header_size = 0
        if header_size == 0:
            header_size = -1  # an empty header block is delivered as a plain MSG
        start = session.reserve(message_head_max(subject_size, len(self.sid), reply_size) + size + 2)
        at = message_head(
            start, subject, subject_size, self.sid, len(self.sid), reply, reply_size, header_size, size
        )
        at = write_bytes(at, data, size)
        at = write_bytes(at, b"\r\n", 2)
        session.commit(at - start)
        if session.backlog > session.hub.stall_at:
            session.hub.congested = True
        session.count_out(size)
        self.delivered += 1
        if self.maximum and self.delivered >= self.maximum:
            session.end_subscription(self.sid, self)
        return 0


def _by_specificity(Interest interest):
    return -interest.specificity


cdef class Session(Connection):
    """One client. `hub` is its broker's."""

    def __init__(self, Hub hub not None):
        Connection.__init__(self, hub)
        self.hub = hub
        self.verbose = self.pedantic = self.echo = True
        self.client_address = ""
        self.nonce = ""
        self.client = {}
        self.subscriptions = {}

    # the connection's life

    def connection_made(self, transport):
        cdef Hub hub = self.hub
        Connection.connection_made(self, transport)
        if not self.client_id:
            self.send(self.introduce(transport))
        self.last_active = hub.loop.time()
        if len(hub.sessions) >= hub.connections_max:
            hub.refused("maximum connections")
            self.close("maximum connections exceeded", b"-ERR 'maximum connections exceeded'\r\n")
            return
        if not hub.addresses.enter(self.client_address, hub.address_connections_max):
            hub.refused("maximum connections of an address")
            self.close("maximum connections exceeded", b"-ERR 'maximum connections exceeded'\r\n")
            return
        hub.sessions[self.client_id] = self
        self.limit_rates()
        hub.all_gone.clear()
        if hub.access.required:
            self.connect_first = True
            self._begin_patience()
        self._flush()

    def introduce(self, transport):
        """Give the client its number, and return the INFO that greets it."""
        cdef Hub hub = self.hub
        peer = transport.get_extra_info("peername")
        self.client_address, self.client_port = peer[:2] if isinstance(peer, tuple) else ("", 0)
        hub._last_client_id += 1
        hub.connections_total += 1
        self.client_id = hub._last_client_id
        self._start_s = time.time()
        self.nonce = hub.access.new_nonce()
        return self._info(nonce=self.nonce) if self.nonce else self._info()

    def connection_lost(self, exception):
        cdef ClientState state
        if self.hub.gone.maxlen:
            state = self.state()
            state.stop_s = time.time()
            state.reason = self.close_reason or ("" if exception is None else "Read Error")
            self.hub.gone.append(state)
        Connection.connection_lost(self, exception)
        self._said = None
        self._end_patience()
        if self.hub.sessions.pop(self.client_id, None) is not None:
            self.hub.addresses.leave(self.client_address)
        if not self.hub.sessions:
            self.hub.all_gone.set()
        self.end_all_subscriptions()
        if self.user is not None:
            self.user.connections -= 1
            self.user = None
        if self.close_reason:
            self._log("client %d (%s) was cut off: %s", self.close_reason)
        if self.hub.publisher is self:
            self.hub.publisher = None

    def state(self):
        """What is known of this client now, as a ClientState."""
        cdef ClientState state = ClientState()
        cdef double now = time.time()
        secured = self.transport.get_extra_info("ssl_object")
        state.client_id = self.client_id
        state.address = self.client_address
        state.port = self.client_port
        state.client = self.client
        state.user = "" if self.user is None else self.user.name
        state.tls_version = state.tls_cipher = state.reason = ""
        if secured is not None:
            state.tls_version = (secured.version() or "").removeprefix("TLSv")
            state.tls_cipher = (secured.cipher() or ("",))[0]
        state.start_s = self._start_s
        # What came since the last look at the clock came just now.
        state.last_active_s = now if self.active else now - max(self.hub.loop.time() - self.last_active, 0)
        state.rtt_s = self._rtt_s
        state.pending = self.output_size + (self.held() if self._transport_holds else 0)
        state.messages_in = self.messages_in
        state.messages_out = self.messages_out
        state.payload_in = self.payload_in
        state.payload_out = self.payload_out
        state.subscriptions = len(self.subscriptions)
        return state

    def all_subscriptions(self):
        """Its subscriptions now, each with a method `describe`, in the order in which they began."""
        return list(self.subscriptions.values())

    def _send_info(self, **more):
        self.send(self._info(**more))

    def _info(self, **more):
        info = dict(self.hub.info, client_id=self.client_id, client_ip=self.client_address, **more)
        return b"INFO %b\r\n" % json.dumps(info, separators=(",", ":")).encode()

    def tell_lame_duck(self):
        """Tell a client that understands it that the server is about to go, so that it looks for another one."""
        if self._takes_info and not self.closed:
            self._send_info(ldm=True)

    def end_all_subscriptions(self):
        """Forget everything that this client subscribed to."""
        for sid, subscription in list(self.subscriptions.items()):
            self.end_subscription(sid, subscription)
        self._route = None

    def check_alive(self, double now, double ping_interval, int ping_max):
        """Ask a silent client whether it is there, and give up on one that did not answer.

        Arguments:
            now: the loop's time in seconds.
            ping_interval: seconds of silence before a PING.
            ping_max: unanswered PINGs that are borne.
        """
        if self.closed:
            return
        if self._connected and now >= self._rtt_due_s:
            # Its answer measures the round trip. It counts for nothing else: a client that is silent is asked again below.
            self._rtt_due_s = now + RTT_INTERVAL_S
            self._rtt_pinged_s = _monotonic()
            self.send(b"PING\r\n")
        if self.active or self.waits:
            self.active = False
            self.last_active = now
            return
        if now - self.last_active < ping_interval * (self.pings_out + 1):
            return
        if self.pings_out >= ping_max:
            self.hub.refused("stale connection")
            self.close("Stale Connection", b"-ERR 'Stale Connection'\r\n")
            return
        self.pings_out += 1
        self.send(b"PING\r\n")

    # frames

    cdef int publish(self, Publish* frame) except -1:
        self.hub.messages_in += 1
        self.hub.payload_in += frame.size
        self.messages_in += 1
        self.payload_in += frame.size
        if frame.header_size >= 0 and not self.headers:
            self.hub.refused("headers not enabled")
            self.close("headers not enabled")
            return 0
        if self.pedantic and not (
            is_subscription_subject(frame.subject, frame.subject_size) and is_literal(frame.subject, frame.subject_size)
        ):
            self.error("Invalid Publish Subject")
        if self._rate is not None and not self._rate.spend():
            self._wait(self._rate, "max_rate")
        if self.user is not None:
            if self.user.rate > 0.0 and not self.user.spend():
                self._wait(self.user, "users.max_rate")
            if not self.may_publish(frame.subject, frame.subject_size):
                return self.forbid_publish(frame)
        if self.verbose:
            self.send(b"+OK\r\n")
        if frame.subject_size >= ROOT_SIZE and memcmp(frame.subject, b"$mq9.", ROOT_SIZE) == 0:
            return self.publish_to_broker(frame)
        return self.deliver_core(frame)

    cdef int count_out(self, Py_ssize_t size) except -1:
        """A message of `size` bytes, headers included, was written to this client."""
        self.hub.messages_out += 1
        self.hub.payload_out += size
        self.messages_out += 1
        self.payload_out += size
        return 0

    cdef int deliver_core(self, Publish* frame) except -1:
        """Deliver a publish to whoever subscribed, and say so when a request reached nobody."""
        cdef Hub hub = self.hub
        cdef Router router = hub.router
        cdef Route route = self._route
        cdef int delivered
        if frame.subject_size > hub.subject_max:
            hub.reach("max_subject")
            return self.refuse_publish(frame.subject, frame.subject_size)
        if (
            route is None or route.generation != router.generation
            or not is_named(route, frame.subject, frame.subject_size)
        ):
            route = self._route = router.route(frame.subject, frame.subject_size)
        hub.publisher = self
        hub.congested = False
        delivered = router.publish(route, frame)
        if delivered == 0 and frame.reply != NULL and self.no_responders:
            self._no_responders(frame)
        elif hub.congested and not self._stalled:
            self._stalled = True
            self.pause_reading()
            hub.loop.call_later(STALL_S, self._end_stall)
        return 0

    def _end_stall(self):
        self._stalled = False
        self.resume_reading()

    cdef int _no_responders(self, Publish* frame) except -1:
        cdef Interest interest = self.own_interest(frame.reply, frame.reply_size)
        cdef bytes block
        if interest is not None:
            block = b"NATS/1.0 503\r\nNats-Subject: %b\r\n\r\n" % frame.subject[:frame.subject_size]
            interest.write(frame.reply, frame.reply_size, NULL, 0, len(block), block, len(block))
        return 0

    cdef int connect(self, bytes options) except -1:
        try:
            said = json.loads(options)
            said = {key: value for key, value in said.items() if value is not None}  # null: as if it were not there
            flags = {key: said.get(key, default) for key, default in _FLAGS.items()}
            texts = {key: said[key] for key in _CLIENT_TEXTS if key in said}
            credentials = {key: said[key] for key in _CREDENTIALS if said.get(key, "") != ""}
            protocol = said.get("protocol", 0)
        except (ValueError, AttributeError, RecursionError):
            self.hub.refused("malformed CONNECT")
            self.close("malformed CONNECT")
            return 0
        if not (
            all(isinstance(flag, bool) for flag in flags.values())
            and all(isinstance(text, str) for text in texts.values())
            and all(isinstance(text, str) for text in credentials.values())
            and isinstance(protocol, int)
        ):
            self.hub.refused("malformed CONNECT")
            self.close("malformed CONNECT")
            return 0
        self._said = flags, texts, protocol, bool(said.get("account") or said.get("new_account"))
        if self.hub.access.required:
            self._begin_patience()
        self.hub.access.admit(self, credentials)
        return 0

    def certificate(self):
        """What the client showed in the TLS handshake, as ssl.SSLSocket.getpeercert gives it, or None."""
        return self.transport.get_extra_info("peercert")

    def admitted(self, User user, bint brought_nothing):
        """The client may come in.

        Arguments:
            user: who it is; None where nobody is anybody in particular.
            brought_nothing: whether it came without credentials.
        """
        flags, texts, protocol, wants_account = self._said
        self._said = None
        self._end_patience()
        self.connect_first = False
        self.brought_nothing = brought_nothing
        if wants_account:
            return self._refuse_connect("Authorization Violation")
        if protocol not in (0, 1):
            return self._refuse_connect("invalid client protocol")
        if flags["no_responders"] and not flags["headers"]:
            return self._refuse_connect("no responders requires headers support")
        if user is not None and user is not self.user and user.is_full():
            return self._refuse_connect("maximum account active connections exceeded")
        self.become(user)
        self.client = texts
        self.verbose = flags["verbose"]
        self.pedantic = flags["pedantic"]
        self.echo = flags["echo"]
        self.headers = flags["headers"]
        self.no_responders = flags["no_responders"]
        self._takes_info = protocol >= 1
        if not self._connected:
            self._connected = True
            self._rtt_due_s = self.hub.loop.time() + FIRST_RTT_S
        if self.verbose:
            self.send(b"+OK\r\n")

    def denied(self):
        """The client is not who it says it is, or not any more: hang up on it."""
        if not self.closed:
            self._refuse_connect("Authorization Violation")

    def become(self, User user):
        """Let the client be `user` (None: nobody in particular) from now on, in the place of who it was.

        What it subscribed to and the user may not ends.
        """
        cdef User former = self.user
        cdef Py_ssize_t subscriptions = len(self.subscriptions)
        if user is former:
            return
        if user is not None:
            user.connections += 1
            user.subscriptions += subscriptions
        if former is not None:
            former.connections -= 1
            former.subscriptions -= subscriptions
        self.user = user
        self._asked = {} if user is not None and user.permissions is not None and user.permissions.allow_responses else None
        for sid, subscription in list(self.subscriptions.items()):
            self.review(sid, subscription)

    def review(self, bytes sid not None, subscription not None):
        """See whether a subscription is still allowed, and end it when it is not, telling the client as nats-server does."""
        cdef Interest interest = <Interest?>subscription
        if self.may_subscribe(interest.subject, interest.queue):
            interest.hidden = self._hidden_from(interest.subject, interest.queue)
        else:
            self.revoke(sid, interest.subject, interest)

    def revoke(self, bytes sid not None, bytes subject not None, subscription not None):
        """End a subscription that is not allowed any more."""
        self.end_subscription(sid, subscription)
        self.note_refusal("subscription", "a subscription that is not allowed any more")
        self.send(b"-ERR 'Permissions Violation for Subscription to \"%b\" (sid \"%b\")'\r\n" % (subject, sid))

    def _refuse_connect(self, str text):
        self.hub.refused(text.lower())
        self.part(text, b"-ERR '%b'\r\n" % text.encode())

    def _begin_patience(self):
        """Give the client a while to say who it is, and to be recognised."""
        if self._patience is None:
            self._patience = self.hub.loop.call_later(self.hub.access.patience_s, self._authentication_timeout)

    def _authentication_timeout(self):
        self._patience = None
        if not self.closed:
            self._refuse_connect("Authentication Timeout")

    def _end_patience(self):
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    cdef bint skip_connect(self) except -1:
        user = self.hub.access.no_auth_user
        if user is None or user.is_full():
            self._refuse_connect("Authorization Violation")
            return False
        self.become(user)
        self._end_patience()
        self.connect_first = False
        self.brought_nothing = True
        return True

    # what the user may do

    cdef bint may_publish(self, const char* subject, Py_ssize_t size) except -1:
        """Whether the client's user may publish to `subject`."""
        cdef User user = self.user
        if user is None or user.permissions is None or user.permissions.may_publish(subject, size):
            return True
        return self._asked is not None and self._may_answer(subject, size)

    def publishes(self, bytes subject not None):
        """As `may_publish`, from Python."""
        return bool(self.may_publish(subject, len(subject)))

    cdef bint may_subscribe(self, bytes subject, bytes queue) except -1:
        """Whether the client's user may subscribe to `subject`."""
        cdef User user = self.user
        return user is None or user.permissions is None or user.permissions.may_subscribe(subject, queue)

    cdef bint _may_answer(self, const char* subject, Py_ssize_t size) except -1:
        """Whether `subject` is where a message that came wants its answer, and one more may be given."""
        cdef bytes reply = subject[:size]
        cdef User user = self.user
        asked = self._asked.get(reply)
        if asked is None:
            return False
        asked[1] += 1
        if self.hub.loop.time() > asked[0] or (user.permissions.responses_max and asked[1] > user.permissions.responses_max):
            del self._asked[reply]
            return False
        return True

    def note_asked(self, bytes reply not None):
        """A message came that wants its answer at `reply`."""
        cdef User user = self.user
        now = self.hub.loop.time()
        if len(self._asked) >= ASKED_MAX:
            self._asked = {reply: asked for reply, asked in self._asked.items() if asked[0] >= now}
            if len(self._asked) >= ASKED_MAX:
                del self._asked[next(iter(self._asked))]
        expire_s = user.permissions.responses_expire_s
        self._asked[reply] = [now + expire_s if expire_s else float("inf"), 0]

    def limit_rates(self):
        """Go by the hub's rates from now on."""
        self._rate = Rate(self.hub.rate) if self.hub.rate else None
        self.creates = Rate(self.hub.create_rate) if self.hub.create_rate else None

    cdef int _wait(self, Rate rate, str limit) except -1:
        """Too many messages were published: take no more of them for a while."""
        if not self.waits:
            wait_s = rate.wait(self.hub.loop.time())
            if wait_s > 0.0:
                self.hub.rate_waits += 1
                self.hub.reach(limit)
                self.hold()
                self.hub.loop.call_later(wait_s, self.go_on)
        return 0

    cdef Patterns _hidden_from(self, bytes subject, bytes queue):
        """What of a subscription's messages the client may not be given, or None."""
        cdef User user = self.user
        if user is None or user.permissions is None:
            return None
        return user.permissions.hidden_from(subject, queue)

    cdef int subscribe(self, bytes subject, bytes queue, bytes sid) except -1:
        if not self.may_subscribe(subject, queue):
            return self.refuse_subscription(subject, queue)
        if sid not in self.subscriptions:
            if len(subject) > self.hub.subject_max:
                self.hub.reach("max_subject")
                return self.error("Invalid Subject")
            if not is_subscription_subject(subject, len(subject)):
                return self.error("Invalid Subject")
            if len(self.subscriptions) >= self.hub.subscriptions_max:
                self.hub.reach("max_subscriptions")
                return self.error("maximum subscriptions exceeded")
            if self.user is not None and 0 < self.user.subscriptions_max <= self.user.subscriptions:
                self.hub.reach("users.max_subscriptions")
                return self.error("maximum subscriptions exceeded")
            if subject.startswith(b"$mq9."):
                if not self.subscribe_to_broker(subject, queue, sid):
                    return 0
            else:
                self.add_interest(subject, queue, sid)
        if self.verbose:
            self.send(b"+OK\r\n")
        return 0

    def add_interest(self, bytes subject not None, bytes queue, bytes sid not None):
        """Subscribe this client to a core NATS subject."""
        cdef Interest interest = Interest(subject, queue, sid)
        interest.session = self
        interest.hidden = self._hidden_from(subject, queue)
        self.keep(sid, interest)
        self.hub.router.insert(interest)
        if queue is None:
            self._remember(interest)

    cdef int keep(self, bytes sid, object subscription) except -1:
        """Note a subscription of this client's."""
        self.subscriptions[sid] = subscription
        self.hub.subscriptions += 1
        if self.user is not None:
            self.user.subscriptions += 1
        return 0

    cdef bint drop(self, bytes sid) except -1:
        """Take back `keep`; false when there was no such subscription."""
        if self.subscriptions.pop(sid, None) is None:
            return False
        self.hub.subscriptions -= 1
        if self.user is not None:
            self.user.subscriptions -= 1
        return True

    cdef int unsubscribe(self, bytes sid, long long maximum) except -1:
        subscription = self.subscriptions.get(sid)
        if subscription is not None:
            self.limit_subscription(sid, subscription, maximum)
        if self.verbose:
            self.send(b"+OK\r\n")
        return 0

    cdef int ping(self) except -1:
        self.send(b"PONG\r\n")
        if self._takes_info and not self._was_told:
            # Not before: the first line after CONNECT and PING is the PONG, or clients take it for a failure.
            self._was_told = True
            self._send_info(connect_info=True, remote_account="$G")
        return 0

    cdef int pong(self) except -1:
        self.pings_out = 0
        if self._rtt_pinged_s:
            self._rtt_s = _monotonic() - self._rtt_pinged_s
            self._rtt_pinged_s = 0
        return 0

    cdef int violate(self, Violation violation) except -1:
        reason, text = _VIOLATIONS[violation]
        self.hub.refused(reason)
        self.close(text or reason, b"" if text is None else b"-ERR '%b'\r\n" % text.encode())
        return 0

    # subjects of the broker's own: the subclass knows them

    cdef int publish_to_broker(self, Publish* frame) except -1:
        """A publish to `$mq9.>`."""
        return self.refuse_publish(frame.subject, frame.subject_size)

    cdef int subscribe_to_broker(self, bytes subject, bytes queue, bytes sid) except -1:
        """A subscription to `$mq9.>`; false when it was refused."""
        self.refuse_subscription(subject, queue)
        return False

    cdef int end_subscription(self, bytes sid, object subscription) except -1:
        """End a subscription of this client's, and forget it."""
        cdef Interest interest
        if not self.drop(sid):
            return 0
        interest = <Interest?>subscription
        if interest.on_end is not None:
            on_end = interest.on_end
            interest.on_end = None  # it refers back to the interest: nothing is to wait for the garbage collector
            on_end()
            return 0
        self.hub.router.remove(interest)
        if interest.queue is None:
            if interest.specificity >= 0:
                self._wildcards.remove(interest)
            else:
                same = self._literals[interest.subject]
                same.remove(interest)
                if not same:
                    del self._literals[interest.subject]
        return 0

    cdef int limit_subscription(self, bytes sid, object subscription, uint64_t maximum) except -1:
        """UNSUB: end the subscription after `maximum` messages since it began, at once when that is no more than it had."""
        cdef Interest interest = <Interest?>subscription
        if maximum > interest.delivered:
            interest.maximum = maximum
        else:
            self.end_subscription(sid, interest)
        return 0

    # own interests: where replies of the broker go

    cdef int _remember(self, Interest interest) except -1:
        if is_literal(interest.subject, len(interest.subject)):
            interest.specificity = -1
            if self._literals is None:
                self._literals = {}
            self._literals.setdefault(interest.subject, []).append(interest)
        else:
            interest.specificity = min(
                at for at in (interest.subject.find(b"*"), interest.subject.find(b">")) if at >= 0
            )
            if self._wildcards is None:
                self._wildcards = []
            insort(self._wildcards, interest, key=_by_specificity)
        return 0

    cdef Interest own_interest(self, const char* subject, Py_ssize_t size):
        """This client's own subscription through which it gets what is sent to `subject`, the most specific one, or None."""
        cdef Interest interest
        cdef Subscription subscription
        if self._literals:
            same = self._literals.get(subject[:size])
            if same is not None:
                return <Interest>same[0]
        if self._wildcards is None:
            return None
        if len(self._wildcards) <= WILDCARDS_SCANNED_MAX:
            for interest in self._wildcards:
                if subject_matches(interest.subject, len(interest.subject), subject, size):
                    return interest
            return None
        mine = [
            subscription for subscription in self.hub.router.route(subject, size).plain
            if isinstance(subscription, Interest) and (<Interest>subscription).session is self
        ]
        return min(mine, key=_by_specificity, default=None)

    # errors

    cdef int note_refusal(self, str reason, str what) except -1:
        """Count a refusal by its `reason` and log `what` was refused, but not without end for one client.

        Nothing of what the client sent may be in either: it may hold a mail_id.
        """
        self.hub.refused(reason)
        self._notes += 1
        if self._notes <= NOTES_MAX:
            self._log("client %d (%s): refused: %s", what)
        if self._notes == NOTES_MAX:
            self._log("client %d (%s): more refusals are counted only")
        return 0

    def _log(self, str sentence, *values):
        """Log something about this client."""
        known = {"client": self.client_id, "address": self.client_address}
        log.info(sentence, self.client_id, self.client_address, *values, extra=known)

    cdef int error(self, str text) except -1:
        """An -ERR after which the connection goes on."""
        self.note_refusal(text.lower(), text)
        return self.send(b"-ERR '%b'\r\n" % text.encode())

    cdef int forbid_publish(self, Publish* frame) except -1:
        """Refuse what the user may not publish."""
        return self.refuse_publish(frame.subject, frame.subject_size)

    cdef int refuse_publish(self, const char* subject, Py_ssize_t size) except -1:
        """The -ERR that every client takes as a refused publish (docs/protocol.md §1)."""
        self.note_refusal("publish", "a publish")
        return self.send(b"-ERR 'Permissions Violation for Publish to \"%b\"'\r\n" % subject[:size])

    cdef int refuse_subscription(self, bytes subject, bytes queue) except -1:
        """The -ERR that every client takes as a refused subscription (docs/protocol.md §1)."""
        self.note_refusal("subscription", "a subscription")
        if queue is None:
            return self.send(b"-ERR 'Permissions Violation for Subscription to \"%b\"'\r\n" % subject)
        return self.send(
            b"-ERR 'Permissions Violation for Subscription to \"%b\" using queue \"%b\"'\r\n" % (subject, queue)
        )
