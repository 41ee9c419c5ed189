"""Maps pages of raw records, and checks each record while its model is at hand.

Few records are mapped in a thread; many in processes of their own, started when they are needed, so that the server
goes on serving beside them and uses more than one processor.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, from_json

from datastatus import errors
from datastatus.domain import validation
from datastatus.domain.records import MODELS, StandardRecord
from datastatus.domain.records.keys import party_id
from datastatus.domain.validation import Books, Finding
from datastatus.integrations.base import Integration, RawRecord
from datastatus.integrations.boundary import contained
from datastatus.integrations.registry import Registry, find_integration, load_registry
from datastatus.store.staging import MappedColumns

# Starting a process takes as long as mapping thousands of records.
_PROCESSES_FROM_RECORDS = 5_000
# So they stay a while: where one dataset is large the next one may be.
_IDLE_SECONDS = 60.0


class MapperDied(Exception):
    """A mapping process was killed, or ran out of memory; the page may be mapped again."""


@dataclass(frozen=True, slots=True)
class MappedPage:
    """`refused` records are not among the columns: their models did not take them, as the findings say."""

    columns: MappedColumns
    findings: Sequence[Finding]
    refused: int


@dataclass(frozen=True, slots=True)
class MappingJob:
    """What is mapped, and what the rules must know."""

    integration_key: str
    data_type: str
    books: Books


MapPage = Callable[[Sequence[bytes]], Awaitable[MappedPage]]
"""Raises MappingFailed, MapperDied."""


class Mappers:
    """Where pages are mapped. `processes` 0: always in threads."""

    def __init__(self, registry: Registry, processes: int) -> None:
        self._registry = registry
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._users = 0
        self._ending: asyncio.TimerHandle | None = None

    @property
    def at_once(self) -> int:
        """How many pages of one dataset are worth having on the way: while one is mapped another comes or goes."""
        return 2 * self._processes or 1

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that there are now."""
        return list(self._pool._processes or ()) if self._pool else []

    @asynccontextmanager
    async def mapper(self, job: MappingJob, records: int) -> AsyncIterator[MapPage]:
        """Maps the pages of a dataset of so many records."""
        if self._processes == 0 or records < _PROCESSES_FROM_RECORDS:
            integration = find_integration(self._registry, job.integration_key)
            yield lambda raw_records: asyncio.to_thread(map_page, integration, job, raw_records)
            return
        self._users += 1
        if self._ending is not None:
            self._ending.cancel()
        try:
            yield lambda raw_records: self._in_process(job, raw_records)
        finally:
            self._users -= 1
            if self._users == 0:
                self._ending = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self.end)

    def end(self) -> None:
        """Send the processes home."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def _in_process(self, job: MappingJob, raw_records: Sequence[bytes]) -> MappedPage:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._processes, multiprocessing.get_context("spawn"), _begin_process
            )
        pool = self._pool
        try:
            result = await asyncio.get_running_loop().run_in_executor(
                pool, _map_in_process, job, list(raw_records)
            )
        except BrokenProcessPool as exc:
            if self._pool is pool:
                self._pool = None
            raise MapperDied(str(exc)) from exc
        if isinstance(result, tuple):
            raise errors.MappingFailed(*result)
        return result


def map_page(integration: Integration[Any], job: MappingJob, raw_records: Sequence[bytes]) -> MappedPage:
    """Raises MappingFailed naming the record and the field that cannot be mapped."""
    columns = MappedColumns()
    findings: list[Finding] = []
    for raw in raw_records:
        parsed = _parse(raw)
        record, found = validation.validated(
            parsed["id"], job.books, lambda parsed=parsed: _mapped(integration, job.data_type, parsed)
        )
        findings += found
        if record is None:
            continue
        try:
            body = record.to_json()
        except PydanticSerializationError as exc:
            raise errors.MappingFailed(record.id, "(an amount)", str(exc)) from exc
        columns.record_ids.append(record.id)
        columns.bodies.append(body)
        columns.content_hashes.append(hashlib.blake2b(body.encode(), digest_size=16).digest())
        columns.source_modified.append(record.source_modified_date)
        columns.days.append(record.dated)
        columns.party_ids.append(party_id(record))
        columns.references.update(target for _, target in validation.namings(record))
    return MappedPage(columns, findings, len(raw_records) - len(columns.record_ids))


def _mapped(integration: Integration[Any], data_type: str, raw: RawRecord) -> StandardRecord:
    with contained():
        record = integration.map(data_type, raw)
    model = MODELS[data_type]
    # It may be anything, and None too.
    if type(record) is not model:
        raise errors.MappingFailed(raw["id"], "(whole record)", f"was not mapped to a {model.__name__}")
    return record


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        parsed = from_json(raw)
    except ValueError as exc:
        raise errors.MappingFailed("(unknown)", "(whole record)", "is not JSON in UTF-8") from exc
    if not isinstance(parsed, dict) or not isinstance(parsed.get("id"), str) or not parsed["id"]:
        raise errors.MappingFailed("(unknown)", "id", "a raw record is an object with a non-empty string id")
    return parsed


# Of a mapping process: what it was started with.
_process_registry: Registry = {}


def _begin_process() -> None:
    global _process_registry  # noqa: PLW0603 (a process of its own, for this alone)
    _process_registry = load_registry()
    # A server that is killed cannot send its processes home: they look after themselves.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


def _map_in_process(job: MappingJob, raw_records: Sequence[bytes]) -> MappedPage | tuple[str, str, str]:
    """The page, or what MappingFailed is made of: errors with arguments of their own do not travel."""
    try:
        return map_page(find_integration(_process_registry, job.integration_key), job, raw_records)
    except errors.MappingFailed as exc:
        return exc.record_id, exc.field, exc.problem
