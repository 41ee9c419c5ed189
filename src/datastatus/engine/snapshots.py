"""Snapshots: read in one view of the database into a spool, then sent at the client's own pace."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import IO

from datastatus.domain.dataset import Dataset
from datastatus.domain.watch import WatchRequest
from datastatus.store import datasets
from datastatus.store.database import View

_AT_ONCE_SNAPSHOTS = 4
_PART_DATASETS = 200
_MEMORY_BYTES_MAX = 4 << 20

EncodeSnapshot = Callable[[Sequence[Dataset]], bytes]


class Snapshots:
    """At most a few snapshots are read at once: each holds a view, and a connection, of the database."""

    def __init__(self, encode: EncodeSnapshot) -> None:
        self._encode = encode
        self._readers = asyncio.Semaphore(_AT_ONCE_SNAPSHOTS)

    @asynccontextmanager
    async def spool(self, *, wanted: bool) -> AsyncIterator[Spool]:
        """A spool that is gone afterwards. Not `wanted`: nothing will be put in, so nothing is made."""
        if not wanted:
            yield Spool(self._encode, self._readers, None)
            return
        # In memory while it is small, then in a file without a name.
        with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES_MAX) as storage:
            yield Spool(self._encode, self._readers, storage)


class Spool:
    """The encoded parts of one snapshot."""

    def __init__(self, encode: EncodeSnapshot, readers: asyncio.Semaphore, storage: IO[bytes] | None) -> None:
        self._encode = encode
        self._readers = readers
        self._storage = storage
        self._lengths: list[int] = []

    async def fill(self, view: View, request: WatchRequest) -> None:
        """Put in the latest dataset of each data type that passes, or exactly those that a filter names."""
        async with self._readers:
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
            encoded = self._encode(page[first : first + _PART_DATASETS])
            self._lengths.append(len(encoded))
            assert self._storage is not None
            await asyncio.to_thread(self._storage.write, encoded)

    async def parts(self) -> AsyncIterator[bytes]:
        """What was put in, in order."""
        if self._storage is None:
            return
        self._storage.seek(0)
        for length in self._lengths:
            yield await asyncio.to_thread(self._storage.read, length)
