"""Frames in a segment: what is written is found again, what was not finished is left out, and what is damaged costs only itself."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from mq9.native.checksum import checksum
from mq9.store.contract import Commit, Table
from mq9.store.frame import Frame, Index
from mq9.store.starting import NEVER

if TYPE_CHECKING:
    from collections.abc import Sequence

SALT: Final = 0x1122334455667788
SEGMENT: Final = 7
FIRST: Final = 40
SIZE: Final = 64 * 1024


def commits(seed: int = 1, count: int = 12) -> list[Commit]:
    """Commits with blocks, drops and rows, and with some of these only."""
    chance = random.Random(seed)
    return [
        Commit(
            blocks=[(number * 3 + at, chance.randbytes(chance.choice((1, 7, 200)))) for at in range(number % 3)],
            dropped=[chance.randrange(100) for _ in range(number % 4)],
            rows=[(Table.DEAD, b"key", b"value"), (Table.META, b"gone", None)][: number % 3],
        )
        for number in range(count)
    ]


def written(
    made: Sequence[Commit], salt: int = SALT, segment: int = SEGMENT, size: int = SIZE
) -> tuple[bytes, list[int]]:
    """A segment with these commits in it, and where each frame begins, and the last one ends."""
    data, at, places = bytearray(size), 0, [0]
    for number, commit in enumerate(made):
        frame = Frame(salt, FIRST + number, commit)
        frame.address(segment)
        data[at : at + frame.size] = frame.tobytes()
        at += frame.size
        places.append(at)
    return bytes(data), places


def blocks_in(index: Index, data: bytes) -> dict[int, bytes]:
    """The blocks that an index finds, b"" for those that are damaged."""
    found, _ = index.blocks(0, len(data) + 1)
    return {number: data[offset : offset + size] for number, offset, size in found}


def blocks_of(made: Sequence[Commit]) -> dict[int, bytes]:
    return {number: bytes(data) for commit in made for number, data in commit.blocks}


def test_what_is_written_is_found() -> None:
    made = commits()
    data, places = written(made)
    index = Index(SEGMENT, 1)
    changes = index.read(data, SALT, FIRST - 1, NEVER, last=True)
    assert blocks_in(index, data) == blocks_of(made)
    assert changes == [(commit.dropped, commit.rows) for commit in made]
    assert (index.first_sequence, index.last_sequence, index.end) == (FIRST, FIRST + len(made) - 1, places[-1])
    assert index.damage == []
    assert index.read(data, SALT, NEVER, NEVER, last=True) == []


def test_only_what_is_behind_a_commit_is_told_of() -> None:
    made = commits()
    data, _ = written(made)
    changes = Index(SEGMENT, 1).read(data, SALT, FIRST + 4, NEVER, last=True)
    assert changes == [(commit.dropped, commit.rows) for commit in made[5:]]


@pytest.mark.parametrize("seed", range(5))
def test_a_last_commit_that_was_not_finished_is_left_out(seed: int) -> None:
    """Whatever part of the last frame has reached the disk, in whatever order its pages were written."""
    made = [
        *commits(seed, 8),
        Commit(blocks=[(1_000, random.Random(seed).randbytes(20_000))], rows=[(Table.DEAD, b"k", b"v")]),
    ]
    data, places = written(made)
    start, end = places[-2], places[-1]
    chance = random.Random(seed)
    for _ in range(200):
        torn = bytearray(data)
        first = chance.randrange(start, end - 8)
        last = chance.randrange(first + 1, end + 1)
        torn[first:last] = bytes(last - first)
        if torn == data:
            continue
        index = Index(SEGMENT, 1)
        index.read(torn, SALT, FIRST - 1, NEVER, last=True)
        assert (index.end, index.damage) == (start, [])
        assert blocks_in(index, bytes(torn)) == blocks_of(made[:-1])


def test_a_last_commit_that_was_known_to_be_finished_is_damaged_and_not_left_out() -> None:
    made = commits()
    data, places = written(made)
    last = FIRST + len(made) - 1
    damaged = bytearray(data)
    damaged[places[-1] - 9] ^= 1
    index = Index(SEGMENT, 1)
    index.read(damaged, SALT, last, NEVER, last=True)
    assert (index.last_sequence, index.end) == (last, places[-1])


@pytest.mark.parametrize("at", range(0, 64, 4))
def test_a_damaged_frame_costs_only_itself(at: int) -> None:
    """Its blocks are there as damaged ones, so that nobody takes their numbers for free."""
    made = commits()
    victim = 5
    assert made[victim].blocks
    data, places = written(made)
    damaged = bytearray(data)
    damaged[places[victim] + at] ^= 1
    index = Index(SEGMENT, 1)
    index.read(damaged, SALT, NEVER, NEVER, last=True)
    found = blocks_in(index, bytes(damaged))
    assert {n: block for n, block in found.items() if block} == blocks_of(made[:victim] + made[victim + 1 :])
    assert found.keys() >= blocks_of(made).keys()
    assert index.end == places[-1]
    assert index.damage == [f"segment {SEGMENT} is damaged from byte {places[victim]} to {places[victim + 1]}"]


def test_nothing_in_a_message_is_taken_for_a_frame() -> None:
    """Somebody puts frames into a message and waits for the frame around them to be damaged."""
    evil = Commit(rows=[(Table.META, b"marks", b"evil")])
    inner = b"".join(written([evil] * 3, salt=salt, size=1_024)[0] for salt in (0, 1, SALT ^ 1, 2**64 - 1))
    made = [*commits(), Commit(blocks=[(900, inner)]), Commit(blocks=[(901, b"behind it")])]
    data, places = written(made)
    damaged = bytearray(data)
    damaged[places[-3] + 16] ^= 1
    index = Index(SEGMENT, 1)
    changes = index.read(damaged, SALT, FIRST - 1, NEVER, last=True)
    assert all((Table.META, b"marks", b"evil") not in rows for _, rows in changes)
    assert blocks_in(index, bytes(damaged))[901] == b"behind it"


def test_what_the_file_held_as_another_segment_is_not_looked_at() -> None:
    old, _ = written(commits(1, 12), segment=SEGMENT - 1)
    new, places = written(commits(2, 4))
    data = new[: places[-1]] + old[places[-1] :]
    index = Index(SEGMENT, 1)
    index.read(data, SALT, NEVER, NEVER, last=True)
    assert (index.end, index.damage) == (places[-1], [])
    assert blocks_in(index, data) == blocks_of(commits(2, 4))
    empty = Index(SEGMENT, 1)
    empty.read(old, SALT, NEVER, NEVER, last=True)
    assert (empty.end, empty.count, empty.damage) == (0, 0, [])


def test_commits_that_were_written_anew_elsewhere_do_not_count() -> None:
    made = commits()
    data, places = written(made)
    index = Index(SEGMENT, 1)
    changes = index.read(data, SALT, FIRST - 1, FIRST + 6, last=False)
    assert changes == [(commit.dropped, commit.rows) for commit in made[:6]]
    assert (index.end, index.last_sequence, index.damage) == (places[6], FIRST + 5, [])


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_read_without_harm(seed: int) -> None:
    chance = random.Random(seed)
    made = commits(seed, 20)
    data, places = written(made)
    for _ in range(50):
        damaged = bytearray(data[: chance.choice((len(data), places[-1], chance.randrange(places[-1])))])
        for _ in range(chance.choice((0, 1, 5, 100))):
            if damaged:
                damaged[chance.randrange(min(len(damaged), places[-1]))] = chance.randrange(256)
        index = Index(SEGMENT, 1)
        index.read(damaged, SALT, chance.choice((0, FIRST + 3, NEVER)), NEVER, last=chance.random() < 0.5)
        assert index.end <= len(damaged)
        known = blocks_of(made)
        for number, block in blocks_in(index, bytes(damaged)).items():
            assert len(block) in (0, len(known.get(number, b"")))


def test_dropped_blocks_are_remembered_as_runs() -> None:
    chance = random.Random(4)
    made = [Commit(blocks=[(number * 2, b"block")]) for number in range(300)]
    data, _ = written(made)
    index = Index(SEGMENT, 1)
    index.read(data, SALT, NEVER, NEVER, last=True)
    gone = [number * 2 for number in range(300) if 50 < number < 200 or chance.random() < 0.2]
    assert all(index.drop(number) for number in gone)
    assert not any(index.drop(number) for number in (*gone, 1, 601))
    again = Index(SEGMENT, 1)
    again.read(data, SALT, NEVER, NEVER, last=True)
    again.load_dropped(index.pack_dropped())
    assert again.live == index.live == 300 - len(gone)
    assert blocks_in(again, data) == blocks_in(index, data)
    assert [number for number in range(700) if again.place(number) is not None] == sorted(blocks_in(again, data))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4_095, 12_287, 12_288, 12_289, 100_000])
def test_a_checksum_is_the_same_in_one_piece_and_in_many(size: int) -> None:
    data = random.Random(size).randbytes(size)
    chance = random.Random(1)
    crc, at = 0, 0
    while at < size:
        step = chance.choice((1, 3, 8, 64, 13_000))
        crc = checksum(data[at : at + step], crc)
        at += step
    assert checksum(data) == crc


def test_the_checksum_is_crc_32c() -> None:
    assert checksum(b"123456789") == 0xE3069283
    assert checksum(bytes(32)) == 0x8A9136AA
