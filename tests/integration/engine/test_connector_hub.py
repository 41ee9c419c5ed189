from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine import connectors
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
from datastatus.store import companies, datasets
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


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (DatasetStatus.FETCH_ERROR, RevokeReason.LEASE_LOST),
        (DatasetStatus.CANCELLED, RevokeReason.CANCELLED),
    ],
)
async def test_a_heartbeat_revokes_what_is_lost_except_what_is_just_being_reported(
    store: Store, ended: DatasetStatus, reason: RevokeReason
) -> None:
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
    await store.change(Change(dataset_id, ended, held_token=token))
    await hub.heartbeat(session, {dataset_id})
    assert session.outbox.empty()

    await hub.heartbeat(session, ())
    assert session.outbox.get_nowait() == Revocation(dataset_id, token, reason)


async def test_a_connector_that_was_forgotten_is_shown_again_once_it_is_heard(store: Store) -> None:
    link = await store.connection()
    hub, session = connector_hub(store), ConnectorSession(a_hello(link))
    for _ in range(2):
        await hub.heartbeat(session, ())
        connection = await companies.get_connection(store.database, link.connection_id)
        assert connection is not None
        assert connection.connector is not None
        assert connection.connector.connector_name == "in test"
        await store.sql.execute("DELETE FROM connector_session")


async def test_of_what_is_queued_those_are_told_that_serve_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await store.connection()
    other = Link(link.company_id, uuid7())
    await companies.create_connection(store.database, other.connection_id, other.company_id, "external")
    await store.link(other.connection_id)
    hub = connector_hub(store)
    sessions = {
        "link": ConnectorSession(a_hello(link)),
        "other": ConnectorSession(a_hello(other)),
        **{
            key: ConnectorSession(Hello("in test", "1", "here", frozenset({key}), frozenset(), capacity=4))
            for key in ("gnucash", "external")
        },
    }
    hub._sessions |= set(sessions.values())
    # What is known of connections is forgotten now and then.
    monkeypatch.setattr(connectors, "_KNOWN_CONNECTIONS_MAX", 0)
    first, second = await store.queued(link), await store.queued(other)
    for queued, told in (
        ({first}, {"link", "gnucash"}),
        ({second}, {"other", "external"}),
        ({first, second}, set(sessions)),
    ):
        await hub._notice([one for one in await store.transitions() if one.dataset_id in queued])
        assert {name for name, session in sessions.items() if session.wake.is_set()} == told
        for session in sessions.values():
            session.wake.clear()


async def test_what_another_connector_was_quicker_to_claim_is_left_to_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await store.connection()
    taken, free = await store.queued(link, "bills"), await store.queued(link, "items")
    claimable = datasets.claimable_datasets

    async def claimed_meanwhile(*arguments: Any, **more: Any) -> Any:
        candidates = await claimable(*arguments, **more)
        await store.bring_to(taken, DatasetStatus.FETCHING)
        return candidates

    monkeypatch.setattr(datasets, "claimable_datasets", claimed_meanwhile)
    hub, session = connector_hub(store), ConnectorSession(a_hello(link))
    writing = asyncio.create_task(hub._writer.run())
    assert await hub._claim(session)
    assert list(session.in_hand) == [free]
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_what_is_uploaded_counts_as_fetched(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    hub = connector_hub(store)
    assert await hub.stage_page(dataset_id, token, 0, [b"{}"] * 2) == (1, 2)
    assert await hub.stage_page(dataset_id, token, 1, [b"{}"]) == (2, 3)
    await hub._progress.flush()
    assert (await store.dataset(dataset_id)).progress.fetched == 3


async def test_a_connector_is_heard_whatever_it_says(store: Store) -> None:
    hub, session = connector_hub(store), ConnectorSession(a_hello(await store.connection()))
    for speak in (
        lambda: hub.report(session, []),
        lambda: hub.heartbeat(session, ()),
        lambda: hub.drain_session(session),
    ):
        while not session.miss_beat():
            pass
        await speak()
        assert not session.miss_beat()


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
