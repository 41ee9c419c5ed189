"""Reads an integration's source as a connector does, for the checks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from datastatus.domain.credentials import parse_credentials
from datastatus.domain.fetching import EVERYTHING, FetchScope
from datastatus.domain.records import StandardRecord
from datastatus.integrations.base import Integration, IntegrationInfo, RawRecord, Retrying, Source
from datastatus.integrations.encoding import encode_record
from datastatus.integrations.raw import show
from datastatus.integrations.reading import fetching
from datastatus.integrations.retrying import try_once
from datastatus.testing.failures import NotAsPromised, NotChecked

Result = TypeVar("Result")


@dataclass(frozen=True)
class Subject:
    """An integration to be checked, with a source that it can read and that nobody changes meanwhile.

    `options` are connector options as on the command line, `credentials` what AuthorizeConnection would take: a
    mapping by field, not the model. `wrong_credentials` have the right shape, and the source must refuse them; at
    least one is wanted where the integration takes credentials. The source should hold some records of every data
    type, two or more if it can; `without` are those that it has nothing of. A check that takes longer than
    `check_seconds_max` is given up, and has failed.

    Raises TypeError where it is made wrongly.
    """

    integration: Integration[Any]
    options: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, Any] | None = None
    wrong_credentials: Sequence[Mapping[str, Any]] = ()
    without: Collection[str] = ()
    check_seconds_max: float = 120.0

    def __post_init__(self) -> None:
        if isinstance(self.integration, type) or not isinstance(
            getattr(self.integration, "info", None), IntegrationInfo
        ):
            raise TypeError(
                "integration must be an instance with an `info` of type IntegrationInfo, "
                f"not {_kind(self.integration)}"
            )
        if not isinstance(self.options, Mapping):
            raise TypeError(f"options must be a mapping by name, not {_kind(self.options)}")
        # Their values are not repeated: they may be secret.
        if not isinstance(self.credentials, Mapping | None):
            raise TypeError(
                "credentials must be a mapping by field, as AuthorizeConnection takes it, "
                f"not {_kind(self.credentials)}"
            )
        if not _is_list_of(Mapping, self.wrong_credentials):
            raise TypeError("wrong_credentials must be a list of mappings by field, as credentials is one")
        if not _is_list_of(str, self.without):
            raise TypeError("without must be a set of data types, such as {'invoices'}")


def _is_list_of(kind: type, values: Any) -> bool:
    is_list = isinstance(values, Collection) and not isinstance(values, str | bytes | Mapping)
    return is_list and all(isinstance(one, kind) for one in values)


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


class Examination:
    """What several checks look at; what is fetched of one scope is fetched once."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._fetched: dict[tuple[str, FetchScope], list[Sequence[RawRecord]]] = {}
        self._failed: set[tuple[str, FetchScope]] = set()

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
        return parse_credentials(self.info.key, schema, given or {})

    @asynccontextmanager
    async def open(self, retrying: Retrying = try_once) -> AsyncIterator[Source]:
        credentials = self.credentials()
        async with self.subject.integration.open(self.subject.options, credentials, retrying) as source:
            yield source

    async def fetch(self, data_type: str, retrying: Retrying = try_once) -> list[Sequence[RawRecord]]:
        """The pages of everything, fetched now. Raises NotChecked, as `fetched` does."""
        self.must_be_fetched(data_type)
        return await self._pages(data_type, EVERYTHING, retrying)

    async def fetched(self, data_type: str, scope: FetchScope = EVERYTHING) -> list[Sequence[RawRecord]]:
        """The pages of what is in scope. Raises NotChecked where an earlier check has met its failure."""
        self.must_be_fetched(data_type, scope)
        if (data_type, scope) not in self._fetched:
            self._failed.add((data_type, scope))
            self._fetched[data_type, scope] = await self._pages(data_type, scope, try_once)
            self._failed.remove((data_type, scope))
        return self._fetched[data_type, scope]

    def must_be_fetched(self, data_type: str, scope: FetchScope = EVERYTHING) -> None:
        """Raises NotChecked where that has failed: it would again, and has been told."""
        if (data_type, scope) in self._failed:
            raise NotChecked(f"{data_type}: not checked: the fetch failed")

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
            if not isinstance(pages, AsyncIterable):
                raise NotAsPromised(
                    f"{data_type}: fetch must be an async generator, which yields pages, and answered "
                    f"{_kind(pages)}"
                )
            read = []
            async for page in pages:
                read.append(_page(data_type, page))
                # Or a fetch without end that waits for nothing could not be given up.
                await asyncio.sleep(0)
            return read


def _page(data_type: str, page: Any) -> Sequence[RawRecord]:
    """Raises NotAsPromised where it is none."""
    expected = f"{data_type}: fetch must yield pages, lists of dicts, and yielded"
    if not isinstance(page, Sequence) or isinstance(page, str | bytes):
        raise NotAsPromised(f"{expected} {show(page)}")
    for raw in page:
        if not isinstance(raw, dict):
            raise NotAsPromised(f"{expected} {show(raw)} in one")
    return page


def raw_records(pages: Sequence[Sequence[RawRecord]]) -> list[RawRecord]:
    return [raw for page in pages for raw in page]


def travelled(raw: RawRecord) -> dict[str, Any]:
    """The raw record as the service gets it from a connector."""
    return json.loads(encode_record(raw))


async def read_twice(read: Callable[[], Awaitable[Result]]) -> Result:
    """A `Retrying` that loses every first answer."""
    await read()
    return await read()
