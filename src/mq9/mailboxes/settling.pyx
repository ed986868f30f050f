"""What a worker says of the messages that it was given: done, not done, still at it, hopeless (docs/protocol.md §4, ACK).

The rules for every state that a message can be in for a group stand here, and nowhere else.
"""

from libc.stdint cimport uint32_t, uint64_t

from mq9.mailboxes.group cimport ATTEMPTS_MAX, DEAD, DONE, HANDED, LAPSED, LEASED, RETURNED, Group, Handout, Open
from mq9.mailboxes.index cimport Entry, entry_is_gone
from mq9.mailboxes.timers cimport passed
from mq9.protocol import ProtocolError


def settle(Group group not None, request not None, uint64_t holder, uint64_t now, is_connected not None):
    """Carry out an AckRequest.

    Arguments:
        holder: the number of the client that asks.
        now: Unix ms.
        is_connected: whether the client of a number is there.

    Returns [(msg_id, ProtocolError)] of the messages for which it was refused; the others are settled.
    """
    refused = []
    if request.msg_id is not None:
        _settle_listed(group, request, holder, now, is_connected, refused)
    for msg_id in request.msg_ids:
        _settle_one(group, request, msg_id, holder, now, is_connected, refused)
    return refused


cdef int _settle_listed(Group group, request, uint64_t holder, uint64_t now, is_connected, list refused) except -1:
    """A single msg_id. As an ack it confirms what was listed before it in the same FETCH reply too, unless that is elsewhere by now."""
    cdef uint64_t msg_id = request.msg_id
    cdef Handout handout = group.open.get(msg_id)
    cdef uint32_t at = 0
    cdef Open* item
    _settle_one(group, request, msg_id, holder, now, is_connected, refused, keep=handout is not None and request.op == "ack")
    if request.op != "ack" or handout is None or refused:
        return 0
    while at < handout.count:
        item = &handout.items[at]
        if item.msg_id == msg_id:
            group.finish(handout, item)
            break
        if item.state == LEASED or item.state == LAPSED:
            group.finish(handout, item)
        else:
            at += 1
    return 0


cdef int _settle_one(
    Group group, request, uint64_t msg_id, uint64_t holder, uint64_t now, is_connected, list refused, bint keep=False
) except -1:
    """Settle one message; `keep`: only see whether an ack is in order."""
    cdef Handout handout = group.open.get(msg_id)
    cdef Open* item = NULL if handout is None else handout.find(msg_id)
    op = request.op
    problem = None
    if item == NULL or item.state == DONE:
        problem = _not_open(group, item != NULL, op, msg_id, holder, request.attempt, now)
    elif (op != "ack" or item.state not in (LEASED, HANDED)) and not group.is_there(msg_id, now):
        problem = ProtocolError(404, "no such message")
    elif op == "revive":
        problem = _revive(group, handout, item, now)
    elif item.state == RETURNED and item.attempts == 0:  # it never reached anybody, or was revived
        problem = ProtocolError(409, f"message {msg_id} was not handed out")
    elif group.was_leased_again(msg_id, holder, request.attempt):
        problem = ProtocolError(409, f"message {msg_id} was leased again")
    else:
        if op == "ack":
            if not keep:
                group.finish(handout, item)
        elif item.state == HANDED:  # done, unless the receiver goes away before it has it
            problem = ProtocolError(409, f"message {msg_id} is on its way to a receiver")
        elif item.state == DEAD:
            if op != "dead":
                problem = ProtocolError(409, f"message {msg_id} is dead")
        elif op == "dead":
            group.bury(handout, item, request.reason)
        elif op == "nack":
            _nack(group, handout, item, request, now)
        elif item.state == RETURNED:
            problem = ProtocolError(409, f"message {msg_id} was given back")
        elif item.holder not in (0, holder) and request.attempt is None and is_connected(item.holder):
            problem = ProtocolError(409, f"message {msg_id} is another worker's")
        else:
            if item.state == LAPSED and item.holder != holder:
                group.note_holder(item)
            item.state = LEASED
            item.due = passed(now, request.lease_ms)
            item.holder = holder
            handout.watch(item.due)
            group.touch(handout)
    if problem is not None:
        refused.append((msg_id, problem))
    return 0


cdef _not_open(Group group, bint done, op, uint64_t msg_id, uint64_t holder, attempt, uint64_t now):
    """What there is to say of a message that is not unfinished; None when an ack of it is in order.

    `done`: whether it is known to be finished; else the cursor tells.
    """
    cdef int rank
    cdef Entry* entry = group.mailbox.find(msg_id, &rank)
    if entry == NULL or entry_is_gone(entry, now):
        return ProtocolError(404, "no such message")
    if not done and not group.is_done(msg_id, rank):
        return ProtocolError(409, f"message {msg_id} was not handed out")
    if op == "ack" and not group.was_finished_by_another(msg_id, holder, attempt):
        return None
    if op == "ack":
        return ProtocolError(409, f"message {msg_id} was leased again")
    return ProtocolError(409, f"message {msg_id} is done")


cdef _revive(Group group, Handout handout, Open* item, uint64_t now):
    if item.state != DEAD:
        return ProtocolError(409, f"message {item.msg_id} is not dead")
    item.attempts = 0
    item.holder = 0
    group.forget_holders(item.msg_id)
    if handout.reasons is not None:
        handout.reasons.pop(item.msg_id, None)
    group.put_back(handout, item, RETURNED, 0, now)
    return None


cdef int _nack(Group group, Handout handout, Open* item, request, uint64_t now) except -1:
    if item.attempts >= ATTEMPTS_MAX:
        return group.bury(handout, item, request.reason or b"given back too often")
    group.explain(handout, item.msg_id, request.reason)
    return group.put_back(handout, item, RETURNED, passed(now, request.delay_ms) if request.delay_ms else 0, now)
