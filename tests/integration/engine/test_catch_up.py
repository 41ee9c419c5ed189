"""Watchers behind the ring: nothing is lost, nothing is read twice, and the writers go on."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.watch import Opened, ResumeToken, Start, WatchProgress
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.retention import JournalKeeper
from datastatus.engine.transition_ring import held_bytes
from datastatus.engine.watch_hub import WatchHub
from datastatus.store.journal import Change
from datastatus.store.opening import open_database
from stores import Store, an_item, lose_transitions, small_partitions
from watching import (
    StallingDatabase,
    a_request,
    journaled,
    of_company,
    past_dead_connections,
    running_watches,
    told_until,
)

LONG = timedelta(seconds=60)


async def test_what_concerns_a_watcher_while_it_reads_the_table_is_not_lost(store: Store) -> None:
    quiet, busy = await store.connection(), await store.connection()
    head_seq = await journaled(store, busy, 20)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=1) as (hub, watches):
        database.stall("read_transitions")
        watch = watches.watch(a_request(Start.EARLIEST, of_company(quiet)))
        telling = asyncio.create_task(told_until(watch, head_seq + 3))
        await database.held("read_transitions")

        # Comes while the page up to the head is being read; the watcher is told of the page and then of this.
        dataset_id = await store.queued(quiet)
        await journaled(store, busy, 2)
        while hub.head_seq < head_seq + 3:
            hub.poke()
            await asyncio.sleep(0)
        database.go_on("read_transitions")
        told = await telling
        await watch.aclose()
    assert [(one.dataset_id, one.to_status) for one in told] == [(dataset_id, DatasetStatus.QUEUED)]


async def test_a_stampede_reads_each_page_once(store: Store) -> None:
    watchers, pages = 1000, 5
    head_seq = await journaled(store, await store.connection(), pages * 1000)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=1) as (hub, watches):

        async def resume() -> int:
            watch = watches.watch(
                a_request(ResumeToken(hub.epoch, 0), batch_transitions_max=10_000, heartbeat=LONG)
            )
            told = await told_until(watch, head_seq)
            await watch.aclose()
            return len(told)

        told = await asyncio.gather(*(resume() for _ in range(watchers)))
    assert told == [head_seq] * watchers
    # The last page is read once more, by those who came when the journal ended within it, or by nobody.
    assert pages <= database.counts["read_transitions"] <= pages + 1
    # The tailer asks every second; all the watchers together a few times.
    assert database.counts["journal_bounds"] < 20
    assert database.counts["consistent_view"] == 0


async def test_the_next_page_is_read_while_a_watcher_is_told_of_one(store: Store) -> None:
    await journaled(store, await store.connection(), 3000)
    database = StallingDatabase(store.database)
    # A quarter of it is for those behind the ring, which begins empty: room for two pages.
    async with running_watches(database, ring_bytes_max=16 << 20) as (hub, watches):
        database.stall("read_transitions")
        watch = watches.watch(a_request(ResumeToken(hub.epoch, 0), batch_transitions_max=10, heartbeat=LONG))
        telling = asyncio.create_task(told_until(watch, 10))
        await database.held("read_transitions")
        database.go_on("read_transitions")
        database.stall("read_transitions")
        await telling
        # The second page, of which the watcher has no need for long.
        await database.held("read_transitions")
        database.go_on("read_transitions")
        assert [one.seq for one in await told_until(watch, 2000)] == list(range(11, 2001))
        await watch.aclose()


# A quarter of it is for one page, and it may not even be enough for that.
@pytest.mark.parametrize("ring_bytes_max", [6 << 20, 1])
async def test_where_there_is_room_for_one_page_none_is_read_before_it_is_asked_for(
    store: Store, ring_bytes_max: int
) -> None:
    head_seq = await journaled(store, await store.connection(), 5000)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=ring_bytes_max) as (hub, watches):
        several = [
            watches.watch(a_request(ResumeToken(hub.epoch, 0), batch_transitions_max=1000, heartbeat=LONG))
            for _ in range(4)
        ]
        # One after the other, they are told of the same page.
        for seq in range(1000, head_seq + 1, 1000):
            for watch in several:
                assert [one.seq for one in await told_until(watch, seq)] == list(range(seq - 999, seq + 1))
        for watch in several:
            await watch.aclose()
        assert len(hub._catch_up._kept) == 1
        check_kept_bytes(hub)
    assert database.counts["read_transitions"] == 5


def check_kept_bytes(hub: WatchHub) -> None:
    """What is kept is known, or there would be more and more of it, or nothing."""
    kept = hub._catch_up._kept.values()
    assert hub._catch_up._kept_bytes == sum(held_bytes(page.entries) for page in kept)


async def test_a_page_in_which_the_journal_ended_is_read_again_when_there_is_more(store: Store) -> None:
    link = await store.connection()
    async with running_watches(store.database, ring_bytes_max=1) as (hub, watches):
        for _ in range(3):
            head_seq = await journaled(store, link, 20)
            await hub.reached(await hub.bounds())
            told = await told_until(watches.watch(a_request(Start.EARLIEST)), head_seq)
            assert [one.seq for one in told] == list(range(1, head_seq + 1))
            check_kept_bytes(hub)


async def test_nobody_is_told_of_what_is_in_a_page_before_its_server_has_seen_it(store: Store) -> None:
    """It would be told again then."""
    link = await store.connection()
    await journaled(store, link, 10)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=1) as (_, watches):
        watch = watches.watch(a_request(Start.EARLIEST, of_company(link)))
        assert isinstance((await anext(watch)).body, Opened)
        database.stall("read_tail")
        await database.held("read_tail")
        await journaled(store, link, 10)
        assert [one.seq for one in await told_until(watch, 10)] == list(range(1, 11))
        database.go_on("read_tail")
        assert [one.seq for one in await told_until(watch, 20)] == list(range(11, 21))


async def test_who_waits_for_a_page_when_the_server_ends_waits_no_longer(store: Store) -> None:
    head_seq = await journaled(store, await store.connection(), 20)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=1) as (_, watches):
        database.stall("read_transitions")
        watch = watches.watch(a_request(Start.EARLIEST, heartbeat=LONG))
        telling = asyncio.create_task(told_until(watch, head_seq))
        await database.held("read_transitions")
    async with asyncio.timeout(10):
        with pytest.raises(errors.Draining):
            await telling


async def test_who_waits_for_a_page_that_is_gone_when_it_is_read_is_told_so(store: Store) -> None:
    head_seq = await journaled(store, await store.connection(), 20)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=1) as (_, watches):
        database.stall("read_transitions")
        telling = asyncio.create_task(told_until(watches.watch(a_request(Start.EARLIEST)), head_seq))
        await database.held("read_transitions")
        await lose_transitions(store.sql, after_seq=0)
        database.go_on("read_transitions")
        with pytest.raises((errors.ResumeExpired, errors.HistoryForked)):
            await telling


async def test_watchers_at_scattered_places_meet_and_then_read_together(store: Store) -> None:
    watchers, pages = 120, 30
    head_seq = await journaled(store, await store.connection(), pages * 1000)
    database = StallingDatabase(store.database)
    chance = random.Random(1)
    # A ring of eight pages; two are kept for those behind it.
    async with running_watches(database, ring_bytes_max=8 * 1000 * 1500) as (hub, watches):

        async def resume(after_seq: int) -> bool:
            watch = watches.watch(
                a_request(ResumeToken(hub.epoch, after_seq), batch_transitions_max=10_000, heartbeat=LONG)
            )
            told = await told_until(watch, head_seq)
            await watch.aclose()
            return [one.seq for one in told] == list(range(after_seq + 1, head_seq + 1))

        places = [chance.randrange(head_seq) for _ in range(watchers)]
        assert all(await asyncio.gather(*map(resume, places)))
    # Alone they would read some 1,800; in the order of their asking some 300.
    assert database.counts["read_transitions"] < 5 * pages


async def test_the_writer_goes_on_while_every_reader_is_stuck(store: Store) -> None:
    link = await store.connection()
    head_seq = await journaled(store, link, 2000)
    # As few connections as a server can be given.
    async with open_database(store.dsn, connections_max=6) as few:
        database = StallingDatabase(few)
        writer = JournalWriter(database, on_commit=lambda tail: None)
        async with (
            running_watches(database, ring_bytes_max=1) as (hub, watches),
            asyncio.TaskGroup() as tasks,
        ):
            running = tasks.create_task(writer.run())
            database.stall("read_transitions")
            telling = [
                tasks.create_task(
                    told_until(
                        watches.watch(a_request(ResumeToken(hub.epoch, 2 * n), heartbeat=LONG)), head_seq
                    )
                )
                for n in range(1000)
            ]
            # All pages that there are, and no reader is left.
            await database.held("read_transitions", 2)
            for number in range(20):
                item = an_item(link, f"written {number}")
                await writer.queue([item])
                await writer.change([Change(item.dataset_id, DatasetStatus.CANCELLED)])
            database.go_on("read_transitions")
            for n, told in enumerate(await asyncio.gather(*telling)):
                assert told[0].seq == 2 * n + 1
            running.cancel()


async def test_a_page_that_cannot_be_read_fails_those_who_wait_and_is_read_again_for_others(
    store: Store,
) -> None:
    head_seq = await journaled(store, await store.connection(), 20)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=1) as (hub, watches):
        database.stall("read_transitions")
        first = [watches.watch(a_request(Start.EARLIEST)) for _ in range(3)]
        telling = [asyncio.create_task(told_until(one, head_seq)) for one in first]
        await database.held("read_transitions")
        await store.sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        database.go_on("read_transitions")
        outcomes = await asyncio.gather(*telling, return_exceptions=True)
        assert all(isinstance(one, errors.StoreDown | list) for one in outcomes)
        told = await past_dead_connections(
            lambda: told_until(watches.watch(a_request(ResumeToken(hub.epoch, 3))), head_seq)
        )
        assert [one.seq for one in told] == list(range(4, 21))


async def test_who_waits_long_for_a_page_is_given_signs_of_life(store: Store) -> None:
    head_seq = await journaled(store, await store.connection(), 20)
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=1) as (hub, watches):
        database.stall("read_transitions")
        watch = watches.watch(a_request(ResumeToken(hub.epoch, 3)))
        opened, *signs = [await anext(watch) for _ in range(4)]
        assert isinstance(opened.body, Opened)
        # They promise nothing.
        assert {one.body for one in signs} == {WatchProgress(3, 3, head_seq)}
        database.go_on("read_transitions")
        assert [one.seq for one in await told_until(watch, head_seq)] == list(range(4, 21))


async def test_a_watcher_in_the_middle_of_a_catch_up_meets_retention_cleanly(store: Store) -> None:
    await small_partitions(store.sql, 1000)
    keeper = JournalKeeper(store.database, retention=timedelta(0), partition_transitions=1000)
    link = await store.connection()
    for _ in range(3):
        await keeper.make_room()
        await journaled(store, link, 1000)
    async with running_watches(store.database, ring_bytes_max=1) as (hub, watches):
        watch = watches.watch(a_request(Start.EARLIEST, batch_transitions_max=400))
        told = await told_until(watch, 800)
        await keeper.retain()
        # What it has in hand it may still be told; then it learns that the rest is gone, and from where on not.
        with pytest.raises(errors.ResumeExpired) as expired:
            told += await told_until(watch, 3000)
        # Whoever resumes learns it at once, and only who has missed something.
        with pytest.raises(errors.ResumeExpired):
            await anext(watches.watch(a_request(ResumeToken(hub.epoch, 2998))))
        last = await told_until(watches.watch(a_request(ResumeToken(hub.epoch, 2999))), 3000)
        assert [one.seq for one in last] == [3000]
    assert [one.seq for one in told] == list(range(1, len(told) + 1))
    assert expired.value.metadata == {"oldest_seq": "3000"}
    assert "start with a snapshot" in str(expired.value)


async def test_a_tailer_that_retention_has_overtaken_tells_even_those_to_whom_nothing_came(
    store: Store,
) -> None:
    """A filter must not hide that nobody knows any more what passed it."""
    await small_partitions(store.sql, 100)
    keeper = JournalKeeper(store.database, retention=timedelta(0), partition_transitions=100)
    quiet, busy = await store.connection(), await store.connection()
    database = StallingDatabase(store.database)
    async with running_watches(database) as (_, watches):
        database.stall("read_tail")
        watch = watches.watch(a_request(Start.NOW, of_company(quiet)))
        await anext(watch)
        await database.held("read_tail")
        await store.queued(quiet)
        for _ in range(3):
            await keeper.make_room()
            await journaled(store, busy, 98)
        await keeper.retain()
        assert (await store.sql.fetchval("SELECT min(seq) FROM transition")) > 100
        database.go_on("read_tail")
        with pytest.raises(errors.ResumeExpired):
            await told_until(watch, 10_000)


async def test_a_tailer_that_retention_has_overtaken_goes_on_where_the_journal_begins(store: Store) -> None:
    await small_partitions(store.sql, 100)
    keeper = JournalKeeper(store.database, retention=timedelta(0), partition_transitions=100)
    link = await store.connection()
    database = StallingDatabase(store.database)
    async with running_watches(database) as (hub, watches):
        await journaled(store, link, 10)
        await hub.reached(await hub.bounds())
        database.stall("read_tail")
        await database.held("read_tail")
        await journaled(store, link, 90)
        await keeper.make_room()
        await journaled(store, link, 2)
        await keeper.retain()
        assert await store.sql.fetchval("SELECT min(seq) FROM transition") == 101
        database.go_on("read_tail")
        oldest_seq = (await hub.bounds()).oldest_seq
        assert oldest_seq > 100
        watch = watches.watch(a_request(Start.EARLIEST))
        assert (await anext(watch)).token == ResumeToken(hub.epoch, oldest_seq - 1)
        head_seq = await journaled(store, link, 2)
        told = await told_until(watch, head_seq)
        assert [one.seq for one in told] == list(range(oldest_seq, head_seq + 1))


async def test_retention_under_writers_and_readers_loses_nothing_that_is_kept(store: Store) -> None:
    await small_partitions(store.sql, 200)
    moment = timedelta(milliseconds=50)
    keeper = JournalKeeper(store.database, retention=moment, partition_transitions=200)
    links = [await store.connection() for _ in range(4)]
    over = asyncio.Event()

    async def write(link) -> None:
        for _ in range(25):
            await keeper.make_room()
            await journaled(store, link, 40)

    async def forget() -> None:
        while not over.is_set():
            await keeper.retain()

    async def read(watches) -> int:
        """Up to the end, from a snapshot again wherever what follows is gone; how often it was."""
        expiries = 0
        start: Start | ResumeToken = Start.EARLIEST
        while True:
            watch = watches.watch(a_request(start, batch_transitions_max=7))
            try:
                told = await told_until(watch, 4000)
            except errors.ResumeExpired:
                expiries += 1
                start = Start.SNAPSHOT
            else:
                seqs = [one.seq for one in told]
                assert seqs == list(range(seqs[0], 4001)) if seqs else True
                return expiries
            finally:
                await watch.aclose()

    async with (
        running_watches(store.database, ring_bytes_max=1) as (_, watches),
        asyncio.TaskGroup() as tasks,
    ):
        reading = [tasks.create_task(read(watches)) for _ in range(5)]
        forgetting = tasks.create_task(forget())
        await asyncio.gather(*map(write, links))
        await asyncio.gather(*reading)
        over.set()
        await forgetting
    assert await store.head_seq() == 4000
