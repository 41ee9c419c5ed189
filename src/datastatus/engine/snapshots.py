"""Snapshots: read in one view of the database into a spool, then sent at the client's own pace."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import IO

import structlog

from datastatus import errors
from datastatus.domain.dataset import Dataset
from datastatus.domain.watch import WatchRequest
from datastatus.store import datasets
from datastatus.store.database import Database, View

_log = structlog.get_logger(__name__)

# Each holds a connection, and keeps the store from forgetting what has changed since.
_VIEWS_MAX = 4
# One is always left for those who name their datasets, and are quick.
_LARGE_VIEWS_MAX = 3
_PART_DATASETS = 200
MESSAGE_BYTES_MAX = 3 << 20
"""Clients refuse messages of more than 4 MiB unless they are told to take them: more goes in several."""
_MEMORY_BYTES_MAX = 1 << 20

EncodeSnapshot = Callable[[Sequence[Dataset]], bytes]


class Snapshots:
    """Views of the store, few at once; whoever waits for one holds no connection."""

    def __init__(self, database: Database, encode: EncodeSnapshot) -> None:
        self._database = database
        self._encode = encode
        self._views = asyncio.Semaphore(_VIEWS_MAX)
        self._large_views = asyncio.Semaphore(_LARGE_VIEWS_MAX)

    @asynccontextmanager
    async def small_view(self) -> AsyncIterator[View]:
        """One state of the store, for a few quick reads."""
        async with self._views, self._database.consistent_view() as view:
            yield view

    @asynccontextmanager
    async def large_view(self) -> AsyncIterator[View]:
        """One state of the store, for reads that may take long."""
        async with self._large_views, self.small_view() as view:
            yield view

    @contextmanager
    def spool(self) -> Iterator[Spool]:
        """An empty spool, gone afterwards: in memory while it is small, then in a file without a name."""
        storage = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES_MAX)  # noqa: SIM115 (closed below)
        try:
            yield Spool(self._encode, storage)
        finally:
            # What could not be written is tried once more then, and has been told of.
            with suppress(OSError):
                storage.close()


class Spool:
    """The encoded parts of one snapshot."""

    def __init__(self, encode: EncodeSnapshot, storage: IO[bytes]) -> None:
        self._encode = encode
        self._storage = storage
        self._lengths: list[int] = []

    async def fill(self, view: View, request: WatchRequest) -> None:
        """Put in the latest dataset of each data type that passes, or exactly those that a filter names.

        Raises SnapshotNotSpooled.
        """
        named = request.dataset_ids
        if named:
            found = await datasets.snapshot_named(view, named)
            await self._put([one for one in found if request.passes_dataset(one)])
        general = [one for one in request.any_of if not one.dataset_ids]
        if request.any_of and not general:
            return
        companies = connections = None
        if general and all(one.company_ids for one in general):
            companies = frozenset().union(*(one.company_ids for one in general))
        if general and all(one.connection_ids for one in general):
            connections = frozenset().union(*(one.connection_ids for one in general))
        async for page in datasets.snapshot_latest(view, companies, connections):
            await self._put([one for one in page if one.id not in named and request.passes_dataset(one)])

    async def _put(self, page: Sequence[Dataset]) -> None:
        for first in range(0, len(page), _PART_DATASETS):
            await self._put_part(page[first : first + _PART_DATASETS])

    async def _put_part(self, part: Sequence[Dataset]) -> None:
        encoded = self._encode(part)
        if len(encoded) > MESSAGE_BYTES_MAX and len(part) > 1:
            middle = len(part) // 2
            await self._put_part(part[:middle])
            await self._put_part(part[middle:])
            return
        self._lengths.append(len(encoded))
        try:
            await asyncio.to_thread(self._write, encoded)
        except OSError as exc:
            # Not the database's failure, in whose view it is met: where to look is told here. No folder is known
            # where none can be used.
            _log.error("snapshot_not_spooled", folder=tempfile.tempdir, problem=str(exc))
            raise errors.SnapshotNotSpooled from exc

    def _write(self, encoded: bytes) -> None:
        self._storage.write(encoded)
        # Or the last of it would find no room only when it is read.
        self._storage.flush()

    async def parts(self) -> AsyncIterator[bytes]:
        """What was put in, in order."""
        self._storage.seek(0)
        for length in self._lengths:
            yield await asyncio.to_thread(self._storage.read, length)
