"""The live part of a watch: heartbeats, closings, limits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from datastatus import errors
from datastatus.domain.dataset import Transition
from datastatus.domain.watch import (
    Batch,
    Closing,
    ClosingReason,
    Opened,
    ResumeToken,
    Start,
    StatusFilter,
    WatchProgress,
)
from datastatus.engine import watch, watch_hub
from datastatus.engine.watch_hub import WatchHub
from datastatus.rpc.watch_encoder import WatchEncoder, encode_transition
from datastatus.store import journal
from stores import Store, an_item
from watching import (
    HEARTBEAT,
    StallingDatabase,
    a_request,
    journaled,
    of_company,
    running_watches,
    told_until,
    written,
)

NOBODY = StatusFilter(company_ids=frozenset([uuid4()]))


async def test_an_idle_filtered_watch_is_told_how_far_nothing_passed(store: Store) -> None:
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        watch = watches.watch(a_request(Start.NOW, NOBODY))
        assert isinstance((await anext(watch)).body, Opened)
        place = 0
        for transitions in (0, 20, 0, 40):
            if transitions:
                await journaled(store, link, transitions)
            async for message in watch:
                progress = message.body
                assert isinstance(progress, WatchProgress)
                assert progress.after_seq == place
                assert message.token == ResumeToken(hub.epoch, progress.through_seq)
                place = progress.through_seq
                if place == await store.head_seq():
                    break


async def test_an_idle_watch_is_told_so_once_a_heartbeat(store: Store) -> None:
    async with running_watches(store.database) as (_, watches):
        watch = watches.watch(a_request(Start.NOW))
        begin = time.monotonic()
        opened, *idle = [await anext(watch) for _ in range(4)]
        assert isinstance(opened.body, Opened)
        assert {one.body for one in idle} == {WatchProgress(0, 0, 0)}
        assert time.monotonic() - begin >= 3 * HEARTBEAT.total_seconds()


async def test_whoever_may_no_longer_watch_is_told_within_a_heartbeat(store: Store) -> None:
    allowed = True
    async with running_watches(store.database) as (hub, watches):
        watch = watches.watch(a_request(Start.NOW), lambda: allowed)
        await anext(watch)
        assert isinstance((await anext(watch)).body, WatchProgress)
        allowed = False
        rest = [message async for message in watch]
    closing = rest[-1].body
    assert isinstance(closing, Closing)
    assert closing.reason is ClosingReason.AUTH_EXPIRED
    assert rest[-1].token == ResumeToken(hub.epoch, 0)


async def test_an_old_stream_is_closed_with_a_place_to_go_on(store: Store) -> None:
    async with running_watches(store.database, age_max=0.3) as (hub, watches):
        messages = [message async for message in watches.watch(a_request(Start.NOW))]
    closing = messages[-1].body
    assert isinstance(closing, Closing)
    assert closing.reason is ClosingReason.MAX_AGE
    assert messages[-1].token == ResumeToken(hub.epoch, 0)


async def test_at_a_drain_everybody_is_sent_away_at_another_time_and_nobody_comes_in(store: Store) -> None:
    async with running_watches(store.database) as (hub, watches):
        open_ones = [watches.watch(a_request(Start.NOW)) for _ in range(20)]
        await asyncio.gather(*(anext(one) for one in open_ones))
        hub.drain()
        last = [[message async for message in one][-1] for one in open_ones]
        with pytest.raises(errors.Draining):
            await anext(watches.watch(a_request(Start.NOW)))
    closings = [one.body for one in last if isinstance(one.body, Closing)]
    assert {one.reason for one in closings} == {ClosingReason.DRAINING}
    assert len({one.retry_after for one in closings}) == 20


async def test_whoever_is_sent_away_goes_on_where_it_was_told_of_last(store: Store) -> None:
    """With another filter it is then told what the first one hid."""
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        hidden = StatusFilter(data_types=frozenset(["bills"]))
        watch = watches.watch(a_request(Start.NOW, hidden, heartbeat=timedelta(seconds=60)))
        await anext(watch)
        closing = asyncio.ensure_future(anext(watch))
        with hub.subscribed(None) as everything:
            head_seq = await journaled(store, link, 20)
            while hub.head_seq < head_seq:
                await everything.wait(10)
            # The watch has been woken, too, and looks at what it does not tell.
            await asyncio.sleep(0)
        hub.drain()
        last = await closing
    assert isinstance(last.body, Closing)
    assert last.token == ResumeToken(hub.epoch, 0)


async def test_there_is_a_limit_on_watchers_and_who_leaves_makes_room(store: Store) -> None:
    async with running_watches(store.database, watchers_max=2) as (_, watches):
        first, second, third = (watches.watch(a_request(Start.NOW)) for _ in range(3))
        await anext(first)
        await anext(second)
        with pytest.raises(errors.TooManyWatchers, match="2 watchers at most"):
            await anext(third)
        await first.aclose()
        assert isinstance((await anext(watches.watch(a_request(Start.NOW)))).body, Opened)


@pytest.mark.parametrize("start", [Start.NOW, Start.EARLIEST, ResumeToken(0, 0)], ids=str)
async def test_a_watch_that_the_store_does_not_let_begin_ends_with_a_reason(
    store: Store, monkeypatch: pytest.MonkeyPatch, start: Start | ResumeToken
) -> None:
    monkeypatch.setattr(watch, "_FIX_SECONDS_MAX", 0.05)
    database = StallingDatabase(store.database)
    async with running_watches(database) as (_, watches):
        database.stall("journal_bounds")
        with pytest.raises(errors.StoreDown):
            await anext(watches.watch(a_request(start)))


async def test_nothing_is_kept_of_a_watcher_who_has_left(store: Store) -> None:
    async with running_watches(store.database) as (hub, watches):
        watch = watches.watch(a_request(Start.NOW, NOBODY))
        await anext(watch)
        assert len(hub._concerned_by_key) == 1
        await watch.aclose()
        assert hub._concerned_by_key == {}


async def test_a_transition_is_encoded_once_for_all_watchers(store: Store) -> None:
    encoded = Counter[int]()

    def encode(one: Transition) -> bytes:
        encoded[one.seq] += 1
        return encode_transition(one)

    link = await store.connection()
    async with running_watches(store.database, encode=encode) as (_, watches):
        filters = [(), (of_company(link),), (NOBODY,), (StatusFilter(data_types=frozenset(["bills"])),)]
        open_ones = [watches.watch(a_request(Start.NOW, *filters[n % 4])) for n in range(40)]
        await asyncio.gather(*(anext(one) for one in open_ones))
        await journal.queue_datasets(store.database, [an_item(link, "bills", supported=False)])
        head_seq = await journaled(store, link, 98)
        told = await asyncio.gather(*(told_until(one, head_seq) for one in open_ones))
    assert [len(one) for one in told] == [100, 100, 0, 2] * 10
    assert encoded == Counter(range(1, 101))


async def test_to_check_the_history_skips_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is ahead of the server whenever it looks."""
    monkeypatch.setattr(watch_hub, "_CHECK_SECONDS", 0)
    link = await store.connection()
    async with running_watches(store.database) as (_, watches):
        following = watches.watch(a_request(Start.NOW, of_company(link)))
        await anext(following)
        for _ in range(5):
            head_seq = await journaled(store, link, 2)
            told = await told_until(following, head_seq)
            assert [one.seq for one in told] == [head_seq - 1, head_seq]


async def test_watchers_at_the_same_place_are_told_within_their_own_limits(store: Store) -> None:
    link = await store.connection()
    for number in range(7):
        await written(store, link, f"type {number}")
    length = max(len(encode_transition(one)) for one in await store.transitions())
    three_fit = 4 * length + 50
    limits: dict[tuple[int, int], list[int]] = {
        (256, 1 << 20): [7],
        (3, 1 << 20): [3, 3, 1],
        (256, three_fit): [3, 3, 1],
        (2, three_fit): [2, 2, 2, 1],
        # One at least, however long it is.
        (256, 1): [1] * 7,
    }
    encoder = WatchEncoder()
    async with running_watches(store.database) as (_, watches):
        for (transitions_max, bytes_max), expected in limits.items():
            request = a_request(
                Start.EARLIEST, batch_transitions_max=transitions_max, batch_bytes_max=bytes_max
            )
            counts = []
            async for message in watches.watch(request):
                if isinstance(message.body, Batch):
                    counts.append(len(message.body.entries))
                    assert counts[-1] == 1 or len(encoder.encode(message)) <= bytes_max
                    if sum(counts) == 7:
                        break
            assert counts == expected


async def test_what_was_made_for_one_watcher_is_not_all_for_who_comes_when_there_is_more(
    store: Store,
) -> None:
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        for _ in range(3):
            head_seq = await journaled(store, link, 2)
            await hub.reached(await hub.bounds())
            told = await told_until(watches.watch(a_request(Start.EARLIEST)), head_seq)
            assert [one.seq for one in told] == list(range(1, head_seq + 1))


async def test_few_of_the_batches_that_watchers_share_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_RUNS_MAX", 2)
    link = await store.connection()
    async with running_watches(store.database) as (_, watches):
        following = watches.watch(a_request(Start.NOW))
        await anext(following)
        for _ in range(4):
            await told_until(following, await journaled(store, link, 2))
        assert len(watches._shared_batches._known) == 2


async def test_what_concerns_nobody_wakes_nobody(store: Store) -> None:
    """Filters by id are looked up: a watcher is not asked about what cannot pass."""
    mine, other = await store.connection(), await store.connection()
    hub = WatchHub(store.database, encode_transition, ring_bytes_max=1 << 20, watchers_max=1)
    running = asyncio.create_task(hub.run())
    await hub.opened()
    with hub.subscribed({mine.company_id.bytes}) as subscription, hub.subscribed(None) as everything:
        head_seq = await journaled(store, other, 20)
        while hub.head_seq < head_seq:
            await everything.wait(10)
        assert subscription.first_seq is None
        assert await hub.read(subscription, 0, 100) == ((), head_seq)
        await store.queued(mine)
        await subscription.wait(10)
        [entry], through_seq = await hub.read(subscription, head_seq, 100)
        assert (entry.transition.company_id, through_seq) == (mine.company_id, head_seq + 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_of_more_than_is_looked_at_in_one_go_the_rest_follows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datastatus.engine.watch._SCAN_TRANSITIONS", 3)
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        following = watches.watch(a_request(Start.NOW, of_company(link)))
        await anext(following)
        head_seq = await journaled(store, link, 20)
        while hub.head_seq < head_seq:
            hub.poke()
            await asyncio.sleep(0)
        told = await told_until(following, head_seq)
    assert [one.seq for one in told] == list(range(1, head_seq + 1))


async def test_what_this_process_commits_is_told_without_being_read(store: Store) -> None:
    link = await store.connection()
    database = StallingDatabase(store.database)
    async with running_watches(database) as (hub, watches):
        watch = watches.watch(a_request(Start.NOW))
        await anext(watch)
        # Reads go unanswered from here on.
        database.stall("read_tail")
        await database.held("read_tail")
        tails = [await written(store, link, data_type) for data_type in ("bills", "items", "invoices")]
        # Two calls end at the same moment, and are heard of in the wrong order.
        for tail in (tails[1], tails[0], tails[2]):
            hub.committed(tail)
        told = await told_until(watch, tails[-1].transitions[-1].seq)
        assert told == [one for tail in tails for one in tail.transitions]
        # What was read meanwhile is not told again.
        database.go_on("read_tail")
        head_seq = await journaled(store, link, 2)
        hub.poke()
        assert [one.seq for one in await told_until(watch, head_seq)] == [head_seq - 1, head_seq]


async def test_what_this_process_commits_behind_others_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_hub, "_POLL_SECONDS", 3600)
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        watch = watches.watch(a_request(Start.NOW))
        await anext(watch)
        tails = [await written(store, link, data_type) for data_type in ("bills", "items", "invoices")]
        # The first is of another process, and the others are heard of in the wrong order.
        hub.committed(tails[2])
        hub.committed(tails[1])
        told = await told_until(watch, tails[2].transitions[-1].seq)
        assert told == [one for tail in tails for one in tail.transitions]
        assert hub._ahead == {}, "what has been read is not waited for any more"


async def test_what_this_process_commits_untold_does_not_wait_for_what_others_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_POLL_SECONDS", "_PAUSE_SECONDS"):
        monkeypatch.setattr(watch_hub, name, 3600)
    link = await store.connection()
    database = StallingDatabase(store.database)
    async with running_watches(database) as (hub, watches):
        watch = watches.watch(a_request(Start.NOW))
        await anext(watch)
        # Before its first read there is nothing to pause after.
        first = await written(store, link, "items")
        hub.committed(None)
        await told_until(watch, first.transitions[-1].seq)
        reads = database.counts["read_tail"]
        tail = await written(store, link, "bills")
        hub.heard(tail.transitions[-1].seq)
        for _ in range(100):
            await asyncio.sleep(0)
        assert database.counts["read_tail"] == reads
        # As publishing does, which does not say what it has journaled.
        hub.committed(None)
        assert await told_until(watch, tail.transitions[-1].seq) == [*tail.transitions]


async def test_a_watcher_that_was_told_all_does_not_look_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await store.connection()
    async with running_watches(store.database) as (hub, watches):
        reads = 0
        read = hub.read

        async def counted(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(*arguments)

        monkeypatch.setattr(hub, "read", counted)
        watch = watches.watch(replace(a_request(Start.NOW), heartbeat=timedelta(seconds=60)))
        await anext(watch)
        for _ in range(10):
            await told_until(watch, await journaled(store, link, 2))
        assert reads < 15


async def test_whoever_looks_through_much_that_does_not_pass_lets_others_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SCAN_TRANSITIONS", 1)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running_watches(store.database) as (hub, watches):
        link = await store.connection()
        hidden_seq = await journaled(store, link, 200)
        await written(store, link, "bills")
        await hub.reached(await hub.bounds())
        passing = StatusFilter(data_types=frozenset(["bills"]))
        looking = watches.watch(a_request(Start.EARLIEST, passing, heartbeat=timedelta(seconds=60)))
        assert isinstance((await anext(looking)).body, Opened)
        going_on = asyncio.create_task(others())
        assert isinstance((await anext(looking)).body, Batch)
        going_on.cancel()
    assert turns >= hidden_seq
