"""An example of an integration: a shop's till, which keeps its customers and sales in an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import StandardRecord
from datastatus.errors import SourceLocked, SourceUnavailable, SourceUnsupported
from datastatus.integrations.base import (
    ConnectorOption,
    Integration,
    IntegrationInfo,
    RawRecord,
    Retrying,
    Source,
)
from datastatus_till.mapping import map_record

PAGE_RECORDS_MAX = 200
# How long one attempt waits for somebody who writes; `retrying` makes more of them.
_BUSY_SECONDS = 0.25

# By data type: how many there are in scope, and the next ones in the order of their ids.
_COUNTS = {
    "customers": """
SELECT count(*) AS n FROM customer WHERE :modified_since IS NULL OR changed >= :modified_since""",
    "invoices": """
SELECT count(*) AS n FROM sale
 WHERE (:sync_from IS NULL OR day >= :sync_from) AND (:modified_since IS NULL OR changed >= :modified_since)""",
}
_PAGES = {
    "customers": """
SELECT id, name, email, changed FROM customer
 WHERE (:modified_since IS NULL OR changed >= :modified_since) AND id > :after
 ORDER BY id LIMIT :size""",
    "invoices": """
SELECT s.id, s.number, s.customer, c.name AS customer_name, s.day, s.currency, s.article, s.net_cents, s.tax_cents,
       s.changed
  FROM sale s JOIN customer c ON c.id = s.customer
 WHERE (:sync_from IS NULL OR s.day >= :sync_from) AND (:modified_since IS NULL OR s.changed >= :modified_since)
   AND s.id > :after
 ORDER BY s.id LIMIT :size""",
}


class TillSource:
    """An open till. Every read is one short query of its own, so that it can be made again."""

    def __init__(self, path: Path, retrying: Retrying) -> None:
        self._path = path
        self._retrying = retrying

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        [row] = await self._query(_of(_COUNTS, data_type), scope)
        return row["n"]

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        """Each page begins after the last id of the one before: nothing is missed while the till is used."""
        after = 0
        while page := await self._query(_of(_PAGES, data_type), scope, after=after, size=PAGE_RECORDS_MAX):
            after = page[-1]["id"]
            yield [row | {"id": str(row["id"])} for row in page]

    async def _query(self, query: str, scope: FetchScope, **parameters: int) -> list[dict[str, Any]]:
        # Text in the till's own form, so that it compares as time does.
        limits = {
            "sync_from": scope.sync_from.isoformat() if scope.sync_from else None,
            "modified_since": scope.modified_since.strftime("%Y-%m-%dT%H:%M:%SZ")
            if scope.modified_since
            else None,
        }
        read = partial(asyncio.to_thread, self._read, query, limits | parameters)
        return await self._retrying(read)

    def _read(self, query: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as till:
                till.row_factory = sqlite3.Row
                return [dict(row) for row in till.execute(query, parameters)]
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise SourceLocked(f"{self._path} is in use; it is tried again", code="TILL_BUSY") from exc
            raise SourceUnavailable(f"{self._path} cannot be read: {exc}", code="TILL_UNREADABLE") from exc
        except sqlite3.DatabaseError as exc:
            raise SourceUnavailable(
                f"{self._path} is no till's database, or damaged", code="TILL_UNREADABLE"
            ) from exc


class TillIntegration:
    info = IntegrationInfo(
        key="till",
        name="Till",
        source_type="Commerce",
        data_types=frozenset(_PAGES),
        online=False,
        incremental=frozenset(_PAGES),
        connector_options=(
            ConnectorOption("database", "The till's database: an SQLite file.", is_file=True),
        ),
    )

    async def verify(self, credentials: None) -> None: ...

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AsyncIterator[Source]:
        path = Path(options.get("database", ""))
        if not await asyncio.to_thread(path.is_file):
            raise SourceUnavailable(f"there is no file {str(path)!r}", code="TILL_MISSING")
        yield TillSource(path, retrying)

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        return map_record(data_type, raw)


def _of(queries: Mapping[str, str], data_type: str) -> str:
    if data_type not in queries:
        raise SourceUnsupported(f"a till has no {data_type}", code="DATA_TYPE_UNSUPPORTED")
    return queries[data_type]


TILL: Integration[None] = TillIntegration()
