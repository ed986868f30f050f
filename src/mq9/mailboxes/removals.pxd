# Making it durable that messages are gone. See removals.pyx.

from mq9.mailboxes.batch cimport Batch
from mq9.mailboxes.blocks cimport BlockTable

cdef int mark_removed(Batch batch, BlockTable blocks) except -1
cdef int unmark_removed(Batch batch, BlockTable blocks) except -1
