"""What the reaper finds beside leases that ran out: strays, and what nobody needs any more."""

from __future__ import annotations

from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.leases import Reaper
from datastatus.store import companies, datasets, journal, staging
from datastatus.store.database import Database
from datastatus.store.journal import Change, Tail
from stores import Store, an_item


async def a_stray(store: Store) -> UUID:
    """A dataset that waits for another attempt while its connection was deauthorised."""
    link = await store.connection()
    stray, refused = await store.queued(link, "bills"), await store.queued(link, "items")
    tokens = [await store.bring_to(one, DatasetStatus.FETCHING) for one in (stray, refused)]
    await journal.deauthorize_connection(
        store.database, Change(refused, DatasetStatus.AUTH_ERROR, held_token=tokens[1])
    )
    await store.change(Change(stray, DatasetStatus.QUEUED, held_token=tokens[0]))
    return stray


async def test_a_stray_that_somebody_has_locked_holds_up_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Tail | None] = []
    reaper = Reaper(store.database, JournalWriter(store.database, told.append), lease_seconds=60)
    strays = {
        (await store.dataset(one)).connection_id: one for one in [await a_stray(store) for _ in range(2)]
    }
    first, other = await datasets.connections_with_strays(store.database, 10)
    end_strays = datasets.end_strays

    async def wait_in_vain_for_the_first(database: Database, connection_id: UUID, *more: str) -> bool:
        if connection_id == first:
            raise errors.StoreDown
        return await end_strays(database, connection_id, *more)

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "end_strays", wait_in_vain_for_the_first)
        await reaper._end_strays()
    assert (await store.dataset(strays[first])).status is DatasetStatus.QUEUED
    assert (await store.dataset(strays[other])).status is DatasetStatus.AUTH_ERROR
    assert told == [None], "whoever watches is told at once"
    await reaper._end_strays()
    assert (await store.dataset(strays[first])).status is DatasetStatus.AUTH_ERROR
    await reaper._end_strays()
    assert told == [None, None]


async def test_what_nobody_needs_any_more_is_tidied_away(store: Store) -> None:
    link = await store.connection()
    item = an_item(link, caller="a", request_id=uuid7(), fingerprint=b"x")
    await journal.queue_datasets(store.database, [item])
    token = await store.bring_to(item.dataset_id, DatasetStatus.FETCHING)
    await staging.stage_page(store.database, item.dataset_id, token, 0, [b"{}"])
    await store.change(Change(item.dataset_id, DatasetStatus.CANCELLED))
    await store.sql.execute("UPDATE sync_request SET created = created - interval '25 hours'")
    dead = companies.ConnectorSessionRow(uuid7(), "dead", "1", "here", ["gnucash"], [], 1, 1)
    await companies.open_connector_session(store.database, dead, seconds=-3601)

    await Reaper(store.database, JournalWriter(store.database, lambda tail: None), lease_seconds=60)._tidy()
    for table in ("staging", "sync_request", "connector_session"):
        assert await store.sql.fetchval(f"SELECT count(*) FROM {table}") == 0, table
