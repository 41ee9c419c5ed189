"""The source half: reads raw records out of a Tryton database, page by page in the order of their ids.

Raw records hold what Tryton sends, in plain JSON, and what `related` adds to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from datastatus import errors
from datastatus.domain.fetching import FetchScope
from datastatus.integrations.base import RawRecord, Retrying
from datastatus.integrations.tryton.client import Query, TrytonClient
from datastatus.integrations.tryton.queries import QUERIES, RecordQuery
from datastatus.integrations.tryton.related import PAYMENT_ACCOUNTS, Row, completion

PAGE_RECORDS_MAX = 100


@dataclass(frozen=True, slots=True)
class Company:
    """The company that is read, with the party that it is itself."""

    id: int
    party_id: int


async def find_company(client: TrytonClient, company_id: int | None) -> Company:
    """The company named or, where the user has only one, that. Raises SourceAuthFailed where there is no such."""
    domain = [] if company_id is None else [["id", "=", company_id]]
    found = await client.search(Query("company.company", ["rec_name", "party.id"], domain, records_max=50))
    match found:
        case [only]:
            return Company(only["id"], only["party"]["id"])
        case []:
            which = "no company" if company_id is None else f"no company with the id {company_id}"
            raise errors.SourceAuthFailed(
                f"the key's user has {which} in Tryton; give the user one there", code="COMPANY_MISSING"
            )
        case several:
            names = ", ".join(f"{one['id']} ({one['rec_name']})" for one in several)
            raise errors.SourceAuthFailed(
                f"the key's user has several companies: {names}; authorise with the id of one as `company`",
                code="COMPANY_REQUIRED",
            )


class TrytonSource:
    """One company of one database. Every page is a read of its own, which is tried again where that may help."""

    def __init__(self, client: TrytonClient, company: Company, retrying: Retrying) -> None:
        self._client = client
        self._company = company
        self._retrying = retrying
        self._fields: dict[str, list[str]] = {}

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        """None of payments: how many parties a move has is seen only when it is read."""
        query = await self._query(data_type)
        if data_type in PAYMENT_ACCOUNTS:
            return None
        domain = self._domain(query, scope)
        return await self._retrying(partial(self._client.count, query.model, domain, query.context))

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        query = await self._query(data_type)
        complete = await completion(data_type, self._related, self._company.id)
        after = 0
        while True:
            domain = [*self._domain(query, scope), ["id", ">", after]]
            page = await self._search(query, self._fields[data_type], domain, PAGE_RECORDS_MAX)
            if page:
                after = page[-1]["id"]
                yield [row | {"id": str(row["id"])} for row in await complete(page)]
            if len(page) < PAGE_RECORDS_MAX:
                return

    def _domain(self, query: RecordQuery, scope: FetchScope) -> list[Any]:
        domain = query.condition(self._company.id, scope)
        if query.model == "party.party":
            domain.append(["id", "!=", self._company.party_id])
        if query.model == "company.company":
            domain.append(["id", "=", self._company.id])
        return domain

    async def _query(self, data_type: str) -> RecordQuery:
        """What to ask for, once Tryton has said that it is there and may be read.

        Raises SourceUnsupported where a module is not activated, SourcePermissionDenied.
        """
        if data_type not in QUERIES:
            raise errors.SourceUnsupported(f"Tryton has no {data_type} for us", code="DATA_TYPE_UNSUPPORTED")
        query = QUERIES[data_type]
        if data_type not in self._fields:
            await self._check(data_type, query)
            self._fields[data_type] = [*query.all_fields(), *await self._optional(query)]
        return query

    async def _check(self, data_type: str, query: RecordQuery) -> None:
        models = sorted(query.all_models())
        named = Query("ir.model", ["name"], [["name", "in", models]])
        there = {row["name"] for row in await self._retrying(partial(self._client.search, named))}
        if missing := [model for model in models if model not in there]:
            raise errors.SourceUnsupported(
                f"this Tryton has no {data_type}: the module with {', '.join(missing)} is not activated",
                code="MODEL_MISSING",
            )
        access = await self._retrying(
            partial(self._client.call, "ir.model.access", "get_access", models=models)
        )
        if refused := [model for model in models if not access[model]["read"]]:
            raise errors.SourcePermissionDenied(
                f"the key's user may not read {', '.join(refused)}; give the user that access in Tryton",
                code="MODEL_NOT_READABLE",
            )

    async def _optional(self, query: RecordQuery) -> list[str]:
        """Paths of those optional fields that the activated modules have."""
        found = []
        for path, model, name in query.optional:
            field = Query("ir.model.field", ["name"], [["model", "=", model], ["name", "=", name]])
            if await self._retrying(partial(self._client.search, field)):
                # A currency is another record, of which the code is wanted.
                found.append(f"{path}{name}.code" if name.endswith("_currency") else f"{path}{name}")
        return found

    async def _search(
        self, query: RecordQuery, fields: Sequence[str], domain: list[Any], records_max: int | None
    ) -> list[Row]:
        asked = Query(query.model, fields, domain, records_max, query.context)
        rows = await self._retrying(partial(self._client.search, asked))
        # A field that the user may not read is left out without a word.
        for row in rows[:1]:
            if missing := sorted({name.partition(".")[0] for name in fields} - row.keys()):
                raise errors.SourcePermissionDenied(
                    f"the key's user may not read {', '.join(missing)} of {query.model}; give the user that "
                    "access in Tryton",
                    code="FIELD_NOT_READABLE",
                )
        return rows

    async def _related(self, query: Query) -> list[Row]:
        return await self._retrying(partial(self._client.search, query))
