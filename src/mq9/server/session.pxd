# One client's NATS session: what it said in CONNECT, what it subscribed to, and what its frames do. See session.pyx.

from libc.stdint cimport uint64_t

from mq9.routing.router cimport Route, Router, Subscription
from mq9.server.connection cimport Connection, Shared
from mq9.server.permissions cimport Patterns
from mq9.server.user cimport Rate, User
from mq9.wire.frames cimport Publish


cdef class Hub(Shared):
    # What all sessions of a broker share beyond their sockets.
    cdef readonly Router router
    cdef public object info
    cdef readonly object access     # mq9.server.access.Access: who may come in
    cdef readonly dict sessions
    cdef readonly object all_gone   # an asyncio.Event, set while there is no session
    cdef public Py_ssize_t connections_max
    cdef readonly object addresses  # mq9.server.addresses.Addresses
    cdef readonly Py_ssize_t address_connections_max  # 0: no limit, here and below
    cdef readonly double rate       # messages a second of one client
    cdef readonly double create_rate
    cdef readonly Py_ssize_t subscriptions_max
    cdef readonly Py_ssize_t subject_max
    cdef Session publisher
    cdef bint congested
    cdef uint64_t _last_client_id
    cdef public uint64_t messages_in
    cdef public uint64_t messages_out
    cdef public uint64_t payload_in     # bytes of what messages_in counts, headers included
    cdef public uint64_t payload_out
    cdef public uint64_t connections_total
    cdef public uint64_t rate_waits
    cdef public uint64_t subscriptions  # of all clients, those to mailboxes included
    cdef readonly object gone           # the ClientState of those who left last


cdef class ClientState:
    # What is known of a client at one moment, or of one that has left.
    cdef readonly uint64_t client_id
    cdef readonly str address
    cdef readonly int port
    cdef readonly dict client
    cdef readonly str user
    cdef readonly str tls_version
    cdef readonly str tls_cipher
    cdef readonly double start_s        # Unix time
    cdef readonly double last_active_s  # Unix time, to the second
    cdef readonly double stop_s         # Unix time; 0: it is there
    cdef readonly str reason
    cdef readonly double rtt_s          # 0: not measured yet
    cdef readonly Py_ssize_t pending
    cdef readonly uint64_t messages_in
    cdef readonly uint64_t messages_out
    cdef readonly uint64_t payload_in
    cdef readonly uint64_t payload_out
    cdef readonly Py_ssize_t subscriptions


cdef class Interest(Subscription):
    # A core NATS subscription of a session.
    cdef Session session
    cdef uint64_t delivered
    cdef uint64_t maximum       # 0: none
    cdef Py_ssize_t specificity
    cdef Patterns hidden        # what the user may not be given of it, or None
    cdef public object on_end   # called when it ends, for what is no core subject

    cdef int write(self, const char* subject, Py_ssize_t subject_size, const char* reply, Py_ssize_t reply_size,
                   Py_ssize_t header_size, const char* data, Py_ssize_t size) except -1


cdef class Session(Connection):
    cdef Hub hub
    cdef readonly uint64_t client_id
    cdef readonly str client_address
    cdef readonly int client_port
    cdef readonly dict client       # what CONNECT said of the client: lang, version, name
    cdef readonly User user         # None: nobody in particular
    cdef Rate _rate                 # None: no limit
    cdef readonly Rate creates      # of mailboxes; None: no limit
    cdef readonly str nonce         # what an nkey has to sign; "" when there is none
    cdef public bint brought_nothing  # CONNECT came without credentials
    cdef object _said               # what CONNECT said, until it is decided on
    cdef object _patience           # the timer that ends a connection that does not say who it is
    cdef dict _asked                # reply subjects that may be answered: [until when, how often]
    cdef bint verbose
    cdef bint pedantic
    cdef bint echo
    cdef bint headers
    cdef bint no_responders
    cdef dict subscriptions         # sid → Interest, or what a subclass puts there
    cdef dict _literals             # subject → its Interests without queue
    cdef list _wildcards            # Interests without queue, the most specific first
    cdef Route _route
    cdef bint _stalled
    cdef double last_active
    cdef int pings_out
    cdef bint _connected            # it has said CONNECT
    cdef bint _takes_info           # it understands an INFO at any time
    cdef bint _was_told             # it has had the INFO that follows its first PONG
    cdef double _start_s            # Unix time
    cdef double _rtt_s
    cdef double _rtt_pinged_s       # when the PING was sent that is to measure it, by the monotonic clock; 0: none
    cdef double _rtt_due_s
    cdef readonly uint64_t messages_in
    cdef readonly uint64_t messages_out
    cdef readonly uint64_t payload_in
    cdef readonly uint64_t payload_out
    cdef uint64_t _notes

    cdef int count_out(self, Py_ssize_t size) except -1
    cdef int deliver_core(self, Publish* frame) except -1
    cdef int publish_to_broker(self, Publish* frame) except -1
    cdef int subscribe_to_broker(self, bytes subject, bytes queue, bytes sid) except -1
    cdef int end_subscription(self, bytes sid, object subscription) except -1
    cdef int limit_subscription(self, bytes sid, object subscription, uint64_t maximum) except -1
    cdef Interest own_interest(self, const char* subject, Py_ssize_t size)
    cdef int note_refusal(self, str reason, str what) except -1
    cdef int error(self, str text) except -1
    cdef int refuse_publish(self, const char* subject, Py_ssize_t size) except -1
    cdef int refuse_subscription(self, bytes subject, bytes queue) except -1
    cdef int _no_responders(self, Publish* frame) except -1
    cdef bint may_publish(self, const char* subject, Py_ssize_t size) except -1
    cdef bint may_subscribe(self, bytes subject, bytes queue) except -1
    cdef bint _may_answer(self, const char* subject, Py_ssize_t size) except -1
    cdef int _wait(self, Rate rate, str limit) except -1
    cdef Patterns _hidden_from(self, bytes subject, bytes queue)
    cdef int forbid_publish(self, Publish* frame) except -1
    cdef int keep(self, bytes sid, object subscription) except -1
    cdef bint drop(self, bytes sid) except -1
    cdef int _remember(self, Interest interest) except -1
