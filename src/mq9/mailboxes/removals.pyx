"""Making it durable that messages are gone: those that somebody deleted, and those that were replaced by one of the same key.

Both are marks in the table of the dead. They are made when a batch is sealed and not when they are asked for, because only then it is
known what became of the batches before it: where a message is, which one has a key, and which marks will be stored. What a
batch has marked is taken back when it is not committed, or when its messages alone are given up.
"""

from libc.stdint cimport uint64_t

from mq9.mailboxes.batch cimport Sent
from mq9.mailboxes.format import seal_row
from mq9.mailboxes.index cimport Entry
from mq9.mailboxes.mailbox cimport Mailbox
from mq9.store.contract import Table


cdef int mark_removed(Batch batch, BlockTable blocks) except -1:
    """Mark what the batch, which is about to be committed, removes, and let it write the rows."""
    cdef Mailbox mailbox
    cdef Entry* entry
    cdef Sent* sent
    cdef uint64_t msg_id
    cdef int rank
    cdef dict latest = {}
    cdef list places = list(batch.overtaken)
    for mailbox, msg_id in batch.kills:
        entry = NULL if mailbox.gone else mailbox.find(msg_id, &rank)
        if entry != NULL:
            places.append((entry.block, entry.offset))
    for index, key in batch.keyed:
        sent = &batch.sents[<size_t>index]
        mailbox = <Mailbox>sent.mailbox
        former = latest.get((mailbox.number, key))
        latest[mailbox.number, key] = sent.block, sent.offset
        if former is not None:  # it is stored and dead with the same commit
            places.append(former)
        elif mailbox.keys is not None and not mailbox.gone:
            entry = mailbox.find(mailbox.keys.find(key), &rank)
            if entry != NULL:
                places.append((entry.block, entry.offset))
    if batch.rewriting is not None:
        copies = [batch.rewriting.copy_of(*place) for place in places]
        places.extend([copy for copy in copies if copy is not None])
        places.extend(batch.rewriting.outdated())
    batch.marks = [place for place in places if blocks.mark_dead(place[0], place[1])]
    numbers = {number for number, _ in batch.marks}
    batch.rows_marked = len(numbers)
    for number in numbers:
        key = number.to_bytes(8, "big")
        batch.rows.append((Table.DEAD, key, seal_row(key, blocks.dead_of(number))))
    return 0


cdef int unmark_removed(Batch batch, BlockTable blocks) except -1:
    """Take back what was marked: the batch, or what removed the messages, is not committed."""
    for number, offset in batch.marks:
        blocks.unmark_dead(number, offset)
    del batch.rows[len(batch.rows) - batch.rows_marked:]
    batch.marks = []
    batch.rows_marked = 0
    return 0
