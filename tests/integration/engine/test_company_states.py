"""Syncs are queued by what is so now, whatever a server remembers and whoever has changed it, and answered so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import Dataset, DatasetStatus, OnActive, WaitReason
from datastatus.domain.settings import built_in_setting
from datastatus.domain.sync import SyncRequest
from datastatus.engine import company_states
from datastatus.engine.company_states import KnownCompany
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


async def test_a_company_that_changes_again_and_again_can_be_queued_for(
    store: Store, engine: SyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await store.connection()
    fresh, orders = engine._companies.fresh, itertools.count(1)

    async def changed_since(company_ids: Sequence[UUID]) -> list[KnownCompany]:
        states = await fresh(company_ids)
        setting = replace(built_in_setting("items"), sync_order=next(orders))
        await settings.update_settings(store.database, link.company_id, [setting], {"sync_order"}, [])
        return states

    monkeypatch.setattr(engine._companies, "fresh", changed_since)
    await queued(engine, link, "invoices")
    assert next(orders) == 3, "it was looked at once more, and no more than that"


async def test_a_connection_that_is_deleted_while_it_is_queued_on_is_not_found(
    store: Store, engine: SyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await store.connection()
    await queued(engine, link, "invoices")
    # What is remembered of it is no longer so.
    await another_connection(store, link)
    fresh = engine._companies.fresh

    async def deleted_since(company_ids: Sequence[UUID]) -> list[KnownCompany]:
        states = await fresh(company_ids)
        await companies.unlink_connection(store.database, link.connection_id, delete=True, description="")
        return states

    monkeypatch.setattr(engine._companies, "fresh", deleted_since)
    with pytest.raises(errors.ConnectionNotFound):
        await queued(engine, link, "bills", link.connection_id)


async def test_whoever_queues_is_answered_with_the_dataset_as_it_is(store: Store, engine: SyncEngine) -> None:
    link = await store.connection()
    for data_type, waits_for in (("invoices", WaitReason.WAITING_FOR_CONNECTOR), ("salesOrders", None)):
        answered = await queued(engine, link, data_type)
        assert answered._replace(wait_reason=waits_for) == await engine.get_dataset(answered.id)


async def test_what_is_being_validated_cannot_be_allowed_more_and_says_so(
    store: Store, engine: SyncEngine
) -> None:
    link = await store.connection()
    dataset = await queued(engine, link, "invoices")
    await store.bring_to(dataset.id, DatasetStatus.VALIDATING)
    request = SyncRequest(link.company_id, "invoices", allow_mass_deletion=True)
    with pytest.raises(errors.DatasetAlreadyInProgress, match="ask with on_active ATTACH"):
        await engine.queue_sync(request)
    with pytest.raises(errors.DatasetAlreadyInProgress, match="it is being validated and cannot be allowed"):
        await engine.queue_sync(request._replace(on_active=OnActive.ATTACH))


async def test_a_repeated_request_is_answered_though_it_could_not_be_made_now(
    store: Store, engine: SyncEngine
) -> None:
    link = await store.connection()
    request = SyncRequest(link.company_id, "invoices", request_id=uuid7())
    first = await engine.queue_sync(request)
    await another_connection(store, link)
    with pytest.raises(errors.ConnectionRequired):
        await engine.queue_sync(request._replace(request_id=uuid7()))
    assert (await engine.queue_sync(request)).id == first.id
    with pytest.raises(errors.RequestIdReused):
        await engine.queue_sync(request._replace(data_type="bills"))


async def test_a_refresh_leaves_out_what_is_not_linked(store: Store, engine: SyncEngine) -> None:
    link = await store.connection()
    await companies.create_connection(store.database, uuid7(), link.company_id, "gnucash")
    outcomes = await engine.refresh_company(link.company_id)
    assert {one.connection_id if isinstance(one, Dataset) else one for one in outcomes} == {
        link.connection_id
    }


async def test_those_asked_for_last_are_remembered_and_no_more(
    store: Store, engine: SyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company_states, "_REMEMBERED_MAX", 2)
    first, second, third = [await store.connection() for _ in range(3)]
    for link, data_type in ((first, "bills"), (second, "bills"), (first, "items"), (third, "bills")):
        await queued(engine, link, data_type)
    assert list(engine._companies._remembered) == [first.company_id, third.company_id]
    await queued(engine, second, "items")


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
