"""Tryton, a free ERP, read over the network from a server of version 8.

Not among the data types: `creditNotes`, which the standard model does not have yet, and reports, which Tryton
makes from what is read here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from datastatus import errors
from datastatus.domain.records import StandardRecord
from datastatus.integrations.base import Integration, IntegrationInfo, RawRecord, Retrying, Source
from datastatus.integrations.tryton.client import TIMEOUT_SECONDS, TrytonClient, open_client
from datastatus.integrations.tryton.credentials import TrytonCredentials
from datastatus.integrations.tryton.mapping import map_record
from datastatus.integrations.tryton.queries import QUERIES
from datastatus.integrations.tryton.reader import Company, TrytonSource, find_company


class TrytonIntegration:
    info = IntegrationInfo(
        key="tryton",
        name="Tryton",
        source_type="Accounting",
        data_types=frozenset(QUERIES),
        online=True,
        incremental=frozenset(key for key, query in QUERIES.items() if query.incremental),
        credentials=TrytonCredentials,
    )

    def __init__(self, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds

    async def verify(self, credentials: TrytonCredentials) -> None:
        """Whether the key opens the database, and whose books are meant."""
        async with open_client(credentials, timeout_seconds=self._timeout_seconds) as client:
            await _find_company(client, credentials)

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: TrytonCredentials, retrying: Retrying
    ) -> AsyncIterator[Source]:
        async with open_client(credentials, timeout_seconds=self._timeout_seconds) as client:
            company = await retrying(partial(_find_company, client, credentials))
            client.context = {"company": company.id}
            yield TrytonSource(client, company, retrying)

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        return map_record(data_type, raw)


async def _find_company(client: TrytonClient, credentials: TrytonCredentials) -> Company:
    try:
        return await find_company(client, credentials.company)
    except errors.SourceUnsupported as exc:
        # Where not even companies are known there is no such database.
        raise errors.SourceUnavailable(
            f"{credentials.url} has no Tryton database {credentials.database!r}; check url and database",
            code="DATABASE_MISSING",
        ) from exc


TRYTON: Integration[TrytonCredentials] = TrytonIntegration()
