"""A server that remembers data statuses tells what is so when it is asked, whoever has changed it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine import data_statuses
from datastatus.engine.data_statuses import DataStatuses
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import load_registry
from datastatus.rpc import convert
from datastatus.store import companies, datasets, epochs, journal
from datastatus.store.journal import Change
from datastatus.v1.data_status_pb2 import DataStatus
from stores import Link, Store, an_item
from watching import StallingDatabase, journaled, running_watches

READ, LOOK = "data_status_pointers", "data_status_versions"


@dataclass
class Asked:
    """One server's data statuses; everything else happens past it, as if another server did it."""

    database: StallingDatabase
    hub: WatchHub
    statuses: DataStatuses
    encode: Mock
    answers: int = 0

    async def now(self, link: Link, connection_id: UUID | None = None) -> Mapping[str, DatasetStatus]:
        """By data type, the current status, where there is one."""
        answer = await self.answer(link, connection_id)
        return {
            key: convert.STATUSES[one.current_status]
            for key, one in answer.data_types.items()
            if one.HasField("current_status")
        }

    async def answer(self, link: Link, connection_id: UUID | None = None) -> DataStatus:
        answer = DataStatus.FromString(await self.statuses.of_company(link.company_id, connection_id))
        assert answer.company_id == str(link.company_id)
        self.answers += 1
        return answer

    async def up_to_date(self) -> None:
        """The server has heard of everything that was committed."""
        await self.hub.reached(await self.hub.bounds())

    def reads(self) -> int:
        return self.database.counts[READ]


@asynccontextmanager
async def asking(store: Store, *, ring_bytes_max: int = 1 << 20) -> AsyncIterator[Asked]:
    database = StallingDatabase(store.database)
    async with running_watches(database, ring_bytes_max=ring_bytes_max) as (hub, _):
        encode = Mock(side_effect=convert.encode_data_status)
        statuses = DataStatuses(database, hub, load_registry(), encode)
        running = asyncio.create_task(statuses.run())
        try:
            yield Asked(database, hub, statuses, encode)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def asked(store: Store) -> AsyncIterator[Asked]:
    async with asking(store) as asked:
        yield asked


async def test_what_stays_the_same_is_read_once(store: Store, asked: Asked) -> None:
    link, other = await store.connection(), await store.connection()
    await store.queued(link)
    for _ in range(3):
        assert await asked.now(link) == {"invoices": DatasetStatus.QUEUED}
    await store.queued(other)
    await asked.up_to_date()
    assert await asked.now(link) == {"invoices": DatasetStatus.QUEUED}
    assert asked.reads() == 1
    assert asked.database.counts[LOOK] == 3


async def test_what_another_server_has_changed_is_told_before_it_is_heard_of(
    store: Store, asked: Asked
) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    await asked.up_to_date()
    assert await asked.now(link) == {"invoices": DatasetStatus.QUEUED}
    asked.database.stall("read_tail")
    await asked.database.held("read_tail")
    await store.change(Change(dataset_id, DatasetStatus.CANCELLED))
    assert await asked.now(link) == {"invoices": DatasetStatus.CANCELLED}
    await store.queued(link, "bills")
    assert set(await asked.now(link)) == {"invoices", "bills"}
    asked.database.go_on("read_tail")


async def test_what_is_heard_of_while_we_look_is_told(store: Store, asked: Asked) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    await asked.up_to_date()
    await asked.now(link)
    asked.database.stall(LOOK)
    answer = asyncio.create_task(asked.now(link))
    await asked.database.held(LOOK)
    await store.change(Change(dataset_id, DatasetStatus.CANCELLED))
    await asked.up_to_date()
    asked.database.go_on(LOOK)
    assert await answer == {"invoices": DatasetStatus.CANCELLED}


async def test_what_is_known_to_have_changed_is_read_without_a_look(store: Store, asked: Asked) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    await asked.now(link)
    await store.change(Change(dataset_id, DatasetStatus.CANCELLED))
    await asked.up_to_date()
    assert await asked.now(link) == {"invoices": DatasetStatus.CANCELLED}
    assert (asked.reads(), asked.database.counts[LOOK]) == (2, 0)


async def test_connections_that_come_and_go_count_at_once(store: Store, asked: Asked) -> None:
    link = await store.connection()
    await store.queued(link)
    newer = uuid7()
    assert await asked.now(link) == await asked.now(link, link.connection_id)
    with pytest.raises(errors.ConnectionNotFound):
        await asked.now(link, newer)
    await companies.create_connection(store.database, newer, link.company_id, "gnucash")
    assert await asked.now(link, newer) == {}
    await store.link(newer)
    dataset_id = await store.queued(Link(link.company_id, newer), "bills")
    # So that nothing more is journaled when its connection goes.
    await store.change(Change(dataset_id, DatasetStatus.CANCELLED))
    assert set(await asked.now(link)) == {"invoices", "bills"}
    assert set(await asked.now(link, newer)) == {"bills"}
    await companies.unlink_connection(store.database, newer, delete=True, description="")
    assert set(await asked.now(link)) == {"invoices"}
    with pytest.raises(errors.ConnectionNotFound):
        await asked.now(link, newer)


async def test_companies_without_connections_are_told_from_those_that_do_not_exist(
    store: Store, asked: Asked
) -> None:
    link = Link(uuid7(), uuid7())
    with pytest.raises(errors.CompanyNotFound):
        await asked.now(link)
    await companies.create_company(store.database, link.company_id, "Acme", None)
    assert await asked.now(link) == {}
    await companies.delete_company(store.database, link.company_id)
    with pytest.raises(errors.CompanyNotFound):
        await asked.now(link)


async def test_what_the_ring_no_longer_holds_is_read_anew(store: Store) -> None:
    link, other = await store.connection(), await store.connection()
    await store.queued(link)
    # Of one transition only.
    async with asking(store, ring_bytes_max=1) as asked:
        await asked.now(link)
        # Asked now and then, it need not know what lies before.
        for data_type in ("items", "journals", "accounts"):
            await store.queued(other, data_type)
            await asked.up_to_date()
            await asked.now(link)
        assert asked.reads() == 1
        await store.queued(link, "bills")
        await journaled(store, other, 2)
        await asked.up_to_date()
        assert set(await asked.now(link)) == {"invoices", "bills"}


async def test_nothing_is_remembered_of_an_earlier_epoch(store: Store, asked: Asked) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    await asked.now(link)
    head_seq = await store.head_seq()
    await lose(store, dataset_id)
    await epochs.begin_epoch(store.database)
    await store.queued(link, "bills")
    assert await store.head_seq() == head_seq
    assert set(await asked.now(link)) == {"bills"}


async def test_nothing_is_remembered_of_a_history_that_forked_unannounced(store: Store, asked: Asked) -> None:
    """The numbers of the new one go on where those of the old one were, and even its epoch has the same."""
    link, another, other = [await store.connection() for _ in range(3)]
    lost = [await store.queued(one) for one in (link, another)]
    await asked.up_to_date()
    for one in (link, another):
        assert set(await asked.now(one)) == {"invoices"}
    await lose(store, *lost)
    # Whether or not the server has noticed by now.
    assert await asked.now(another) == {}
    await notices_the_loss(asked)
    await store.queued(link, "bills")
    for data_type in ("invoices", "bills"):
        await store.queued(other, data_type)
    await asked.up_to_date()
    assert set(await asked.now(link)) == {"bills"}


async def test_what_was_read_as_its_history_ended_is_not_remembered(
    store: Store, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, other = await store.connection(), await store.connection()
    lost = await store.queued(link)
    await asked.up_to_date()
    read = datasets.data_status_pointers

    async def read_as_it_ends(*arguments: Any) -> Any:
        monkeypatch.undo()
        found = await read(*arguments)
        await lose(store, lost)
        await notices_the_loss(asked)
        return found

    monkeypatch.setattr(datasets, "data_status_pointers", read_as_it_ends)
    assert set(await asked.now(link)) == {"invoices"}
    # The journal is as far again as it was.
    await store.queued(other)
    await asked.up_to_date()
    assert await asked.now(link) == {}


async def test_what_this_server_knows_of_another_epoch_proves_nothing(store: Store, asked: Asked) -> None:
    link, other = await store.connection(), await store.connection()
    lost = [await store.queued(other, data_type) for data_type in ("invoices", "bills")]
    await asked.up_to_date()
    # It has not noticed the new epoch, and knows of as many transitions of the old one.
    for query in ("journal_bounds", "read_tail"):
        asked.database.stall(query)
    await asked.database.held("read_tail")
    await lose(store, *lost)
    await epochs.begin_epoch(store.database)
    assert await asked.now(link) == {}
    await store.queued(link)
    await store.queued(other)
    assert await store.head_seq() == asked.hub.head_seq
    assert set(await asked.now(link)) == {"invoices"}
    for query in ("journal_bounds", "read_tail"):
        asked.database.go_on(query)


async def lose(store: Store, *dataset_ids: UUID) -> None:
    """As if the store were restored from a backup that lacks these datasets."""
    async with store.sql.transaction():
        await store.sql.execute("SET LOCAL session_replication_role = replica")
        for table, column in (
            ("transition", "dataset_id"),
            ("data_status", "latest_dataset_id"),
            ("dataset", "id"),
        ):
            await store.sql.execute(f"DELETE FROM {table} WHERE {column} = ANY ($1)", dataset_ids)


async def notices_the_loss(asked: Asked) -> None:
    """The server has seen that the journal is empty."""
    async with asyncio.timeout(10):
        with asked.hub.subscribed(None) as subscription:
            while asked.hub.head_seq:
                await subscription.wait(0.1)


async def test_no_answer_is_older_than_its_question(store: Store, asked: Asked) -> None:
    """A writer and readers at once, of few companies: what was acknowledged before a question is in its answer."""
    links = [await store.connection() for _ in range(3)]
    # Of each company all that it stood at, and how many of these had been acknowledged.
    stood: dict[Link, list[tuple[str, DatasetStatus] | None]] = {link: [None] for link in links}
    acknowledged = dict.fromkeys(links, 1)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    writing = True

    async def write() -> None:
        nonlocal writing
        for _ in range(150):
            link = chance.choice(links)
            item = an_item(link, "invoices")
            stood[link].append((str(item.dataset_id), DatasetStatus.QUEUED))
            await journal.queue_datasets(store.database, [item])
            acknowledged[link] += 1
            stood[link].append((str(item.dataset_id), DatasetStatus.CANCELLED))
            await store.change(Change(item.dataset_id, DatasetStatus.CANCELLED))
            acknowledged[link] += 1
        writing = False

    async def read(link: Link) -> None:
        while writing:
            before = acknowledged[link]
            found = (await asked.answer(link)).data_types["invoices"]
            now = None
            if found.latest_sync_id:
                now = found.latest_sync_id, convert.STATUSES[found.current_status]
            assert now in stood[link][before - 1 :]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for link in links * 2:
            tasks.create_task(read(link))
    assert all(acknowledged[link] == len(stood[link]) for link in links)
    # Some of it was remembered, or nothing was tried here.
    assert 0 < asked.encode.call_count < asked.answers


async def test_the_answers_asked_for_last_are_remembered(
    store: Store, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_statuses, "_REMEMBERED_ANSWERS_MAX", 2)
    first, second, third = [await store.connection() for _ in range(3)]
    for link in (first, second, first, third):
        await asked.now(link)
    assert asked.reads() == 3
    for link in (first, third):
        await asked.now(link)
    assert asked.reads() == 3
    await asked.now(second)
    assert asked.reads() == 4
