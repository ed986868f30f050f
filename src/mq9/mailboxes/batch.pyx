"""What one commit will write, and who is to be told when it has.

Messages are appended to the batch's blocks and noted in a C array; everything else that changes is an effect, a Python object with
`apply` and `fail`, that knows after how many messages of the batch it stands. When the commit has returned, all of it happens in
the order in which it was asked for.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, realloc

from mq9.mailboxes.index cimport LEVEL_STEPS, Level, level_expect
from mq9.native.bytemap cimport fetch_named
from mq9.native.memory cimport buffer_append, buffer_free

cdef enum:
    # Messages between two steps of fetching what settling one looks at.
    STEP_DISTANCE = 4


cdef class Batch:
    """An empty batch."""

    def __cinit__(self):
        self.blocks = []
        self.effects = []
        self.rows = []
        self.dropped = []
        self.expired = []
        self.changes = []
        self.groups = []
        self.ended = []
        self.kills = []
        self.keyed = []
        self.overtaken = []
        self.marks = []

    def __dealloc__(self):
        self._release()
        free(self.sents)
        buffer_free(&self.replies)

    def __bool__(self):
        return bool(
            self.count or self.effects or self.rows or self.dropped or self.blocks or self.overtaken
        )

    cdef void _release(self) noexcept:
        cdef size_t at
        for at in range(self.count):
            Py_DECREF(<object>self.sents[at].mailbox)
            if self.sents[at].sender != NULL:
                Py_DECREF(<object>self.sents[at].sender)
        self.count = 0

    cdef Sent* add(self, Mailbox mailbox, Sender sender, const char* reply, size_t reply_size) except NULL:
        """Note one more message; the caller fills in what is known of its record."""
        cdef Sent* sents
        cdef Sent* sent
        cdef size_t capacity
        if self.count == self._capacity:
            capacity = self._capacity * 2 + 16
            sents = <Sent*>realloc(self.sents, capacity * sizeof(Sent))
            if sents == NULL:
                raise MemoryError()
            self.sents = sents
            self._capacity = capacity
        sent = &self.sents[self.count]
        sent.reply_at = self.replies.size
        sent.reply_size = reply_size
        if reply_size:
            buffer_append(&self.replies, reply, reply_size)
        Py_INCREF(mailbox)
        sent.mailbox = <PyObject*>mailbox
        sent.sender = NULL
        if sender is not None:
            Py_INCREF(sender)
            sent.sender = <PyObject*>sender
        self.count += 1
        return sent

    cdef void expect(self, size_t at, size_t last) noexcept:
        """Of the messages up to `last`, the one at `at` is settled now: fetch what the next ones will look at in their mailboxes.

        Each step follows a pointer that the step before has fetched, so with many mailboxes nobody waits for memory. Not by `expect_add`:
        inlined here together with `level_expect`, sends to 10,000 mailboxes took a tenth more of a processor.
        """
        cdef Level* level
        cdef size_t next_at
        cdef int step
        next_at = at + (LEVEL_STEPS + 1) * STEP_DISTANCE
        if next_at < last:
            fetch_named(self.sents[next_at].mailbox)
        for step in range(LEVEL_STEPS):
            next_at = at + (LEVEL_STEPS - step) * STEP_DISTANCE
            if next_at < last:
                level = (<Mailbox>self.sents[next_at].mailbox).levels[self.sents[next_at].priority]
                if level != NULL:
                    level_expect(level, step)

    cdef bytes key_of(self, size_t at):
        """The key of message number `at`, which has one; to be asked in the order of the messages."""
        while self.keyed[self._keyed_at][0] != at:
            self._keyed_at += 1
        return self.keyed[self._keyed_at][1]

    def drop_messages(self):
        """Forget the messages and the blocks that hold them; effects that stood between them keep their order."""
        self._release()
        self.blocks = []
        self.keyed = []
        self.open_block = None
        self.effects = [(0, effect) for _, effect in self.effects]

    def take_rewriting(self, Rewriting rewriting not None):
        """Store the copies that were made of blocks; at most one such lot for each batch."""
        self.rewriting = rewriting
        self.blocks.extend(rewriting.blocks)

    def drop_rewriting(self):
        """Do not store them after all."""
        self.blocks = [block for block in self.blocks if block not in self.rewriting.blocks]
        self.rewriting = None

    def then(self, effect):
        """Let `effect` happen after everything that the batch has up to now."""
        self.effects.append((self.count, effect))
