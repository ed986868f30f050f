"""The contract of mq9.store as tests: what every engine must do, and nothing that only one of them does."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from mq9.store.contract import (
    BlockMissingError,
    Commit,
    Store,
    StoreFailedError,
    StoreFullError,
    StoreLockedError,
    Table,
)
from tests.store.contents import Contents, contents, run, stored
from tests.store.engines import EXCLUSIVE, REFUSING

if TYPE_CHECKING:
    from tests.store.engines import Place

BLOCK_BYTES = 256 * 1024


def block(number: int, size: int = 500) -> bytes:
    """Bytes for a block: the same for the same number, and unlike those of any other."""
    return random.Random(number).randbytes(size)


def apply(model: Contents, commit: Commit) -> None:
    """What `commit` does, as the contract describes it."""
    model.blocks |= {number: bytes(data) for number, data in commit.blocks}
    for number in commit.dropped:
        model.blocks.pop(number, None)
    for table, key, value in commit.rows:
        if value is None:
            model.rows[table].pop(key, None)
        else:
            model.rows[table][key] = value


# open and close


def test_a_new_store_is_empty(place: Place) -> None:
    assert stored(place.store()) == Contents()


def test_what_was_committed_is_there_when_it_is_opened_again(place: Place) -> None:
    commit = Commit(blocks=[(7, block(7))], rows=[(table, table.value.encode(), b"row") for table in Table])
    run(place.store(), lambda store: store.commit(commit))
    expected = Contents()
    apply(expected, commit)
    assert stored(place.store()) == expected


def test_closing_twice_does_nothing(place: Place) -> None:
    async def main() -> None:
        store = place.store()
        await store.open()
        await store.close()
        await store.close()

    asyncio.run(main())
    assert stored(place.store()) == Contents()


def test_closing_what_was_never_opened_does_nothing(place: Place) -> None:
    async def main() -> None:
        await place.store().close()

    asyncio.run(main())
    assert stored(place.store()) == Contents()


def test_closing_waits_for_the_commits_in_flight(place: Place) -> None:
    async def main() -> None:
        store = place.store()
        await store.open()
        commits = [
            asyncio.create_task(store.commit(Commit(blocks=[(number, block(number, BLOCK_BYTES))])))
            for number in range(1, store.commits_in_flight_max + 1)
        ]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*commits)

    asyncio.run(main())
    store = place.store()
    assert stored(store).blocks == {n: block(n, BLOCK_BYTES) for n in range(1, store.commits_in_flight_max + 1)}


@pytest.mark.parametrize("place", EXCLUSIVE, indirect=True)
def test_only_one_has_it_open(place: Place) -> None:
    async def main() -> None:
        first, second = place.store(), place.store()
        await first.open()
        with pytest.raises(StoreLockedError):
            await second.open()
        await second.close()
        await first.commit(Commit(blocks=[(1, block(1))]))
        assert await first.read_block(1) == block(1)
        await first.close()
        await second.open()
        assert await second.read_block(1) == block(1)
        await second.close()

    asyncio.run(main())


# commit


def test_a_block_may_be_any_buffer_and_is_the_callers_again_afterwards(place: Place) -> None:
    async def body(store: Store) -> None:
        array = bytearray(b"an array")
        view = memoryview(bytearray(b"[a part of an array]"))[1:-1]
        await store.commit(Commit(blocks=[(1, b"bytes"), (2, memoryview(array)), (3, view)]))
        array[:] = view[:8] = b"used up!"
        expected = {1: b"bytes", 2: b"an array", 3: b"a part of an array"}
        assert (await contents(store)).blocks == expected

    run(place.store(), body)


def test_a_commit_does_all_it_is_asked_at_once(place: Place) -> None:
    before = Commit(
        blocks=[(number, block(number)) for number in (1, 2, 3)],
        rows=[(Table.MAILBOXES, b"kept", b"1"), (Table.MAILBOXES, b"changed", b"1"), (Table.DEAD, b"removed", b"1")],
    )
    commit = Commit(
        blocks=[(5, block(5)), (9, block(9))],
        dropped=[1, 3],
        rows=[(Table.MAILBOXES, b"changed", b"2"), (Table.DEAD, b"removed", None), (Table.META, b"new", b"")],
    )

    async def body(store: Store) -> None:
        expected = Contents()
        for each in (before, commit):
            await store.commit(each)
            apply(expected, each)
            assert await contents(store) == expected

    run(place.store(), body)


def test_an_empty_commit_changes_nothing(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(1, block(1))]))
        await store.commit(Commit())
        assert (await contents(store)).blocks == {1: block(1)}

    run(place.store(), body)


def test_changes_to_a_row_are_made_in_their_order(place: Place) -> None:
    rows = [(Table.GROUPS, b"a", b"1"), (Table.GROUPS, b"b", b"1"), (Table.GROUPS, b"a", None)]
    rows += [(Table.GROUPS, b"b", b"2"), (Table.GROUPS, b"a", b"3"), (Table.GROUPS, b"b", None)]

    async def body(store: Store) -> None:
        await store.commit(Commit(rows=rows))
        assert (await contents(store)).rows[Table.GROUPS] == {b"a": b"3"}

    run(place.store(), body)


def test_what_is_not_there_can_be_dropped_and_removed(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(4, block(4))], rows=[(Table.META, b"a", b"1")]))
        absent: list[tuple[Table, bytes, bytes | None]] = [(table, b"absent", None) for table in Table]
        await store.commit(Commit(dropped=[1, 4, 4, 99], rows=absent))
        await store.commit(Commit(dropped=[4]))
        assert await contents(store) == Contents(rows={**Contents().rows, Table.META: {b"a": b"1"}})

    run(place.store(), body)


def test_tables_do_not_share_their_keys(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(rows=[(table, b"key", table.value.encode()) for table in Table]))
        await store.commit(Commit(rows=[(Table.DEDUP, b"key", None)]))
        found = (await contents(store)).rows
        assert found == {t: {} if t is Table.DEDUP else {b"key": t.value.encode()} for t in Table}

    run(place.store(), body)


def test_keys_and_values_are_any_bytes(place: Place) -> None:
    rows = {
        b"\0": b"\0",
        b"\0\0": b"",
        b"\xff" * 500: block(1, 100_000),
        b"a\0b": b"\r\n",
        b"a": b"a",
        bytes(range(256)): bytes(range(256)),
    }

    async def body(store: Store) -> None:
        await store.commit(Commit(rows=[(Table.DEDUP, key, value) for key, value in rows.items()]))
        assert (await contents(store)).rows[Table.DEDUP] == rows

    run(place.store(), body)


def test_blocks_have_any_size(place: Place) -> None:
    sizes = [1, 4_095, 4_096, 4_097, 65_536, 5 * 1024 * 1024]

    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(number, block(number, size)) for number, size in enumerate(sizes, 1)]))
        found = (await contents(store)).blocks
        assert found == {number: block(number, size) for number, size in enumerate(sizes, 1)}

    run(place.store(), body)


def test_numbers_have_any_size(place: Place) -> None:
    numbers = [1, 255, 256, 2**32 - 1, 2**32, 2**63, 2**64 - 1]

    async def body(store: Store) -> None:
        for number in numbers:
            await store.commit(Commit(blocks=[(number, block(number))]))
        assert list((await contents(store)).blocks) == numbers

    run(place.store(), body)


def test_commits_become_durable_in_the_order_in_which_they_were_started(place: Place) -> None:
    async def body(store: Store) -> None:
        async def commit(number: int) -> None:
            size = BLOCK_BYTES if number % 2 else 10  # the slower ones first
            last = (Table.META, b"last", b"%d" % number)
            await store.commit(Commit(blocks=[(number, block(number, size))], rows=[last]))
            for earlier in range(1, number + 1):
                await store.read_block(earlier)

        first = 1
        for _ in range(5):
            following = first + store.commits_in_flight_max
            await asyncio.gather(*(commit(number) for number in range(first, following)))
            assert (await contents(store)).rows[Table.META] == {b"last": b"%d" % (following - 1)}
            first = following

    run(place.store(), body)


@pytest.mark.parametrize("place", REFUSING, indirect=True)
def test_nothing_is_ever_seen_of_a_commit_that_failed(place: Place) -> None:
    before = Commit(blocks=[(1, block(1)), (2, block(2))], rows=[(table, b"key", b"before") for table in Table])
    after = Commit(blocks=[(5, block(5))], dropped=[1], rows=[(Table.META, b"key", b"after")])
    impossible = place.impossible(2)
    assert impossible is not None
    expected = Contents()

    async def body(store: Store) -> None:
        await store.commit(before)
        apply(expected, before)
        with pytest.raises((StoreFailedError, StoreFullError)):
            await store.commit(impossible)
        assert await contents(store) == expected
        await store.commit(after)
        apply(expected, after)
        assert await contents(store) == expected

    run(place.store(), body)
    assert stored(place.store()) == expected


# reading


def test_a_block_that_is_not_there_is_missing(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(1, block(1)), (3, block(3))]))
        await store.commit(Commit(dropped=[1]))
        for number in (0, 1, 2, 4, 2**64 - 1):
            with pytest.raises(BlockMissingError, match=str(number)):
                await store.read_block(number)
        assert await store.read_block(3) == block(3)

    run(place.store(), body)


def test_reading_goes_on_while_a_commit_is_in_flight(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(1, block(1, BLOCK_BYTES))]))
        commit = asyncio.create_task(
            store.commit(Commit(blocks=[(number, block(number, BLOCK_BYTES)) for number in range(2, 40)]))
        )
        await asyncio.sleep(0)
        reads = await asyncio.gather(*(store.read_block(1) for _ in range(50)))
        assert set(reads) == {block(1, BLOCK_BYTES)}
        await commit
        assert len((await contents(store)).blocks) == 39

    run(place.store(), body)


def test_many_blocks_are_scanned_in_slices(place: Place) -> None:
    numbers = range(10, 74)

    async def body(store: Store) -> None:
        for number in numbers:
            await store.commit(Commit(blocks=[(number, block(number, BLOCK_BYTES))]))
        slices = [len(blocks) async for blocks in store.scan_blocks()]
        assert sum(slices) == len(numbers)
        assert len(slices) > 1
        assert (await contents(store)).blocks == {number: block(number, BLOCK_BYTES) for number in numbers}

    run(place.store(), body)


def test_many_rows_are_scanned_in_slices(place: Place) -> None:
    # In no order, and with keys that are the beginnings of others.
    keys = [b"%d" % (number * 7_919 % 10_007) for number in range(10_000)]

    async def body(store: Store) -> None:
        await store.commit(Commit(rows=[(Table.MAILBOXES, key, b"row of " + key) for key in keys]))
        slices = [len(rows) async for rows in store.scan_rows(Table.MAILBOXES)]
        assert sum(slices) == len(keys)
        assert len(slices) > 1
        assert (await contents(store)).rows[Table.MAILBOXES] == {key: b"row of " + key for key in keys}

    run(place.store(), body)


def test_large_rows_are_scanned_whole(place: Place) -> None:
    rows = {b"%04d" % number: block(number, 50_000) for number in range(300)}

    async def body(store: Store) -> None:
        await store.commit(Commit(rows=[(Table.GROUPS, key, value) for key, value in rows.items()]))
        assert (await contents(store)).rows[Table.GROUPS] == rows

    run(place.store(), body)


def test_a_scan_may_be_given_up(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(number, block(number, BLOCK_BYTES)) for number in range(1, 65)]))
        scan = store.scan_blocks()
        assert (await anext(scan))[0] == (1, block(1, BLOCK_BYTES))
        await scan.aclose()  # type: ignore[attr-defined]
        await store.commit(Commit(dropped=list(range(1, 64))))
        assert (await contents(store)).blocks == {64: block(64, BLOCK_BYTES)}

    run(place.store(), body)


def test_scans_at_the_same_time_do_not_disturb_each_other(place: Place) -> None:
    async def body(store: Store) -> None:
        await store.commit(Commit(blocks=[(number, block(number, BLOCK_BYTES)) for number in range(1, 41)]))
        first, second = await asyncio.gather(contents(store), contents(store))
        assert first == second
        assert len(first.blocks) == 40

    run(place.store(), body)


# usage


def test_usage_says_how_much_and_whether_it_lasts(place: Place) -> None:
    async def body(store: Store) -> None:
        before = await store.usage()
        assert before.durable is place.durable
        await store.commit(Commit(blocks=[(1, block(1, 3_000_000))], rows=[(Table.DEAD, b"key", block(2, 500_000))]))
        after = await store.usage()
        assert 3_500_000 <= after.bytes_stored - before.bytes_stored < 4_500_000

    run(place.store(), body)


def test_room_that_was_freed_is_used_again(place: Place) -> None:
    async def body(store: Store) -> None:
        for number in range(1, 101):
            await store.commit(Commit(blocks=[(number, block(number, BLOCK_BYTES))], dropped=[max(number - 2, 0)]))
        assert (await store.usage()).bytes_stored < 12 * BLOCK_BYTES + 6 * store.region_bytes
        assert (await contents(store)).blocks.keys() == {99, 100}

    run(place.store(), body)


# all together


def commits(chance: random.Random, count: int) -> list[Commit]:
    """Commits as a broker makes them: blocks at the end, most of them dropped later, rows that come, change and go."""
    made = []
    number = 1
    living: list[int] = []
    for _ in range(count):
        commit = Commit()
        for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
            number += chance.choice((1, 1, 1, 3))
            living.append(number)
            commit.blocks.append((number, block(number, chance.choice((33, 500, 5_000, 70_000)))))
        while len(living) > 20 or (living and chance.random() < 0.3):
            commit.dropped.append(living.pop(chance.randrange(len(living))))
        for _ in range(chance.choice((0, 1, 3, 20))):
            key = b"%d" % chance.randrange(60)
            value = None if chance.random() < 0.4 else chance.randbytes(chance.choice((0, 8, 60, 3_000)))
            commit.rows.append((chance.choice(list(Table)), key, value))
        made.append(commit)
    return made


@pytest.mark.parametrize("seed", range(3))
def test_any_commits_leave_what_the_contract_says(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    expected = Contents()
    for _ in range(8):

        async def body(store: Store) -> None:
            assert await contents(store) == expected
            following = max(expected.blocks, default=0) + 1_000
            for commit in commits(chance, 25):
                commit.blocks = [(number + following, data) for number, data in commit.blocks]
                commit.dropped = [
                    number + following if chance.random() < 0.7 else chance.choice([0, *expected.blocks])
                    for number in commit.dropped
                ]
                await store.commit(commit)
                apply(expected, commit)
            assert await contents(store) == expected

        run(place.store(), body)
    assert stored(place.store()) == expected
