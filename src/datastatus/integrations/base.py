"""What an integration is: how one kind of source is described, read, and mapped to the standard model.

An integration has two halves that may run on different machines. The *source* half only fetches: it runs
where the source can be reached (inside the service, or on the end user's machine) and yields raw records.
The *mapping* half is pure and runs in the service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from datastatus.domain.records import StandardRecord

RawRecord = Mapping[str, Any]
"""One item as the source has it: JSON-able, with a non-empty string under `id`. Never a float for money."""


@dataclass(frozen=True, slots=True)
class ConnectorOption:
    """One thing that a connector must be told to reach its source: `--book FILE`."""

    name: str
    help: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class IntegrationInfo:
    """How an integration presents itself.

    `data_types` are the keys it can read. `online` sources are read from inside the service; the others
    wait in QUEUED for their connector. With `self_driven` the connector drives every stage itself and the
    service keeps the statuses only.
    """

    key: str
    name: str
    source_type: str
    data_types: frozenset[str]
    online: bool
    self_driven: bool = False
    connector_options: tuple[ConnectorOption, ...] = ()


class Source(Protocol):
    """An open source. Any method may raise a `SourceError`, which ends the dataset in its status."""

    async def count(self, data_type: str) -> int | None:
        """How many records `fetch` will yield, for the progress display; None where that is not known."""
        ...

    def fetch(self, data_type: str) -> AsyncIterator[Sequence[RawRecord]]:
        """Yield all records of the type in pages of at most a few hundred, in constant memory."""
        ...


class Integration(Protocol):
    """One kind of source; an instance is registered under the entry point group `datastatus.integrations`."""

    @property
    def info(self) -> IntegrationInfo: ...

    def open(self, options: Mapping[str, str]) -> AbstractAsyncContextManager[Source]:
        """Open the source for one dataset. `options` holds a value for each required connector option."""
        ...

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        """Express one raw record in the standard model; pure. Raises MappingFailed naming record and field."""
        ...
