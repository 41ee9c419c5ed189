"""How many statements calls cost: as many for a hundred items as for one, and few for many callers at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from benchmarks.bench import Bench
from benchmarks.seed import Link, seed_links
from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.dataset import Dataset, DatasetStatus
from datastatus.domain.sync import SyncRequest
from datastatus.engine import connectors
from datastatus.engine.announcements import Announcements
from datastatus.engine.connector_session import Assigned
from datastatus.engine.data_statuses import DataStatuses
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Reporter
from datastatus.engine.sync import SyncEngine
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import load_registry
from datastatus.rpc.convert import encode_data_status
from datastatus.rpc.watch_encoder import encode_transition
from datastatus.store import datasets
from datastatus.store.datasets import DatasetFilter
from datastatus.store.journal import Change, Grant
from datastatus.store.opening import open_database
from watching import StallingDatabase

TOKEN, HOLDER = UUID(int=1), UUID(int=2)
# Statements that come and go with time, whatever is called.
BACKGROUND = {"journal_bounds", "forks", "announce_transitions"}


@dataclass
class Parts:
    """The parts of the engine that queue, change, read and tell, over a database that counts statements."""

    database: StallingDatabase
    hub: WatchHub
    writer: JournalWriter
    sync: SyncEngine
    data_statuses: DataStatuses
    slots: list[tuple[str, Link]]
    dsn: str

    def requests(self, count: int) -> list[SyncRequest]:
        """Of slots where nothing is queued yet."""
        taken, self.slots = self.slots[:count], self.slots[count:]
        return [SyncRequest(UUID(link.company_id), data_type) for data_type, link in taken]

    async def statements(self, *calls: Awaitable[object]) -> Counter[str]:
        """What these calls cost, made at once."""
        before = Counter(self.database.counts)
        await asyncio.gather(*calls)
        spent = self.database.counts - before
        return Counter({name: count for name, count in spent.items() if name not in BACKGROUND})

    async def queued(self, count: int) -> Sequence[UUID]:
        answers = await self.sync.queue_syncs(self.requests(count))
        assert all(isinstance(one, Dataset) for one in answers)
        return [one.id for one in answers if isinstance(one, Dataset)]


@pytest.fixture
async def parts(bench: Bench) -> AsyncIterator[Parts]:
    async with bench.database() as dsn, open_database(dsn, connections_max=10) as pool:
        links = await seed_links(dsn, 40)
        database = StallingDatabase(pool)
        hub = WatchHub(database, encode_transition, ring_bytes_max=1 << 24, watchers_max=10)
        announcements = Announcements(database, hub)
        writer = JournalWriter(database, on_commit=announcements.committed)
        sync = SyncEngine(database, writer, load_registry(), "http://localhost")
        data_statuses = DataStatuses(database, hub, load_registry(), encode_data_status)
        running = [
            asyncio.create_task(one.run()) for one in (hub, announcements, writer, sync, data_statuses)
        ]
        await hub.opened()
        # Nothing but what is called reads the journal from here on, unless it has to.
        yield Parts(
            database, hub, writer, sync, data_statuses, list(islice(product(DATA_TYPES, links), 1000)), dsn
        )
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_queueing_takes_one_statement_and_one_for_companies_not_heard_of(parts: Parts) -> None:
    two = {"company_states": 1, "queue_datasets": 1}
    [one] = parts.requests(1)
    assert await parts.statements(parts.sync.queue_sync(one)) - tail() == two
    assert await parts.statements(parts.sync.queue_syncs(parts.requests(100))) - tail() == two
    # By now it has heard of all of them.
    [one] = parts.requests(1)
    assert await parts.statements(parts.sync.queue_sync(one)) - tail() == {"queue_datasets": 1}
    spent = await parts.statements(parts.sync.queue_syncs(parts.requests(100)))
    assert spent - tail() == {"queue_datasets": 1}


async def test_many_callers_at_once_share_statements(parts: Parts) -> None:
    spent = await parts.statements(*(parts.sync.queue_sync(one) for one in parts.requests(200)))
    # The first of them does not wait for the others.
    assert spent - tail() <= Counter(company_states=2, queue_datasets=3)


async def test_changing_takes_one_statement_whatever_is_changed(parts: Parts) -> None:
    ids = await parts.queued(101)
    claims = [Change(one, DatasetStatus.FETCHING, grant=Grant(TOKEN, HOLDER, 60)) for one in ids]
    for changes in (claims[:1], claims[1:]):
        spent = await parts.statements(parts.writer.change(changes))
        assert spent - tail() == {"transition_datasets": 1}


async def test_what_was_committed_here_is_not_read_again(parts: Parts) -> None:
    head_seq = parts.hub.head_seq
    spent = await parts.statements(parts.queued(100))
    assert parts.hub.head_seq == head_seq + 100
    # Polls go on, and find nothing.
    assert spent["read_tail"] <= 2


async def test_reading_where_a_company_stands_takes_one_statement(parts: Parts) -> None:
    await parts.queued(40)
    company_id = (await parts.sync.list_datasets(DatasetFilter(), None, 1))[0].company_id
    asked = parts.data_statuses.of_company
    assert await parts.statements(asked(company_id)) - tail() == {"data_status_pointers": 1}
    companies = {one.company_id for one in await parts.sync.list_datasets(DatasetFilter(), None, 40)}
    spent = await parts.statements(*(asked(one) for one in companies))
    assert len(companies) == 40
    assert spent - tail() <= Counter(data_status_pointers=5, data_status_versions=1)
    # By now it has read all of them.
    assert await parts.statements(asked(company_id)) - tail() == {"data_status_versions": 1}
    spent = await parts.statements(*(asked(one) for one in companies))
    assert spent - tail() <= Counter(data_status_versions=2)
    # And of what changes here it knows that.
    await parts.queued(40)
    assert await parts.statements(asked(company_id)) - tail() == {"data_status_pointers": 1}
    selected = DatasetFilter(company_id=company_id)
    assert await parts.statements(parts.sync.list_datasets(selected, None, 50)) - tail() == {
        "list_datasets": 1
    }


async def test_claiming_takes_one_statement_to_look_and_one_to_claim(parts: Parts) -> None:
    await parts.queued(100)

    async def claim() -> None:
        found = await datasets.claimable_datasets(
            parts.database, ["external"], [], barred_companies=[], after_company=UUID(int=0), count_max=50
        )
        assert len(found) == 50
        grants = [Change(one[0], DatasetStatus.FETCHING, grant=Grant(uuid7(), HOLDER, 60)) for one in found]
        await parts.writer.change(grants)

    assert await parts.statements(claim()) - tail() == {"claimable_datasets": 1, "transition_datasets": 1}


async def test_connectors_look_only_for_what_is_theirs(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is woken, or it does not look.
    monkeypatch.setattr(connectors, "_CLAIM_AGAIN_SECONDS", 3600)
    database, writer, registry = parts.database, parts.writer, load_registry()
    progress = ProgressBoard(database)
    pipeline = Pipeline(database, writer, progress, Mappers(registry, 0, 60), PipelineOptions(60, 0.5))
    reporter = Reporter(database, writer, pipeline, progress, registry)
    hub = connectors.ConnectorHub(database, writer, parts.hub, reporter, progress, registry, 60)
    running = asyncio.create_task(hub.run())
    hello = connectors.Hello("in test", "1", "here", frozenset({"gnucash"}), frozenset(), capacity=1)
    database.stall("claimable_datasets")
    async with hub.session(hello) as session:
        await database.held("claimable_datasets")
        database.go_on("claimable_datasets")
        database.stall("connections_by_id")
        await parts.queued(100)
        # It has heard of them, and finds out whose they are.
        await database.held("connections_by_id")
        database.go_on("connections_by_id")
        [book] = await seed_links(parts.dsn, 1, integration_key="gnucash")
        own = await parts.sync.queue_sync(SyncRequest(UUID(book.company_id), "invoices"))
        assigned = await session.outbox.get()
        assert isinstance(assigned, Assigned)
        assert [one.dataset_id for one in assigned.assignments] == [own.id]
        # When it came, and for its own.
        assert database.counts["claimable_datasets"] == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def tail() -> Counter[str]:
    """The tailer polls four times a second."""
    return Counter(read_tail=100)
