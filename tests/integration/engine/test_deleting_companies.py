"""A company that is gone has left nothing behind, whatever came in between."""

from __future__ import annotations

import asyncio

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.connection import ConnectionStatus
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine.connections import ConnectionEngine
from datastatus.engine.credentials import CredentialsVault, KeyRing
from datastatus.store import companies
from datastatus.store.sql import queries
from stores import Link, Store
from watching import StallingDatabase


@pytest.fixture
async def database(store: Store) -> StallingDatabase:
    return StallingDatabase(store.database)


@pytest.fixture
async def engine(database: StallingDatabase) -> ConnectionEngine:
    vault = CredentialsVault(database, lambda: KeyRing(()))
    return ConnectionEngine(database, {}, vault, lambda: None)


async def nothing_is_left(store: Store, engine: ConnectionEngine, link: Link) -> None:
    rows = await store.sql.fetch(
        "SELECT status::text, deleted FROM connection WHERE company_id = $1", link.company_id
    )
    assert {(one["status"], one["deleted"] is None) for one in rows} == {(ConnectionStatus.UNLINKED, False)}
    with pytest.raises(errors.CompanyNotFound):
        await engine.get_company(link.company_id)


async def test_a_deletion_that_was_broken_off_is_made_again(
    store: Store, database: StallingDatabase, engine: ConnectionEngine
) -> None:
    link = await store.connection()
    await companies.create_connection(store.database, uuid7(), link.company_id, "gnucash")
    dataset_id = await store.queued(link)
    database.stall("unlink_connection")
    deleting = asyncio.create_task(engine.delete_company(link.company_id))
    await database.held("unlink_connection")
    deleting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    database.go_on("unlink_connection")

    assert (await engine.get_company(link.company_id)).id == link.company_id
    await engine.delete_company(link.company_id)
    await nothing_is_left(store, engine, link)
    assert (await store.dataset(dataset_id)).status is DatasetStatus.CANCELLED


async def test_a_connection_that_is_being_created_is_deleted_too(
    store: Store, engine: ConnectionEngine
) -> None:
    link = await store.connection()
    transaction = store.sql.transaction()
    await transaction.start()
    await store.sql.execute(queries()["create_connection"], uuid7(), link.company_id, "gnucash")
    deleting = asyncio.create_task(engine.delete_company(link.company_id))
    await store.until_it_blocks()
    await transaction.commit()
    await deleting
    await nothing_is_left(store, engine, link)


async def test_of_two_that_delete_at_once_neither_stumbles_over_the_other(
    store: Store, engine: ConnectionEngine
) -> None:
    link = await store.connection()
    for _ in range(20):
        await companies.create_connection(store.database, uuid7(), link.company_id, "gnucash")
    outcomes = await asyncio.gather(
        *(engine.delete_company(link.company_id) for _ in range(4)), return_exceptions=True
    )
    assert None in outcomes
    assert all(one is None or isinstance(one, errors.CompanyNotFound) for one in outcomes), outcomes
    await nothing_is_left(store, engine, link)
