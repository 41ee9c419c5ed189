"""Companies, connections, and the connectors that are online for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from datastatus.domain.connection import (
    Company,
    Connection,
    ConnectionProblem,
    ConnectionStatus,
    ConnectorPresence,
)
from datastatus.domain.dataset import DESCRIPTIONS, DatasetStatus, Trigger
from datastatus.domain.settings import SyncSettings
from datastatus.store.credentials import SealedCredentials
from datastatus.store.database import Executor, Row
from datastatus.store.settings import settings_in_force


async def create_company(
    executor: Executor, company_id: UUID, name: str, external_id: str | None
) -> Company | None:
    """The new company, or None where another has the external id."""
    rows = await executor.rows("create_company", company_id, name, external_id)
    return _company(rows[0]) if rows else None


async def get_company(executor: Executor, company_id: UUID) -> Company | None:
    rows = await executor.rows("get_company", company_id)
    return _company(rows[0]) if rows else None


async def list_companies(
    executor: Executor, after_id: UUID | None, external_id: str | None, count_max: int
) -> list[Company]:
    """In order of creation."""
    return [_company(row) for row in await executor.rows("list_companies", after_id, external_id, count_max)]


class DeleteOutcome(StrEnum):
    """See function delete_company in migration 0005."""

    DELETED = "DELETED"
    UNKNOWN = "UNKNOWN"
    CONNECTED = "CONNECTED"


async def delete_company(executor: Executor, company_id: UUID) -> DeleteOutcome:
    """Delete a company that has no connections (any more)."""
    [row] = await executor.rows("delete_company", company_id)
    return DeleteOutcome(row["outcome"])


async def create_connection(
    executor: Executor, connection_id: UUID, company_id: UUID, integration_key: str
) -> bool:
    """Create a connection, PENDING_AUTH. False where there is no such company."""
    return bool(await executor.rows("create_connection", connection_id, company_id, integration_key))


async def get_connection(executor: Executor, connection_id: UUID) -> Connection | None:
    found = await _completed(executor, await executor.rows("get_connection", connection_id))
    return found[0] if found else None


async def list_connections(
    executor: Executor, company_id: UUID, after_id: UUID | None, count_max: int
) -> list[Connection]:
    """In order of creation."""
    return await _completed(
        executor, await executor.rows("list_connections", company_id, after_id, count_max)
    )


async def _completed(executor: Executor, rows: list[Row]) -> list[Connection]:
    """The connections of these rows, with their problems (the newest ten each) and connectors."""
    ids = [row["id"] for row in rows]
    problems: dict[UUID, list[ConnectionProblem]] = {}
    for row in await executor.rows("connection_errors", ids):
        problems.setdefault(row["connection_id"], []).append(
            ConnectionProblem(row["code"], row["message"], row["occurred"], row["resolved"])
        )
    presence = {
        row["connection_id"]: ConnectorPresence(
            row["connector_name"], row["version"], row["address"], row["online_since"], row["connectors"]
        )
        for row in await executor.rows("connection_presence", ids)
    }
    return [_connection(row, tuple(problems.get(row["id"], ())), presence.get(row["id"])) for row in rows]


@dataclass(frozen=True, slots=True)
class ConnectionSummary:
    """What queueing must know of a connection. `authorized`: when it was last linked, None: never."""

    id: UUID
    company_id: UUID
    status: ConnectionStatus
    integration_key: str
    authorized: datetime | None


async def connections_of_companies(
    executor: Executor, company_ids: Collection[UUID]
) -> dict[UUID, list[ConnectionSummary]]:
    """By company, its connections; a company without any has an empty list, whether or not it exists."""
    found: dict[UUID, list[ConnectionSummary]] = {company_id: [] for company_id in company_ids}
    for row in await executor.rows("connections_of_companies", list(company_ids)):
        found[row["company_id"]].append(_summary(row))
    return found


@dataclass(frozen=True, slots=True)
class CompanyState:
    """What queueing must know of a company. `revision` goes up with whatever of it changes.

    A company that has no connections has no revision, whether or not it exists.
    """

    connections: Sequence[ConnectionSummary]
    settings: SyncSettings
    revision: int | None


async def company_states(executor: Executor, company_ids: Collection[UUID]) -> dict[UUID, CompanyState]:
    """By company, its connections and its settings, in one call."""
    rows = await executor.rows("company_states", list(company_ids))
    connections: dict[UUID, list[ConnectionSummary]] = {company_id: [] for company_id in company_ids}
    revisions: dict[UUID, int] = {}
    for row in rows:
        if row["id"] is not None:
            connections[row["company_id"]].append(_summary(row))
            revisions[row["company_id"]] = row["revision"]
    in_force = settings_in_force((row for row in rows if row["id"] is None), company_ids)
    return {
        company_id: CompanyState(connections[company_id], in_force[company_id], revisions.get(company_id))
        for company_id in company_ids
    }


async def connections_by_id(
    executor: Executor, connection_ids: Collection[UUID]
) -> dict[UUID, ConnectionSummary]:
    """Those that exist, by id."""
    rows = await executor.rows("connections_by_id", list(connection_ids))
    return {row["id"]: _summary(row) for row in rows}


async def linked_connections(
    executor: Executor, after_id: UUID | None, count_max: int
) -> list[ConnectionSummary]:
    """Those that are linked, of all companies, in order of id."""
    return [_summary(row) for row in await executor.rows("linked_connections", after_id, count_max)]


async def existing_companies(executor: Executor, company_ids: Collection[UUID]) -> set[UUID]:
    return {row["id"] for row in await executor.rows("existing_companies", list(company_ids))}


async def link_connection(
    executor: Executor,
    connection: Connection,
    trigger: Trigger,
    first: Sequence[tuple[UUID, str, int]],
    sealed: SealedCredentials | None = None,
) -> list[UUID] | None:
    """Link `connection`, keep its credentials, queue (dataset id, data type, sync order) on it; the ids queued.

    None where the connection is no longer in the status given: somebody else was quicker.
    """
    rows = await executor.rows(
        "link_connection",
        connection.id,
        connection.company_id,
        connection.status,
        sealed and sealed.token,
        sealed and sealed.key_id,
        [dataset_id for dataset_id, _, _ in first],
        [data_type for _, data_type, _ in first],
        trigger,
        [sync_order for _, _, sync_order in first],
        DESCRIPTIONS[DatasetStatus.QUEUED],
    )
    return list(rows[0]["queued"] or ()) if rows else None


async def unlink_connection(
    executor: Executor, connection_id: UUID, *, delete: bool, description: str
) -> bool:
    """Unlink or delete, and cancel what is active. False where there is no such connection."""
    [row] = await executor.rows("unlink_connection", connection_id, delete, description)
    return row[0]


async def connections_to_erase(executor: Executor, deleted_seconds: float, count_max: int) -> list[UUID]:
    """Those deleted longer ago than that of which something may be left, the longest deleted first."""
    return [row["id"] for row in await executor.rows("connections_to_erase", deleted_seconds, count_max)]


async def note_erased(executor: Executor, connection_id: UUID) -> bool:
    """Nothing is left of what a deleted connection had brought. False where that is not so, or known already."""
    return bool(await executor.rows("note_erased", connection_id))


@dataclass(frozen=True, slots=True)
class ConnectorSessionRow:
    """A connector's open stream, as everybody sees it. It takes `company_capacity` of one company at most."""

    id: UUID
    connector_name: str
    version: str
    address: str
    integration_keys: Collection[str]
    connection_ids: Collection[UUID]
    capacity: int
    company_capacity: int


async def open_connector_session(executor: Executor, session: ConnectorSessionRow, seconds: float) -> None:
    """Show a connector as online for `seconds`."""
    await executor.rows(
        "open_connector_session",
        session.id,
        session.connector_name,
        session.version,
        session.address,
        list(session.integration_keys),
        list(session.connection_ids),
        session.capacity,
        session.company_capacity,
        seconds,
    )


async def drain_connector_session(executor: Executor, session_id: UUID) -> None:
    """Show that a connector takes nothing more."""
    await executor.rows("drain_connector_session", session_id)


async def renew_connector_session(executor: Executor, session_id: UUID, seconds: float) -> bool:
    """Whether there still is such a session."""
    return bool(await executor.rows("renew_connector_session", session_id, seconds))


async def close_connector_session(executor: Executor, session_id: UUID) -> None:
    await executor.rows("close_connector_session", session_id)


async def forget_dead_connector_sessions(executor: Executor) -> None:
    """Drop what killed servers left behind."""
    await executor.rows("forget_dead_connector_sessions")


def _company(row: Row) -> Company:
    return Company(row["id"], row["name"], row["external_id"], row["created"])


def _connection(
    row: Row, problems: tuple[ConnectionProblem, ...], connector: ConnectorPresence | None
) -> Connection:
    return Connection(
        row["id"],
        row["company_id"],
        row["integration_key"],
        ConnectionStatus(row["status"]),
        row["created"],
        first_linked=row["first_linked"],
        last_sync=row["last_sync"],
        errors=problems,
        connector=connector,
    )


def _summary(row: Row) -> ConnectionSummary:
    return ConnectionSummary(
        row["id"],
        row["company_id"],
        ConnectionStatus(row["status"]),
        row["integration_key"],
        row["authorized"],
    )
