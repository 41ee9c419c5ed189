"""A server that remembers companies never queues by what is no longer so, whoever has changed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import Dataset
from datastatus.domain.settings import built_in_setting
from datastatus.domain.sync import SyncRequest
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.sync import SyncEngine
from datastatus.integrations.registry import Registry, load_registry
from datastatus.store import companies, settings
from stores import Link, Store


@pytest.fixture
async def engine(store: Store) -> AsyncIterator[SyncEngine]:
    async with running_engine(store, load_registry()) as engine:
        yield engine


@asynccontextmanager
async def running_engine(store: Store, registry: Registry) -> AsyncIterator[SyncEngine]:
    writer = JournalWriter(store.database, on_commit=lambda tail: None)
    sync = SyncEngine(store.database, writer, registry, "http://localhost")
    running = [asyncio.create_task(one.run()) for one in (writer, sync)]
    yield sync
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_another_connection_makes_a_choice_necessary(store: Store, engine: SyncEngine) -> None:
    link = await store.connection()
    await queued(engine, link, "invoices")
    await another_connection(store, link)
    with pytest.raises(errors.ConnectionRequired):
        await queued(engine, link, "bills")


async def test_a_connection_that_was_linked_meanwhile_can_be_used(store: Store, engine: SyncEngine) -> None:
    link = await store.connection(linked=False)
    with pytest.raises(errors.ConnectionNotLinked):
        await queued(engine, link, "invoices")
    await store.link(link.connection_id)
    await queued(engine, link, "invoices")


async def test_a_connection_that_was_made_meanwhile_is_found(store: Store, engine: SyncEngine) -> None:
    link = await store.connection()
    await queued(engine, link, "invoices")
    newer = await another_connection(store, link)
    assert (await queued(engine, link, "bills", newer)).connection_id == newer
    with pytest.raises(errors.ConnectionNotFound):
        await queued(engine, link, "bills", uuid7())


async def test_what_is_not_installed_here_is_not_taken_for_what_cannot_read_the_type(store: Store) -> None:
    link = await store.connection()
    async with running_engine(store, {}) as engine:
        for named in (None, link.connection_id):
            with pytest.raises(errors.IntegrationNotFound):
                await queued(engine, link, "invoices", named)
    assert await store.head_seq() == 0


async def test_settings_are_in_force_at_once(store: Store, engine: SyncEngine) -> None:
    link = await store.connection()
    await queued(engine, link, "invoices")
    for company_id, data_type, order in ((link.company_id, "bills", 77), (None, "items", 78)):
        setting = replace(built_in_setting(data_type), sync_order=order)
        await settings.update_settings(store.database, company_id, [setting], {"sync_order"}, [])
        dataset = await queued(engine, link, data_type)
        assert order == await store.sql.fetchval("SELECT sync_order FROM dataset WHERE id = $1", dataset.id)


async def test_of_one_call_only_what_is_out_of_date_is_decided_anew(store: Store, engine: SyncEngine) -> None:
    link, other = await store.connection(), await store.connection()
    for one in (link, other):
        await queued(engine, one, "invoices")
    await another_connection(store, other)
    requests = [
        SyncRequest(link.company_id, "bills"),
        SyncRequest(other.company_id, "bills"),
        SyncRequest(other.company_id, "items", other.connection_id),
        SyncRequest(link.company_id, "invoices"),
        SyncRequest(uuid7(), "bills"),
    ]
    answers = await engine.queue_syncs(requests)
    assert [type(one) for one in answers] == [
        Dataset,
        errors.ConnectionRequired,
        Dataset,
        errors.DatasetAlreadyInProgress,
        errors.CompanyNotFound,
    ]


async def queued(
    engine: SyncEngine, link: Link, data_type: str, connection_id: UUID | None = None
) -> Dataset:
    return await engine.queue_sync(SyncRequest(link.company_id, data_type, connection_id))


async def another_connection(store: Store, link: Link) -> UUID:
    """One that is linked, made past the engine."""
    connection_id = uuid7()
    await companies.create_connection(store.database, connection_id, link.company_id, "gnucash")
    await store.link(connection_id)
    return connection_id
