"""Connections to work on, written straight into a service's database: thousands of them in a moment.

This and `history` know the schema; whatever is measured goes through the API.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
from uuid_utils.compat import uuid7

from benchmarks.sql import connected
from datastatus.v1 import sync_service_pb2, sync_service_pb2_grpc
from datastatus.v1.sync_service_pb2 import SyncRequest

INTEGRATION = "external"
"""Its connector drives every stage itself: the status engine alone is measured."""


@dataclass(frozen=True, slots=True)
class Link:
    """A linked connection and its company."""

    company_id: str
    connection_id: str


async def seed_links(
    dsn: str, companies: int, *, connections_each: int = 1, integration_key: str = INTEGRATION
) -> list[Link]:
    """New companies with linked connections; of many connections each, companies take turns in the list."""
    now = datetime.now(UTC)
    company_ids = [uuid7() for _ in range(companies)]
    links = [(company_id, uuid7()) for _ in range(connections_each) for company_id in company_ids]
    async with connected(dsn) as connection:
        await connection.copy_records_to_table(
            "company", records=[(one, "Acme") for one in company_ids], columns=["id", "name"]
        )
        await connection.copy_records_to_table(
            "connection",
            records=[(link, company, integration_key, "LINKED", now, now) for company, link in links],
            columns=["id", "company_id", "integration_key", "status", "first_linked", "authorized"],
        )
        await connection.execute("ANALYZE company, connection")
    return [Link(str(company), str(link)) for company, link in links]


async def data_types(address: str) -> list[str]:
    """All that the service knows."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = sync_service_pb2_grpc.SyncServiceStub(channel)
        listed = await stub.ListDataTypes(sync_service_pb2.ListDataTypesRequest())
        return [one.key for one in listed.data_types]


async def seed_syncs(
    dsn: str,
    types: Sequence[str],
    count: int,
    *,
    companies: int | None = None,
    name_connections: bool = False,
) -> list[SyncRequest]:
    """Requests to queue so many syncs on new connections, in turns of the companies.

    Without `companies` each has one connection and as many syncs as there are types; with it there are so many
    companies, with as many connections as it takes.
    """
    if companies is None:
        companies = -(-count // len(types))
    connections_each = -(-count // (companies * len(types)))
    links = await seed_links(dsn, companies, connections_each=connections_each)
    return [
        SyncRequest(
            company_id=link.company_id,
            data_type=data_type,
            connection_id=link.connection_id if name_connections else None,
        )
        for data_type, link in itertools.islice(itertools.product(types, links), count)
    ]
