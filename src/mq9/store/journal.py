"""The journal's segments while the store is open: the one that is written to, those made ahead of need, and those that have blocks.

All state is the event loop's. What waits for the disk is given to a thread: files are made, cut and removed by one, read by another.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from sortedcontainers import SortedDict

from mq9.store.contract import BlockMissingError, StoreError, StoreFailedError, StoreFullError
from mq9.store.frame import Frame, Index
from mq9.store.hold import Hold
from mq9.store.segments import Files, Reader, Segment
from mq9.store.starting import Found, first_number, last_number, read_index, report
from mq9.store.worker import Worker

log = logging.getLogger("mq9")

# Segments made ahead: one to go on with, and one that is kept for what must succeed when there is no more space.
SPARES = 2
# Of the last segment that is kept, this is for the dropping of blocks: one part in so many.
DROPS_PART = 64
# A segment that was filled faster than this is followed by one without zeros: there is no time to write them.
FILL_S = 0.5
# Failures in a row after which another segment is tried.
FAILURES_MAX = 2
# How often it is looked whether a backup is over.
HOLD_RETRY_S = 1.0
# Less than this is not worth cutting off.
CUT_BYTES = 64 * 1024
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

_Result = TypeVar("_Result")


class Journal:
    """An open journal.

    Arguments:
        files: its files.
        found: what it starts with.
        segment_bytes: the size of a segment.
        check_growth: raises StoreFullError when the store may not become larger by that many bytes.
        hold: says when segments must stay as they are.
    """

    def __init__(
        self,
        files: Files,
        found: Found,
        segment_bytes: int,
        check_growth: Callable[[int], None],
        hold: Hold,
    ) -> None:
        self.segments: dict[int, Segment] = {segment.number: segment for segment in found.segments}
        # Of these nothing is left: when the tables have forgotten them, they are free.
        self.empty: set[Segment] = set()
        self.size = sum(segment.size for segment in (*found.segments, *found.empty, *found.unused))
        self.salt = found.checkpoint.salt
        self._files = files
        self._segment_bytes = segment_bytes
        self._drops_bytes = segment_bytes // DROPS_PART
        self._check_growth = check_growth
        self._hold = hold
        self._maker = Worker("mq9-files")
        self._reading = Worker("mq9-read")
        self._reader = Reader(files)
        # By the numbers of their first blocks.
        self._holders: SortedDict[int, Segment] = SortedDict()
        self._current: Segment | None = None
        self._spares = deque(found.empty)
        self._used: deque[Segment] = deque()
        # Nobody needs them but who copies the store.
        self._free = deque(found.unused)
        self._free_timer: asyncio.TimerHandle | None = None
        self._next_number = max([found.checkpoint.segment, *self.segments, *(s.number for s in found.empty)]) + 1
        self._making: asyncio.Task[None] | None = None
        # The numbers of those made ahead rise with their order: they are made one after the other.
        self._creating = asyncio.Lock()
        self._rolled_s = -FILL_S
        self._failures = 0
        self._leaving: set[Segment] = set()
        self._highest = max((last_number(segment) for segment in found.segments), default=-1)
        for segment in found.segments:
            self._note_blocks(segment)
            self._look_whether_empty(segment)

    async def begin(self) -> None:
        """Open or make what is written to next. Raises StoreFullError, StoreFailedError."""
        for spare in self._spares:
            await self._on_files(self._files.reopen, spare, self._segment_bytes)
        last = self.segments[max(self.segments)] if self.segments else None
        if last is not None and last.index is not None:
            await self._on_files(self._files.reopen, last, 0)
            self._current = last
            self.empty.discard(last)
        else:
            await self._need_spares(1)
            self._take_spare()
        self._use_free()
        self._make_spares()

    async def close(self) -> None:
        """Let go of all files."""
        if self._free_timer is not None:
            self._free_timer.cancel()
        if self._making is not None:
            await asyncio.wait([self._making])
        await self._reading.run(self._reader.close_all)
        for segment in [*self.segments.values(), *self._spares, *self._used, *self._free, *self._leaving]:
            await self._maker.run(self._files.close, segment)
        self._maker.stop()
        self._reading.stop()

    # writing

    @property
    def current(self) -> Segment:
        """What is written to."""
        if self._current is None:
            raise RuntimeError("the journal was not begun")
        return self._current

    @property
    def end(self) -> int:
        """Where the next frame goes in `current`."""
        return self.current.contents.end

    @property
    def highest(self) -> int:
        """The highest number of a block that is stored, or was; -1 for none."""
        return self._highest

    @property
    def used(self) -> int:
        """Bytes of all that was written to its segments."""
        return self.size - sum(segment.size for segment in (*self._spares, *self._used, *self._free)) - self._room()

    @property
    def lacks_spares(self) -> bool:
        """Whether there are fewer segments made ahead than there should be."""
        return len(self._spares) < SPARES and self._making is None

    def has_room(self, size: int, *, kept: bool) -> bool:
        """Whether a frame of `size` bytes fits into `current`; `kept`: even with what is kept for what must succeed."""
        if self._failures >= FAILURES_MAX:
            return False
        return size <= self._room() if self._spares else kept and size + self._drops_bytes <= self._room()

    async def make_room(self, size: int, *, kept: bool, drops: bool) -> None:
        """See to it that a frame of `size` bytes fits into `current`.

        Arguments:
            kept: whether it may take what is kept for what must succeed when there is no more space.
            drops: whether it drops blocks, and so may take the last of that.

        Raises StoreFullError, StoreFailedError.
        """
        if self._failures >= FAILURES_MAX:
            await self._need_spares(1)
            self._roll()
        fits = size <= self._room()
        if kept and fits and drops:
            return
        if size > self._segment_bytes and not fits:
            await self._need_spares(0 if kept else 1)
            await self._take_larger(size)
            return
        await self._need_spares(1 if kept or fits else 2)
        if not self.has_room(size, kept=kept):
            self._roll()

    def written(self, frame: Frame) -> None:
        """A frame is durable at the end of `current`."""
        current = self.current
        had_blocks = current.contents.count
        current.contents.append(frame)
        current.changed = True
        self._failures = 0
        if not had_blocks:
            self._note_blocks(current)
        self._highest = max(self._highest, last_number(current))

    def failed(self) -> None:
        """A frame could not be written: the next one goes to the same place, and if that does not help, to another segment."""
        self._failures += 1

    def _room(self) -> int:
        return self.current.size - self.end

    def _roll(self) -> None:
        """Go on with the next segment."""
        full, written = self.current, self.end
        self._take_spare()
        if written == 0:  # nothing could be written to it; perhaps that is better later
            del self.segments[full.number]
            self._used.append(full)
        else:
            end = written if full.size - written >= CUT_BYTES else full.size
            self.size -= full.size - end
            full.size = end
            self._later(self._files.finish, full)
            self._look_whether_empty(full)
        self._make_spares()

    def _take_spare(self) -> None:
        self._current = self._spares.popleft()
        self.segments[self._current.number] = self._current
        self._rolled_s = asyncio.get_running_loop().time()
        self._failures = 0

    async def _take_larger(self, size: int) -> None:
        """Go on with a segment for one frame that is larger than segments are; those made ahead come behind it."""
        async with self._creating:
            spares, self._spares = self._spares, deque()
            self._spares.append(await self._create(size, None))
            for spare in spares:
                self._spares.append(await self._create(self._segment_bytes, spare))
        self._roll()

    # segments made ahead

    async def _need_spares(self, count: int) -> None:
        """Wait until so many are there. Raises StoreFullError, StoreFailedError."""
        async with self._creating:
            while len(self._spares) < count:
                await self._make_spare()

    def _make_spares(self) -> None:
        """Make them in the background. Where that cannot be done, who needs them finds out why."""
        if self._making is None and len(self._spares) < SPARES:
            self._making = asyncio.get_running_loop().create_task(self._make_all())

    async def _make_all(self) -> None:
        try:
            await self._need_spares(SPARES)
        except StoreError as error:
            log.debug("no segment can be made ahead: %s", error)
        finally:
            self._making = None

    async def _make_spare(self) -> None:
        self._spares.append(await self._create(self._segment_bytes, self._used.popleft() if self._used else None))

    async def _create(self, size: int, former: Segment | None) -> Segment:
        had = 0 if former is None else former.size
        try:
            self._check_growth(max(size - had, 0))
        except StoreFullError:
            if former is not None:
                self._used.append(former)
            raise
        number = self._next_number
        self._next_number += 1
        if former is not None:
            await self._reading.run(self._reader.close, former.number)
        fill = asyncio.get_running_loop().time() - self._rolled_s >= FILL_S
        self.size -= had
        made = await self._on_files(self._files.create, number, size, fill, former)
        self.size += made.size
        return made

    # blocks

    def region(self, number: int) -> int:
        """The number of the segment that a block is in, 0 if there is none."""
        segment = self._holder(number)
        return 0 if segment is None else segment.number

    def drop(self, numbers: Iterable[int]) -> None:
        """Blocks were dropped, of segments that have been read."""
        for number in numbers:
            segment = self._holder(number)
            if segment is not None and segment.index is not None and segment.index.drop(number):
                segment.changed = True
                self._look_whether_empty(segment)

    def forget(self, segment: Segment) -> None:
        """The tables know nothing of an empty segment any more: it can be used for something else."""
        del self.segments[segment.number]
        self.empty.discard(segment)
        if (first := first_number(segment)) is not None and self._holders.get(first) is segment:
            del self._holders[first]
        if segment.readers:
            self._leaving.add(segment)
        else:
            self._set_free(segment)

    async def bring(self, numbers: Iterable[int]) -> None:
        """Read what is in the segments of these blocks, if that was not done yet. Raises StoreFailedError."""
        for number in numbers:
            segment = self._holder(number)
            if segment is not None:
                await self._indexed(segment)

    async def read(self, number: int) -> bytes:
        """The bytes of a block; fewer or none where it is damaged. Raises BlockMissingError, StoreFailedError."""
        segment = self._holder(number)
        place = None if segment is None else (await self._indexed(segment)).place(number)
        if segment is None or place is None:
            raise BlockMissingError(f"there is no block {number}")
        segment.readers += 1
        try:
            return await self._on_reader(self._reader.read, segment.number, *place)
        finally:
            self._has_read(segment)

    async def scan(self, slice_bytes: int) -> AsyncIterator[list[tuple[int, bytes]]]:
        """All blocks in the order of their numbers, about `slice_bytes` at a time. Raises StoreFailedError."""
        for segment in sorted(self.segments.values(), key=lambda segment: segment.number):
            if segment.number not in self.segments:
                continue
            segment.readers += 1
            try:
                index = await self._indexed(segment)
                following: int | None = 0
                while following is not None:
                    places, following = index.blocks(following, slice_bytes)
                    if not places:
                        continue
                    start, end = places[0][1], max(offset + size for _, offset, size in places)
                    data = await self._on_reader(self._reader.read, segment.number, start, end - start)
                    yield [(number, data[offset - start : offset - start + size]) for number, offset, size in places]
            finally:
                self._has_read(segment)

    async def _indexed(self, segment: Segment) -> Index:
        """What is in a segment, which is read if it has not been. Raises StoreFailedError."""
        if segment.index is None and segment.known is not None:
            index = await self._on_reader(read_index, self._reader, segment.number, segment.known, self.salt)
            if segment.index is None:
                report(index)
                segment.index = index
                self._look_whether_empty(segment)
        return segment.contents

    def _has_read(self, segment: Segment) -> None:
        segment.readers -= 1
        if segment.readers == 0 and segment in self._leaving:
            self._leaving.discard(segment)
            self._set_free(segment)

    def _set_free(self, segment: Segment) -> None:
        self._free.append(segment)
        if self._free_timer is None:
            self._use_free()

    def _use_free(self) -> None:
        """Use again what nobody needs, unless somebody copies it: then in a while."""
        self._free_timer = None
        if not self._free:
            return
        if self._hold.is_taken():
            log.debug("%d segments of the journal are kept for a backup", len(self._free))
            self._free_timer = asyncio.get_running_loop().call_later(HOLD_RETRY_S, self._use_free)
            return
        while self._free:
            self._use_again(self._free.popleft())

    def _use_again(self, segment: Segment) -> None:
        if len(self._spares) + len(self._used) < SPARES:
            self._used.append(segment)
            self._make_spares()
        else:
            self.size -= segment.size
            self._reading.tell(self._reader.close, segment.number)
            self._later(self._files.remove, segment)

    def _note_blocks(self, segment: Segment) -> None:
        if (first := first_number(segment)) is not None:
            self._holders[first] = segment

    def _look_whether_empty(self, segment: Segment) -> None:
        if segment.index is not None and segment.index.live == 0 and segment is not self._current:
            self.empty.add(segment)

    def _holder(self, number: int) -> Segment | None:
        """The segment that a block is in, if it is there."""
        at = self._holders.bisect_right(number) - 1
        return None if at < 0 else self._holders.peekitem(at)[1]

    # threads

    async def _on_files(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        return await _run(self._maker, function, *arguments)

    async def _on_reader(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        return await _run(self._reading, function, *arguments)

    def _later(self, function: Callable[[Segment], None], segment: Segment) -> None:
        self._maker.tell(_logging_failure, function, segment)


async def _run(worker: Worker, function: Callable[..., _Result], *arguments: Any) -> _Result:
    try:
        return await worker.run(function, *arguments)
    except OSError as error:
        raise failure(error, "use the journal") from None


def failure(error: OSError, what: str) -> StoreError:
    """The error of the store that an error of the system means when one wants to do `what`."""
    if error.errno in _NO_SPACE:
        return StoreFullError("the disk is full")
    return StoreFailedError(f"cannot {what}: {error.strerror}")


def _logging_failure(function: Callable[[Segment], None], segment: Segment) -> None:
    try:
        function(segment)
    except OSError as error:
        log.warning("segment %d of the journal keeps its space: %s", segment.number, error)
