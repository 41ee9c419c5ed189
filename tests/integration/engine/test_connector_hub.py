from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine.connector_session import (
    Assigned,
    ConnectorClosing,
    ConnectorSession,
    Hello,
    Revocation,
    RevokeReason,
)
from datastatus.engine.connectors import ConnectorHub
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Reporter
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import Registry, load_registry
from datastatus.rpc.watch_encoder import encode_transition
from datastatus.store.datasets import Assignment
from datastatus.store.journal import Change
from stores import Link, Store
from watching import StallingDatabase


def connector_hub(store: Store, registry: Registry | None = None) -> ConnectorHub:
    database, registry = store.database, load_registry() if registry is None else registry
    writer = JournalWriter(database, lambda tail: None)
    progress = ProgressBoard(database)
    pipeline = Pipeline(database, writer, progress, Mappers(registry, 0, 60), PipelineOptions(60, 0.5))
    reporter = Reporter(database, writer, pipeline, progress, registry)
    watch_hub = WatchHub(database, encode_transition, ring_bytes_max=1 << 20, watchers_max=10)
    return ConnectorHub(database, writer, watch_hub, reporter, progress, registry, 60)


async def test_a_heartbeat_revokes_what_is_lost_except_what_is_just_being_reported(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    session = ConnectorSession(
        Hello("in test", "1", "here", frozenset(), frozenset({link.connection_id}), capacity=1)
    )
    session.take(
        [Assignment(dataset_id, link.company_id, link.connection_id, "gnucash", "invoices", token, attempt=1)]
    )
    assert isinstance(session.outbox.get_nowait(), Assigned)
    hub = connector_hub(store)

    await hub.heartbeat(session, ())
    assert session.outbox.empty()
    # Ended, and the result has not come back to the session yet.
    await store.change(Change(dataset_id, DatasetStatus.FETCH_ERROR, held_token=token))
    await hub.heartbeat(session, {dataset_id})
    assert session.outbox.empty()

    await hub.heartbeat(session, ())
    assert session.outbox.get_nowait() == Revocation(dataset_id, token, RevokeReason.LEASE_LOST)


def a_hello(link: Link, *readable: str) -> Hello:
    return Hello(
        "in test",
        "1",
        "here",
        frozenset(),
        frozenset({link.connection_id}),
        capacity=4,
        readable_integration_keys=frozenset(readable),
    )


async def test_a_connection_of_another_kind_is_not_handed_out(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    with pytest.raises(errors.InvalidFields, match=r"of tryton, and .* is one of gnucash"):
        async with connector_hub(store).session(a_hello(link, "tryton")):
            pass
    with pytest.raises(errors.IntegrationNotFound):
        async with connector_hub(store, {}).session(a_hello(link)):
            pass
    assert (await store.dataset(dataset_id)).status is DatasetStatus.QUEUED


async def test_a_connector_that_is_being_let_in_while_the_server_stops_is_sent_elsewhere(
    store: Store,
) -> None:
    link = await store.connection()
    database = StallingDatabase(store.database)
    hub = connector_hub(replace(store, database=database))
    database.stall("open_connector_session")

    async def stay() -> ConnectorSession:
        async with hub.session(a_hello(link, "gnucash")) as session:
            return session

    staying = asyncio.create_task(stay())
    await database.held("open_connector_session")
    hub._hub.drain()
    hub.drain()
    database.go_on("open_connector_session")
    session = await staying
    assert session.room == 0
    assert isinstance(session.outbox.get_nowait(), ConnectorClosing)
