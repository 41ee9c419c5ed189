"""Puts a service together: database, engine, server, and the connectors of online integrations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from datastatus.config import Settings
from datastatus.connector.fetching import CredentialsOf
from datastatus.connector.runtime import ConnectorRuntime
from datastatus.credentials_keys import check_configured_keys, key_source, prepare_key_file
from datastatus.embedded import data_place, kept_postgres
from datastatus.engine.engine import Encoding, Engine, EngineOptions
from datastatus.integrations.registry import Registry, load_registry
from datastatus.rpc.convert import encode_data_status
from datastatus.rpc.server import serving
from datastatus.rpc.watch_encoder import encode_snapshot, encode_transition
from datastatus.store.credentials import credentials_by_key
from datastatus.store.migrate import migrate
from datastatus.store.opening import open_database
from datastatus.tasks import is_asked_to_end, running

_log = structlog.get_logger(__name__)

_ONLINE_CAPACITY = 8
_ONLINE_DRAIN_SECONDS = 1.0
_RESTART_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: where it listens, and where the data of the embedded Postgres lies or None."""

    address: str
    data_place: Path | None


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncIterator[Service]:
    """Run the service for the length of the `with`; leaving it stops everything, the embedded Postgres last."""
    registry = load_registry()
    # What is wrong with these shows before anything is done to the database.
    check_configured_keys(settings)
    async with AsyncExitStack() as stack:
        dsn = settings.database_url
        if dsn is None:
            dsn = await stack.enter_async_context(kept_postgres(settings.data_folder))
        await migrate(dsn)
        database = await stack.enter_async_context(
            open_database(dsn, connections_max=settings.database_connections_max)
        )
        # The store before the file: what is sealed by then is sealed under keys that are there.
        prepare_key_file(settings, await credentials_by_key(database))
        options = EngineOptions(
            link_url_base=settings.link_url_base,
            lease_seconds=settings.lease_seconds,
            watch_ring_bytes=settings.watch_ring_bytes,
            watchers_max=settings.watchers_max,
            watch_age_max=timedelta(hours=settings.watch_age_hours_max),
            journal_retention=timedelta(days=settings.journal_retention_days),
            journal_partition_transitions=settings.journal_partition_transitions,
            mapping_processes=settings.mapping_processes,
            mapping_page_seconds_max=settings.mapping_page_seconds_max,
            mass_deletion_share_max=settings.mass_deletion_share_max,
            superseded_records_seconds=settings.superseded_records_seconds,
            credentials_keys=key_source(settings),
            schedule_seconds=settings.schedule_seconds,
        )
        engine = Engine(
            database, registry, options, Encoding(encode_transition, encode_snapshot, encode_data_status)
        )
        await engine.credentials.check()
        await stack.enter_async_context(running(engine.run()))
        address = await stack.enter_async_context(
            serving(engine, settings.listen, watch_slow_seconds_max=settings.watch_slow_seconds_max)
        )
        connectors = _online_connectors(registry, address, engine.connections.credentials_of)
        await stack.enter_async_context(_serving_sources(connectors))
        place = None if settings.database_url else data_place(settings.data_folder.absolute())
        yield Service(address, place)


def _online_connectors(
    registry: Registry, address: str, credentials_of: CredentialsOf
) -> list[ConnectorRuntime]:
    """Online sources are read by connectors in this process, over the same protocol as all others."""
    return [
        ConnectorRuntime(
            integration,
            server=address,
            connector_name=f"{key}@service",
            integration_keys=(key,),
            capacity=_ONLINE_CAPACITY,
            credentials_of=credentials_of,
            through_proxy=False,
        )
        for key, integration in registry.items()
        if integration.info.online
    ]


@asynccontextmanager
async def _serving_sources(connectors: Sequence[ConnectorRuntime]) -> AsyncIterator[None]:
    """Run connectors beside the body; at its end they leave what they cannot finish soon to other servers."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_kept_running(connector)) for connector in connectors]
        try:
            yield
            await asyncio.gather(*(connector.drain(_ONLINE_DRAIN_SECONDS) for connector in connectors))
            if running:
                await asyncio.wait(running, timeout=_ONLINE_DRAIN_SECONDS)
        finally:
            for one in running:
                one.cancel()


async def _kept_running(connector: ConnectorRuntime) -> None:
    """Run a connector until it is cancelled or drained. One that fails is started again: the service goes on."""
    while True:
        try:
            return await connector.run()
        except Exception as exc:
            _log.error("connector_failed", connector=connector.name, exc_info=exc)
            if is_asked_to_end():
                # The group of its tasks told its failure instead.
                return
        await asyncio.sleep(random.uniform(0, _RESTART_SECONDS_MAX))
