"""Snapshots: whole, of one moment, few at once, and not at the pace of the slowest."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.watch import Opened, Snapshot, SnapshotEnd, Start, StatusFilter
from datastatus.store.journal import Change
from datastatus.v1 import watch_pb2
from stores import Link, Store
from watching import (
    StallingDatabase,
    a_request,
    journaled,
    of_company,
    of_datasets,
    running_watches,
    told_until,
)


def read(encoded: bytes) -> list[str]:
    return [one.id for one in watch_pb2.StatusSnapshot.FromString(encoded).datasets]


async def snapshot_of(watch) -> tuple[list[str], int]:
    """The ids in the snapshot, and its seq; the watch goes on from there."""
    ids: list[str] = []
    async for message in watch:
        match message.body:
            case Snapshot(encoded):
                ids += read(encoded)
                # There is no place to resume at before it is whole.
                assert message.token is None
            case SnapshotEnd(seq):
                return ids, seq
    raise AssertionError("the snapshot did not end")


async def test_a_snapshot_is_of_one_moment_and_what_follows_begins_right_there(store: Store) -> None:
    link = await store.connection()
    first = await store.queued(link, "bills")
    database = StallingDatabase(store.database)
    async with running_watches(database) as (_, watches):
        database.stall("consistent_view")
        watch = watches.watch(a_request(Start.SNAPSHOT))
        telling = asyncio.create_task(snapshot_of(watch))
        await database.held("consistent_view")
        # The view is open but has read nothing yet: whatever it sees, the rest follows.
        second = await store.queued(link, "items")
        database.go_on("consistent_view")
        ids, seq = await telling
        await store.change(Change(first, DatasetStatus.CANCELLED))
        told = [one.dataset_id for one in await told_until(watch, 3)]
    assert set(ids) == {str(first), str(second)} if seq == 2 else {str(first)}
    assert told == ([first] if seq == 2 else [second, first])


async def test_each_part_is_one_that_any_client_takes(store: Store) -> None:
    link = await store.connection()
    wanted = []
    for number in range(12):
        dataset_id = await store.queued(link)
        message = "x" * (5_000_000 if number == 5 else 900_000)
        await store.change(Change(dataset_id, DatasetStatus.CANCELLED, error_message=message))
        wanted.append(dataset_id)
    parts: list[list[str]] = []
    async with running_watches(store.database) as (_, watches):
        async for message in watches.watch(a_request(Start.SNAPSHOT, of_datasets(*wanted))):
            match message.body:
                case Snapshot(encoded) if encoded:
                    parts.append(read(encoded))
                    # One that is too large alone is alone.
                    assert len(encoded) < 4 << 20 or len(parts[-1]) == 1
                case SnapshotEnd():
                    break
    assert sorted(one for part in parts for one in part) == sorted(map(str, wanted))


async def test_few_are_read_at_once_and_who_waits_holds_nothing_and_is_given_signs_of_life(
    store: Store,
) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    # Whoever asks for more than he names is not quick.
    everything = [(), (of_datasets(dataset_id), of_company(link))]
    database = StallingDatabase(store.database)
    async with running_watches(database) as (_, watches):
        database.stall("consistent_view")
        watch_all = [watches.watch(a_request(Start.SNAPSHOT, *everything[n % 2])) for n in range(50)]
        telling = [asyncio.create_task(snapshot_of(one)) for one in watch_all]
        await database.held("consistent_view", 3)
        waiting = watches.watch(a_request(Start.SNAPSHOT))
        assert isinstance((await anext(waiting)).body, Opened)
        for _ in range(3):
            assert (await anext(waiting)).body == Snapshot(b"")
        # Whoever names datasets is quick: a view is left for him.
        assert database.views == 3
        watch_all += [watches.watch(a_request(Start.SNAPSHOT, of_datasets(dataset_id))) for _ in range(5)]
        telling += [asyncio.create_task(snapshot_of(one)) for one in watch_all[50:]]
        await database.held("consistent_view", 4)
        database.go_on("consistent_view")
        assert await asyncio.gather(*telling) == [([str(dataset_id)], 1)] * 55
    assert database.views_most <= 4


async def test_a_slow_client_holds_no_view(store: Store) -> None:
    await filled(store, await store.connection(), 1000)
    database = StallingDatabase(store.database)
    async with running_watches(database) as (_, watches):
        watch = watches.watch(a_request(Start.SNAPSHOT))
        async for message in watch:
            if isinstance(message.body, Snapshot) and message.body.encoded:
                break
        assert database.views == 0
        # What happens meanwhile is not in the rest of the snapshot, but follows it.
        head_seq = await journaled(store, await store.connection(), 10)
        ids, seq = await snapshot_of(watch)
        assert (len(ids), seq) == (800, 1000)
        assert len(await told_until(watch, head_seq)) == 10


async def test_whoever_leaves_before_the_snapshot_is_read_holds_no_view(store: Store) -> None:
    database = StallingDatabase(store.database)
    async with running_watches(database) as (_, watches):
        database.stall("consistent_view")
        watch = watches.watch(a_request(Start.SNAPSHOT))
        assert isinstance((await anext(watch)).body, Opened)
        await database.held("consistent_view")
        async with asyncio.timeout(10):
            await watch.aclose()
        assert database.views == 0


async def filled(store: Store, link: Link, datasets: int) -> None:
    """Many active datasets, past the service, of which each has a transition."""
    async with store.sql.transaction():
        await store.sql.execute(
            "CREATE TEMP TABLE made ON COMMIT DROP AS"
            f" SELECT gen_random_uuid() AS id, n FROM generate_series(1, {datasets}) n"
        )
        await store.sql.execute(
            "INSERT INTO dataset (id, company_id, connection_id, integration_key, data_type, trigger, sync_order)"
            " SELECT id, $1, $2, 'gnucash', 'type ' || n, 'API', 1 FROM made",
            link.company_id,
            link.connection_id,
        )
        await store.sql.execute(
            "INSERT INTO transition"
            " SELECT n, id, $1, $2, 'type ' || n, 1, NULL, 'QUEUED', clock_timestamp(), 'API', '' FROM made",
            link.company_id,
            link.connection_id,
        )
        await store.sql.execute(
            "INSERT INTO data_status (connection_id, data_type, latest_dataset_id, latest_seq)"
            " SELECT $1, 'type ' || n, id, n FROM made",
            link.connection_id,
        )


async def test_a_large_snapshot_is_never_in_memory(store: Store) -> None:
    datasets = 30_000
    await filled(store, await store.connection(), datasets)
    async with running_watches(store.database) as (_, watches):
        watch = watches.watch(a_request(Start.SNAPSHOT))
        await anext(watch)
        count = sent_bytes = 0
        tracemalloc.start()
        try:
            async for message in watch:
                if isinstance(message.body, SnapshotEnd):
                    break
                assert isinstance(message.body, Snapshot)
                sent_bytes += len(message.body.encoded)
                count += len(read(message.body.encoded))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await watch.aclose()
    assert count == datasets
    # What is in memory: the first MiB, a page of rows, and a part.
    assert peak_bytes < 4 << 20 < sent_bytes


async def test_a_snapshot_selects_as_the_transitions_are_selected(store: Store) -> None:
    mine, other = await store.connection(), await store.connection()
    queued, ended = await store.queued(mine, "bills"), await store.queued(mine, "items")
    foreign = await store.queued(other, "bills")
    await store.change(Change(ended, DatasetStatus.CANCELLED))
    companies, bills = frozenset([mine.company_id]), StatusFilter(data_types=frozenset(["bills"]))
    cancelled = frozenset([DatasetStatus.CANCELLED])
    expected = {
        (): {queued, ended, foreign},
        (of_company(mine),): {queued, ended},
        (StatusFilter(connection_ids=frozenset([other.connection_id])),): {foreign},
        (bills,): {queued, foreign},
        (StatusFilter(to_statuses=cancelled),): {ended},
        (StatusFilter(company_ids=companies, data_types=frozenset(["bills"])),): {queued},
        (of_datasets(ended), StatusFilter(connection_ids=frozenset([other.connection_id]))): {ended, foreign},
        (of_datasets(foreign),): {foreign},
        (StatusFilter(dataset_ids=frozenset([queued, ended]), to_statuses=cancelled),): {ended},
        # One that passes several filters comes once.
        (of_datasets(ended), of_company(mine)): {queued, ended},
        # What one filter names is no limit to the others.
        (of_company(mine), bills): {queued, ended, foreign},
        (StatusFilter(connection_ids=frozenset([mine.connection_id])), bills): {queued, ended, foreign},
        (of_company(mine), of_company(other)): {queued, ended, foreign},
    }
    async with running_watches(store.database) as (_, watches):
        for any_of, datasets in expected.items():
            ids, _ = await snapshot_of(watches.watch(a_request(Start.SNAPSHOT, *any_of)))
            assert sorted(ids) == sorted(map(str, datasets)), any_of


async def test_a_snapshot_that_there_is_no_room_for_is_no_failure_of_the_database(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await store.queued(await store.connection())
    monkeypatch.setattr("datastatus.engine.snapshots._MEMORY_BYTES_MAX", 1)
    folder = tmp_path / "full"
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    async with running_watches(store.database) as (_, watches):
        with pytest.raises(errors.SnapshotNotSpooled):
            await snapshot_of(watches.watch(a_request(Start.SNAPSHOT)))
        folder.mkdir()
        await snapshot_of(watches.watch(a_request(Start.SNAPSHOT)))
    said = capsys.readouterr()
    assert "snapshot_not_spooled" in said.out + said.err
    assert str(folder) in said.out + said.err


@pytest.mark.parametrize("writes", [0, 1], ids=["none", "of the first part"])
async def test_a_disk_that_is_full_is_noticed_while_the_snapshot_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """It has room for so many writes."""

    class Full(io.FileIO):
        room = writes

        def write(self, data: Any, /) -> int:
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= 1
            return super().write(data)

    def full_file(**_: object) -> io.BufferedRandom:
        return io.BufferedRandom(Full(os.memfd_create("full"), "r+b"))

    link = await store.connection()
    await store.queued(link)
    await store.queued(link, "bills")
    monkeypatch.setattr("datastatus.engine.snapshots._MEMORY_BYTES_MAX", 1)
    monkeypatch.setattr("datastatus.engine.snapshots._PART_DATASETS", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", full_file)
    async with running_watches(store.database) as (_, watches):
        with pytest.raises(errors.SnapshotNotSpooled):
            await snapshot_of(watches.watch(a_request(Start.SNAPSHOT)))


async def test_a_snapshot_is_no_failure_of_the_database_either_where_no_folder_can_be_used(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.queued(await store.connection())
    monkeypatch.setattr("datastatus.engine.snapshots._MEMORY_BYTES_MAX", 1)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    async with running_watches(store.database) as (_, watches):
        with pytest.raises(errors.SnapshotNotSpooled):
            await snapshot_of(watches.watch(a_request(Start.SNAPSHOT)))
