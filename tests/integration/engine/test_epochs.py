"""Histories of the journal, as a watch meets them: new epochs, lost ones, and a store that was restored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from datastatus import errors
from datastatus.domain.watch import (
    Batch,
    Opened,
    ResumeToken,
    Snapshot,
    SnapshotEnd,
    Start,
    WatchMessage,
    WatchRequest,
)
from datastatus.engine.snapshots import Spool
from datastatus.engine.watch import Watches
from datastatus.engine.watch_hub import WatchHub
from datastatus.store import journal
from datastatus.store.database import View
from datastatus.store.journal import Tail, journal_bounds
from datastatus.store.migrate import begin_new_epoch
from postgres import PostgresServer
from stores import Link, Store, fresh_store, lose_transitions
from watching import (
    StallingDatabase,
    a_request,
    journaled,
    of_company,
    past_dead_connections,
    running_watches,
    told_until,
    written,
)


async def test_what_waits_for_a_history_that_is_no_longer_ours_is_forgotten(store: Store) -> None:
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        # Its history ends before what is missing is committed.
        tail = await written(store, link, "bills")
        lost = [one._replace(seq=one.seq + 5, description="never was") for one in tail.transitions]
        hub.committed(Tail(tail.epoch, lost))
        epoch, _ = await begin_new_epoch(store.dsn)
        while hub.epoch != epoch:
            hub.poke()
            await asyncio.sleep(0)
        watch = watches.watch(a_request(ResumeToken(epoch, tail.transitions[-1].seq)))
        for _ in range(4):
            head_seq = await journaled(store, link, 2)
            told = await told_until(watch, head_seq)
            assert [one.seq for one in told] == [head_seq - 1, head_seq]
            assert all(one.description != "never was" for one in told)
        await watch.aclose()


async def test_what_this_process_commits_in_another_epoch_is_no_part_of_this_one(store: Store) -> None:
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        watch = watches.watch(a_request(Start.NOW))
        await anext(watch)
        await begin_new_epoch(store.dsn)
        hub.committed(await written(store, link, "bills"))
        with pytest.raises(errors.HistoryForked):
            await told_until(watch, 1)


async def test_a_live_stream_of_an_old_epoch_ends_and_is_told_nothing_of_the_new_one(store: Store) -> None:
    link = await store.connection()
    await journaled(store, link, 10)
    async with running_watches(store.database) as (hub, watches):
        old = hub.epoch
        watch = watches.watch(a_request(Start.EARLIEST))
        assert len(await told_until(watch, 10)) == 10
        await begin_new_epoch(store.dsn)
        await journaled(store, link, 10)
        hub.poke()
        with pytest.raises(errors.HistoryForked) as forked:
            await told_until(watch, 20)
        assert forked.value.metadata == {"fork_seq": "10"}
        # What both histories share can be gone on from.
        again = await told_until(watches.watch(a_request(ResumeToken(old, 10))), 20)
        assert [one.seq for one in again] == list(range(11, 21))
        with pytest.raises(errors.HistoryForked):
            await anext(watches.watch(a_request(ResumeToken(old, 11))))


# So small a ring has but one of them: the table is read, and what was read is kept.
@pytest.mark.parametrize("ring_bytes_max", [1, 1 << 20])
@pytest.mark.parametrize("announced", [True, False])
async def test_what_was_read_of_a_history_that_is_lost_is_told_to_nobody(
    store: Store, ring_bytes_max: int, announced: bool
) -> None:
    link = await store.connection()
    async with running_watches(store.database, ring_bytes_max=ring_bytes_max) as (hub, watches):
        await journaled(store, link, 20)
        # Once more, so that what is told may be what was made for another.
        lost, again = [await told_until(watches.watch(a_request(Start.EARLIEST)), 20) for _ in range(2)]
        assert lost == again
        await lose_transitions(store.sql, after_seq=10)
        if announced:
            await begin_new_epoch(store.dsn)
        while hub.history == 0:
            hub.poke()
            await asyncio.sleep(0)
        await journaled(store, link, 10)
        told = await told_until(watches.watch(a_request(Start.EARLIEST)), 20)
        kept = hub._catch_up._kept.values()
        assert hub._catch_up._kept_bytes == sum(page.held_bytes for page in kept)
    assert told == await store.transitions()
    assert told[:10] == lost[:10]
    assert told[10:] != lost[10:]


async def test_what_is_being_read_as_its_history_ends_is_told_to_nobody_who_comes_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await store.connection()
    await journaled(store, link, 20)
    read = journal.read_transitions
    async with running_watches(store.database, ring_bytes_max=1) as (hub, watches):

        async def read_as_it_ends(*arguments: Any) -> Any:
            monkeypatch.undo()
            found = await read(*arguments)
            await lose_transitions(store.sql, after_seq=10)
            while hub.history == 0:
                hub.poke()
                await asyncio.sleep(0)
            await journaled(store, link, 10)
            await hub.reached(await hub.bounds())
            return found

        monkeypatch.setattr(journal, "read_transitions", read_as_it_ends)
        opened, *nothing = (await told_until_it_forks(watches.watch(a_request(Start.EARLIEST))))[0]
        assert isinstance(opened.body, Opened)
        assert not [one for one in nothing if isinstance(one.body, Batch)]
        told = await told_until(watches.watch(a_request(Start.EARLIEST)), 20)
    assert told == await store.transitions()


async def test_nobody_waits_for_what_a_lost_history_would_have_come_to(store: Store) -> None:
    link = await store.connection()
    async with running_watches(store.database) as (hub, _):
        await journaled(store, link, 10)
        await hub.reached(await hub.bounds())
        waiting = asyncio.create_task(hub.reached(replace(hub.known_bounds, head_seq=20)))
        await lose_transitions(store.sql, after_seq=5)
        async with asyncio.timeout(10):
            await waiting
        assert hub.history == 1


async def told_until_it_forks(
    watch: AsyncIterator[WatchMessage],
) -> tuple[list[WatchMessage], errors.HistoryForked]:
    """The rest of a watch, and with what it ends."""
    told: list[WatchMessage] = []
    try:
        async for message in watch:
            told.append(message)
    except errors.HistoryForked as exc:
        return told, exc
    raise AssertionError("the watch knows of no fork")


@asynccontextmanager
async def falling_behind(
    store: Store, link: Link
) -> AsyncIterator[tuple[StallingDatabase, WatchHub, Watches]]:
    """A server that has seen ten transitions, and sees no more until `read_tail` goes on."""
    await journaled(store, link, 10)
    database = StallingDatabase(store.database)
    async with running_watches(database) as (hub, watches):
        database.stall("read_tail")
        await database.held("read_tail")
        yield database, hub, watches


async def test_a_token_of_a_history_that_was_lost_is_refused_however_far_ours_goes(store: Store) -> None:
    """Two backups were restored one after the other: what came between is in none of our epochs."""
    link = await store.connection()
    await journaled(store, link, 10)
    first = (await journal_bounds(store.database)).epoch
    lost, _ = await begin_new_epoch(store.dsn)
    await store.sql.execute("DELETE FROM epoch WHERE number = $1", lost)
    await journaled(store, link, 10)
    epoch, _ = await begin_new_epoch(store.dsn)
    await journaled(store, link, 10)
    async with running_watches(store.database) as (_, watches):
        for seq in (5, 15, 25):
            with pytest.raises(errors.HistoryForked):
                await anext(watches.watch(a_request(ResumeToken(lost, seq))))
        for token in (ResumeToken(first, 15), ResumeToken(epoch, 25)):
            told = await told_until(watches.watch(a_request(token)), 30)
            assert told[0].seq == token.seq + 1


async def test_a_snapshot_is_of_the_epoch_that_was_opened_or_there_is_none(store: Store) -> None:
    link = await store.connection()
    async with falling_behind(store, link) as (database, hub, watches):
        old = hub.epoch
        database.stall("consistent_view")
        watch = watches.watch(a_request(Start.SNAPSHOT))
        opened = (await anext(watch)).body
        await database.held("consistent_view")
        await begin_new_epoch(store.dsn)
        for query in ("read_tail", "consistent_view"):
            database.go_on(query)
        told, forked = await told_until_it_forks(watch)
    assert isinstance(opened, Opened)
    assert opened.epoch == old
    assert forked.metadata == {"fork_seq": "10"}
    assert not [one for one in told if isinstance(one.body, SnapshotEnd)]


async def test_a_snapshot_is_whole_when_its_server_has_seen_as_much(store: Store) -> None:
    """Or what is in it would be told again."""
    link = await store.connection()
    async with falling_behind(store, link) as (database, hub, watches):
        await journaled(store, link, 10)
        watch = watches.watch(a_request(Start.SNAPSHOT, of_company(link)))
        assert isinstance((await anext(watch)).body, Opened)
        for _ in range(5):
            assert (await anext(watch)).body == Snapshot(b"")
        database.go_on("read_tail")
        async for message in watch:
            if isinstance(message.body, SnapshotEnd):
                assert message.token == ResumeToken(hub.epoch, 20)
                break
        head_seq = await journaled(store, link, 2)
        assert [one.seq for one in await told_until(watch, head_seq)] == [21, 22]


async def test_nothing_of_another_history_follows_a_snapshot(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await store.connection()
    await journaled(store, link, 10)
    fill = Spool.fill
    async with running_watches(store.database) as (hub, watches):
        old = hub.epoch

        async def filled_when_it_ends(spool: Spool, view: View, request: WatchRequest) -> None:
            await fill(spool, view, request)
            await begin_new_epoch(store.dsn)
            while hub.epoch == old:
                hub.poke()
                await asyncio.sleep(0)

        monkeypatch.setattr(Spool, "fill", filled_when_it_ends)
        watch = watches.watch(a_request(Start.SNAPSHOT))
        told, _ = await told_until_it_forks(watch)
    assert told[-1] == WatchMessage(SnapshotEnd(10), ResumeToken(old, 10))


async def test_a_token_of_a_server_that_knows_more_is_waited_for(store: Store) -> None:
    """The other server has seen a new epoch, and transitions in it, that this one has not."""
    link = await store.connection()
    async with falling_behind(store, link) as (database, hub, watches):
        old = hub.epoch
        epoch, _ = await begin_new_epoch(store.dsn)
        head_seq = await journaled(store, link, 10)
        assert (hub.epoch, hub.head_seq) == (old, 10)
        opening = asyncio.create_task(anext(watches.watch(a_request(ResumeToken(epoch, head_seq)))))
        database.go_on("read_tail")
        assert (await opening).token == ResumeToken(epoch, head_seq)


async def test_what_came_before_an_epoch_that_a_server_has_not_seen_is_told(store: Store) -> None:
    """The server learns of both at once: it goes on at the head, and its watchers where they stand."""
    link = await store.connection()
    async with falling_behind(store, link) as (database, hub, watches):
        old = hub.epoch
        await journaled(store, link, 10)
        epoch, _ = await begin_new_epoch(store.dsn)
        assert (hub.epoch, hub.head_seq) == (old, 10)
        # It is there before its server knows.
        database.stall("journal_bounds")
        watch = watches.watch(a_request(ResumeToken(old, 10), of_company(link)))
        opening = asyncio.create_task(anext(watch))
        await database.held("journal_bounds")
        database.go_on("journal_bounds")
        database.go_on("read_tail")
        assert (await opening).token == ResumeToken(epoch, 10)
        assert [one.seq for one in await told_until(watch, 20)] == list(range(11, 21))


async def test_a_restore_of_an_older_state_forks_what_was_seen_past_it(
    newest_server: PostgresServer, newest_template: str
) -> None:
    """A backup, live on while watched, then restored over it; the servers have not been stopped."""
    async with fresh_store(newest_server, newest_template) as store:
        name = await store.sql.fetchval("SELECT current_database()")
        link = await store.connection()
        await journaled(store, link, 10)
        await cut_off(newest_server, name)
        await newest_server.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
        await newest_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        async with running_watches(store.database) as (hub, watches):
            await journaled(store, link, 10)
            epoch = hub.epoch
            watch = watches.watch(a_request(Start.EARLIEST))
            assert len(await told_until(watch, 20)) == 20
            not_looking = watches.watch(a_request(Start.EARLIEST))
            assert len(await told_until(not_looking, 20)) == 20

            await cut_off(newest_server, name)
            await newest_server.execute(f"ALTER DATABASE {name} RENAME TO {name}_lost")
            await newest_server.execute(f"ALTER DATABASE {name}_backup RENAME TO {name}")
            with pytest.raises(errors.HistoryForked) as forked:
                await told_until(watch, 21)
            assert forked.value.metadata == {"fork_seq": "10"}
            with pytest.raises(errors.HistoryForked):
                await past_dead_connections(lambda: anext(watches.watch(a_request(ResumeToken(epoch, 20)))))
            opened = await past_dead_connections(
                lambda: anext(watches.watch(a_request(ResumeToken(epoch, 10))))
            )
            assert opened.token == ResumeToken(epoch, 10)
            # Whoever looks when there is as much as before is told, too.
            await past_dead_connections(lambda: journaled(store, link, 20))
            while hub.head_seq < 30:
                hub.poke()
                await asyncio.sleep(0)
            with pytest.raises(errors.HistoryForked) as forked:
                await told_until(not_looking, 30)
            assert forked.value.metadata == {"fork_seq": "10"}
        await newest_server.execute(f"DROP DATABASE {name}_lost")


async def cut_off(server: PostgresServer, name: str) -> None:
    """Let nobody be connected to the database."""
    await server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
