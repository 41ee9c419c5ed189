"""The journal as a whole: partitions, retention, epochs, and one order over many writers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest
import structlog

from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.retention import PARTITIONS_MAX, JournalPartition
from datastatus.engine.retention import Eraser, FindingsKeeper, JournalKeeper, RecordKeeper
from datastatus.store import epochs, journal, journal_room
from datastatus.store.journal import Change
from datastatus.store.migrate import begin_new_epoch, migrate
from datastatus.store.opening import open_database
from limits import LARGEST
from postgres import PostgresServer
from stores import Store, an_item, small_partitions

TEN_YEARS = timedelta(days=3650)
NOTHING = timedelta(0)


async def fill(store: Store, transitions: int) -> None:
    """Journal an even number of transitions."""
    link = await store.connection()
    for _ in range(transitions // 2):
        dataset_id = await store.queued(link)
        await store.change(Change(dataset_id, DatasetStatus.CANCELLED))


async def test_writers_side_by_side_make_one_dense_order(own_store: Store) -> None:
    links = [await own_store.connection() for _ in range(12)]

    async def work(link) -> None:
        for _ in range(8):
            items = [an_item(link, data_type) for data_type in ("a", "b", "c")]
            await journal.queue_datasets(own_store.database, items)
            await own_store.change(*(Change(item.dataset_id, DatasetStatus.CANCELLED) for item in items))

    await asyncio.gather(*(work(link) for link in links))
    transitions = await own_store.transitions()
    assert [one.seq for one in transitions] == list(range(1, 12 * 8 * 6 + 1))


async def test_a_call_rolled_back_leaves_no_gap(own_store: Store) -> None:
    link = await own_store.connection()
    first = await own_store.queued(link)
    sql = await asyncpg.connect(own_store.dsn)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute(
        "SELECT FROM transition_datasets(ARRAY[ROW($1, 'CANCELLED', NULL, false, 'x', NULL, NULL, NULL, NULL, NULL,"
        " NULL, NULL)::requested_change])",
        first,
    )
    assert await sql.fetchval("SELECT max(seq) FROM transition") == 2
    await transaction.rollback()
    await sql.close()
    await own_store.change(Change(first, DatasetStatus.CANCELLED))
    assert [one.seq for one in await own_store.transitions()] == [1, 2]


async def test_room_is_made_before_it_is_needed_by_several_servers_at_once(own_store: Store) -> None:
    await small_partitions(own_store.sql, 100)
    keeper = JournalKeeper(own_store.database, retention=TEN_YEARS, partition_transitions=100)
    await fill(own_store, 60)
    await asyncio.gather(*(keeper.make_room() for _ in range(5)))
    partitions = await journal_room.journal_partitions(own_store.database)
    assert [(one.from_seq, one.to_seq) for one in partitions] == [(1, 101), (101, 201)]
    await fill(own_store, 120)
    assert await own_store.head_seq() == 180


async def test_whoever_meets_a_full_journal_waits_for_room(own_store: Store) -> None:
    await small_partitions(own_store.sql, 100)
    await fill(own_store, 100)
    link = await own_store.connection()
    met = asyncio.Event()

    def note(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if event["event"] == "store_gave_up":
            met.set()
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    try:
        queueing = asyncio.create_task(own_store.queued(link))
        await met.wait()
        await journal_room.make_journal_room(own_store.database, 100)
        await queueing
    finally:
        structlog.reset_defaults()
    assert await own_store.head_seq() == 101


async def test_the_room_of_what_is_too_old_is_given_back_by_whole_partitions(own_store: Store) -> None:
    await small_partitions(own_store.sql, 100)
    keeper = JournalKeeper(own_store.database, retention=TEN_YEARS, partition_transitions=100)
    await fill(own_store, 60)
    await keeper.make_room()
    await fill(own_store, 90)
    now = JournalKeeper(own_store.database, retention=NOTHING, partition_transitions=100)
    await keeper.retain()
    assert (await journal.journal_bounds(own_store.database)).oldest_seq == 1

    await now.retain()

    bounds = await journal.journal_bounds(own_store.database)
    assert (bounds.oldest_seq, bounds.head_seq) == (150, 150)
    kept = await journal.read_transitions(own_store.database, 0, 1000)
    assert [one.seq for one in kept] == list(range(101, 151))
    first, *_ = await journal_room.journal_partitions(own_store.database)
    assert first.from_seq == 101


async def test_the_first_to_start_makes_the_first_partition_of_its_size(server: PostgresServer) -> None:
    await server.execute("CREATE DATABASE roomless")
    dsn = server.dsn_of("roomless")
    await migrate(dsn)
    async with open_database(dsn, connections_max=4) as database:
        assert await journal_room.journal_partitions(database) == []
        keepers = [JournalKeeper(database, retention=NOTHING, partition_transitions=100) for _ in range(3)]
        await keepers[0].retain()
        await asyncio.gather(*(keeper.make_room() for keeper in keepers))
        assert await journal_room.journal_partitions(database) == [JournalPartition(1, 101)]
        await keepers[0].retain()
        bounds = await journal.journal_bounds(database)
        assert (bounds.oldest_seq, bounds.head_seq) == (1, 0)
    await server.execute("DROP DATABASE roomless")


@pytest.mark.parametrize(("old", "oldest_seq"), [(0, 1), (1, 2), (10, 11), (19, 20), (20, 20)])
async def test_a_journal_that_never_fills_a_partition_forgets_in_time_too(
    own_store: Store, old: int, oldest_seq: int
) -> None:
    await fill(own_store, 20)
    async with own_store.sql.transaction():
        await own_store.sql.execute("SET LOCAL session_replication_role = replica")
        await own_store.sql.execute(
            "UPDATE transition SET occurred = occurred - interval '31 days' WHERE seq <= $1", old
        )
    keeper = JournalKeeper(own_store.database, retention=timedelta(days=30), partition_transitions=100)
    for _ in range(2):
        await keeper.retain()
        bounds = await journal.journal_bounds(own_store.database)
        assert (bounds.oldest_seq, bounds.head_seq) == (oldest_seq, 20)
    async with own_store.sql.transaction():
        await own_store.sql.execute("SET LOCAL session_replication_role = replica")
        await own_store.sql.execute(
            "UPDATE transition SET occurred = occurred + interval '31 days' WHERE seq <= $1", old
        )


async def test_the_longest_times_that_can_be_set_are_times_to_the_database(own_store: Store) -> None:
    await fill(own_store, 10)
    longest = timedelta(days=LARGEST["journal_retention_days"])
    await JournalKeeper(own_store.database, retention=longest, partition_transitions=100).retain()
    await FindingsKeeper(own_store.database, longest).retain()
    await RecordKeeper(own_store.database, LARGEST["superseded_records_seconds"]).retain()
    await Eraser(own_store.database, LARGEST["superseded_records_seconds"]).erase()
    assert (await journal.journal_bounds(own_store.database)).oldest_seq == 1


async def test_a_partition_in_use_is_dropped_later_and_no_writer_waits_for_it(own_store: Store) -> None:
    await small_partitions(own_store.sql, 100)
    keeper = JournalKeeper(own_store.database, retention=NOTHING, partition_transitions=100)
    await fill(own_store, 60)
    await keeper.make_room()
    await fill(own_store, 90)
    async with own_store.sql.transaction():
        await own_store.sql.fetch("SELECT seq FROM transition WHERE seq < 5")
        await keeper.retain()
        # Not told of any more, but still there.
        assert (await journal.journal_bounds(own_store.database)).oldest_seq == 150
        assert await own_store.sql.fetchval("SELECT min(seq) FROM transition") == 1
        await fill(own_store, 10)
    await keeper.retain()
    assert await own_store.sql.fetchval("SELECT min(seq) FROM transition") == 101


async def test_no_partition_is_dropped_before_one_that_is_older(own_store: Store) -> None:
    await small_partitions(own_store.sql, 100)
    keeper = JournalKeeper(own_store.database, retention=NOTHING, partition_transitions=100)
    for transitions in (60, 90, 100):
        await fill(own_store, transitions)
        await keeper.make_room()
    async with own_store.sql.transaction():
        await own_store.sql.fetch("SELECT FROM transition_1")
        await keeper.retain()
        assert [one.seq for one in await own_store.transitions()] == list(range(1, 251))
    await keeper.retain()
    assert [one.seq for one in await own_store.transitions()] == list(range(201, 251))


async def test_what_is_still_told_of_is_not_dropped_whoever_asks(own_store: Store) -> None:
    await small_partitions(own_store.sql, 2)
    await fill(own_store, 2)
    await journal_room.make_journal_room(own_store.database, 2)
    await journal_room.raise_oldest_seq(own_store.database, 2)
    assert await journal_room.drop_journal_partition(own_store.database, 1)
    assert [one.seq for one in await own_store.transitions()] == [1, 2]


async def test_a_journal_that_was_emptied_goes_on_where_it_was(own_store: Store) -> None:
    await small_partitions(own_store.sql, 2)
    await fill(own_store, 2)
    await journal_room.make_journal_room(own_store.database, 2)
    for oldest_seq in (3, 1):
        # A server that would keep more does not bring back what another has given up.
        await journal_room.raise_oldest_seq(own_store.database, oldest_seq)
    assert await journal_room.drop_journal_partition(own_store.database, 1)
    assert await own_store.transitions() == []
    assert await own_store.head_seq() == 2
    await fill(own_store, 2)
    assert [one.seq for one in await own_store.transitions()] == [3, 4]


async def test_there_are_never_many_partitions(own_store: Store) -> None:
    await small_partitions(own_store.sql, 2)
    keeper = JournalKeeper(own_store.database, retention=TEN_YEARS, partition_transitions=2)
    for _ in range(PARTITIONS_MAX + 5):
        await keeper.make_room()
        await fill(own_store, 2)
    await keeper.retain()
    partitions = await journal_room.journal_partitions(own_store.database)
    bounds = await journal.journal_bounds(own_store.database)
    assert len([one for one in partitions if one.from_seq <= bounds.head_seq]) == PARTITIONS_MAX
    assert bounds.oldest_seq == 2 * 5 + 1


async def test_a_new_epoch_begins_after_the_newest_transition(own_store: Store) -> None:
    await fill(own_store, 10)
    first = (await journal.journal_bounds(own_store.database)).epoch
    epoch, fork_seq = await begin_new_epoch(own_store.dsn)
    assert (epoch > first, fork_seq) == (True, 10)
    assert await epochs.forks(own_store.database) == [(first, 0), (epoch, 10)]
    assert (await journal.journal_bounds(own_store.database)).epoch == epoch


async def test_what_a_call_tells_is_of_the_newest_epoch(own_store: Store) -> None:
    link = await own_store.connection()
    epoch, _ = await begin_new_epoch(own_store.dsn)
    item = an_item(link)
    queued = journal.written(await journal.queue_datasets(own_store.database, [item]))
    cancelled = journal.written(await own_store.change(Change(item.dataset_id, DatasetStatus.CANCELLED)))
    assert [one and one.epoch for one in (queued, cancelled)] == [epoch, epoch]


async def test_an_epoch_that_was_lost_does_not_come_again(own_store: Store) -> None:
    """The same backup is restored twice: what was seen after the first time is of a history of its own."""
    await fill(own_store, 10)
    lost, fork_seq = await begin_new_epoch(own_store.dsn)
    await own_store.sql.execute("DELETE FROM epoch WHERE number = $1", lost)
    again, fork_seq_again = await begin_new_epoch(own_store.dsn)
    assert again > lost
    assert fork_seq_again == fork_seq
    # Though the clock was set back.
    await own_store.sql.execute("UPDATE epoch SET number = number + 1000000000000 WHERE number = $1", again)
    later, _ = await begin_new_epoch(own_store.dsn)
    assert later == again + 1_000_000_000_001
