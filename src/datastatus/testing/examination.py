"""Reads an integration's source as a connector does, for the checks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from datastatus.domain.fetching import EVERYTHING, FetchScope
from datastatus.domain.records import StandardRecord
from datastatus.integrations.base import Integration, IntegrationInfo, RawRecord, Retrying, Source
from datastatus.integrations.encoding import encode_record
from datastatus.integrations.reading import fetching
from datastatus.integrations.retrying import try_once

Result = TypeVar("Result")


@dataclass(frozen=True)
class Subject:
    """An integration to be checked, with a source that it can read and that nobody changes meanwhile.

    `options` are connector options as on the command line, `credentials` what AuthorizeConnection would take.
    `wrong_credentials` have the right shape, and the source must refuse them; at least one is wanted where the
    integration takes credentials. The source should hold some records of every data type, two or more if it can;
    `without` are those that it has nothing of.
    """

    integration: Integration[Any]
    options: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, Any] | None = None
    wrong_credentials: Sequence[Mapping[str, Any]] = ()
    without: Collection[str] = ()


class Examination:
    """What several checks look at; what is fetched of one scope is fetched once."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._fetched: dict[tuple[str, FetchScope], list[Sequence[RawRecord]]] = {}

    @property
    def info(self) -> IntegrationInfo:
        return self.subject.integration.info

    @property
    def data_types(self) -> list[str]:
        """Those that it reads itself."""
        return [] if self.info.self_driven else sorted(self.info.data_types)

    def credentials(self, values: Mapping[str, Any] | None = None) -> Any:
        """As the integration takes them; those of the subject where none are named."""
        schema = self.info.credentials
        given = self.subject.credentials if values is None else values
        return None if schema is None else schema.model_validate(given or {})

    @asynccontextmanager
    async def open(self, retrying: Retrying = try_once) -> AsyncIterator[Source]:
        credentials = self.credentials()
        async with self.subject.integration.open(self.subject.options, credentials, retrying) as source:
            yield source

    async def fetch(self, data_type: str, retrying: Retrying = try_once) -> list[Sequence[RawRecord]]:
        """The pages of everything, fetched now."""
        return await self._pages(data_type, EVERYTHING, retrying)

    async def fetched(self, data_type: str, scope: FetchScope = EVERYTHING) -> list[Sequence[RawRecord]]:
        """The pages of what is in scope."""
        if (data_type, scope) not in self._fetched:
            self._fetched[data_type, scope] = await self._pages(data_type, scope, try_once)
        return self._fetched[data_type, scope]

    async def records(self, data_type: str, scope: FetchScope = EVERYTHING) -> dict[str, StandardRecord]:
        """What is in scope by id, mapped after a journey through JSON."""
        mapped = {}
        for raw in raw_records(await self.fetched(data_type, scope)):
            record = self.subject.integration.map(data_type, travelled(raw))
            mapped[record.id] = record
        return mapped

    async def _pages(
        self, data_type: str, scope: FetchScope, retrying: Retrying
    ) -> list[Sequence[RawRecord]]:
        async with self.open(retrying) as source, fetching(source, data_type, scope) as pages:
            return [page async for page in pages]


def raw_records(pages: Sequence[Sequence[RawRecord]]) -> list[RawRecord]:
    return [raw for page in pages for raw in page]


def travelled(raw: RawRecord) -> dict[str, Any]:
    """The raw record as the service gets it from a connector."""
    return json.loads(encode_record(raw))


async def read_twice(read: Callable[[], Awaitable[Result]]) -> Result:
    """A `Retrying` that loses every first answer."""
    await read()
    return await read()
