from __future__ import annotations

from datastatus.domain.dataset import DatasetStatus
from datastatus.engine.connector_session import Assigned, ConnectorSession, Hello, Revocation, RevokeReason
from datastatus.engine.connectors import ConnectorHub
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Reporter
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import load_registry
from datastatus.rpc.watch_encoder import encode_transition
from datastatus.store.datasets import Assignment
from datastatus.store.journal import Change
from stores import Store


def connector_hub(store: Store) -> ConnectorHub:
    database, registry = store.database, load_registry()
    writer = JournalWriter(database, lambda tail: None)
    progress = ProgressBoard(database)
    pipeline = Pipeline(database, writer, progress, Mappers(registry, 0), PipelineOptions(60, 0.5))
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
