"""What an integration is: how one kind of source is described, read, and mapped to the standard model.

An integration has two halves that may run on different machines. The *source* half only fetches: it runs
where the source can be reached (inside the service, or on the end user's machine) and yields raw records.
The *mapping* half is pure and runs in the service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import StandardRecord
from datastatus.domain.retry import USUAL_RETRY, RetryPolicy

RawRecord = Mapping[str, Any]
"""One item as the source has it: a dict of what JSON knows, with a non-empty string under `id`.

Never a float, and at most `encoding.RECORD_BYTES_MAX` as JSON.
"""

Credentials = TypeVar("Credentials", contravariant=True)  # noqa: PLC0105 (stands in every plug-in's signatures)
"""An integration's own schema, or None of one that takes no credentials."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ConnectorOption:
    """One thing that a connector must be told to reach its source: `--book FILE`.

    Of one that `is_file` the connector tells at its start where there is no such file; it may still come.
    """

    name: str
    help: str
    required: bool = True
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class IntegrationInfo:
    """How an integration presents itself.

    `data_types` are the keys it can read. `online` sources are read from inside the service; the others
    wait in QUEUED for their connector. With `self_driven` the connector drives every stage itself and the
    service keeps the statuses only. Of its `incremental` data types it can tell what was changed since when, and
    fetches only that where `FetchScope.modified_since` is set. `credentials` is the schema of what
    AuthorizeConnection takes, None where it takes nothing; secrets in it are SecretStr. `retry` says how long a
    source is waited for that is locked, out of reach or overrun for the moment.
    """

    key: str
    name: str
    source_type: str
    data_types: frozenset[str]
    online: bool
    self_driven: bool = False
    incremental: frozenset[str] = frozenset()
    connector_options: tuple[ConnectorOption, ...] = ()
    credentials: type[BaseModel] | None = None
    retry: RetryPolicy = USUAL_RETRY


class Retrying(Protocol):
    """Given to a source for reads that may fail for the moment and can be made again without harm."""

    async def __call__(self, read: Callable[[], Awaitable[Result]], /) -> Result:
        """What `read` answers, after as many attempts as the integration's RetryPolicy grants.

        SourceLocked, SourceOutOfReach and SourceRateLimited are waited out, and raised in the end; any other
        error is raised at once. While it waits the dataset shows why, and until when.
        """
        ...


class Source(Protocol):
    """An open source. Any method may raise a `SourceError`, which ends the dataset in its status."""

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        """How many records `fetch` will yield, for the progress display; None where that is not known."""
        ...

    def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        """Yield the records in scope in pages of at most a few hundred, in constant memory.

        Whatever waits for the source has a time limit of its own: nobody else sets one.
        A fetch that is given up is closed before the source is, so that a `finally` in it still has the source.
        """
        ...


class Integration(Protocol[Credentials]):
    """One kind of source; an instance is registered under the entry point group `datastatus.integrations`."""

    @property
    def info(self) -> IntegrationInfo: ...

    async def verify(self, credentials: Credentials) -> None:
        """Ask the source whether it accepts them. Raises the SourceError that says why it does not.

        It is never called of an integration that takes no credentials.
        """
        ...

    def open(
        self, options: Mapping[str, str], credentials: Credentials, retrying: Retrying
    ) -> AbstractAsyncContextManager[Source]:
        """Open the source for one dataset. `options` holds a value for each required connector option."""
        ...

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        """Express one raw record in the standard model; pure.

        Raises MappingFailed naming record and field where the raw record makes no sense. What the model itself
        refuses, such as a currency that is none, leaves as its ValidationError and becomes findings, all at once.
        """
        ...
