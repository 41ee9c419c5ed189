"""Maps pages of raw records, and checks each record while its model is at hand.

Few records are mapped in a thread; many in processes of their own, started when they are needed, so that the server
goes on serving beside them and uses more than one processor. What a plug-in maps goes to a process however little
it is: only that can be ended when it hangs, and a server whose interpreter lock it keeps would stand still.
"""

from __future__ import annotations

import asyncio
import faulthandler
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import structlog
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json

from datastatus import errors
from datastatus.domain import validation
from datastatus.domain.records import MODELS, StandardRecord
from datastatus.domain.records.keys import party_id
from datastatus.domain.validation import Books, Finding
from datastatus.integrations.base import Integration, RawRecord
from datastatus.integrations.registry import Registry, find_integration, load_registry, plug_ins
from datastatus.store.staging import MappedColumns
from datastatus.tasks import in_daemon_thread

_log = structlog.get_logger(__name__)

# Starting a process takes as long as mapping thousands of records.
_PROCESSES_FROM_RECORDS = 5_000
# So they stay a while: where one dataset is large the next one may be.
_IDLE_SECONDS = 60.0
_START_SECONDS_MAX = 60.0
# What is late is killed by the server. One that lost its server, too, ends by itself, soon after.
_OVERTIME_SECONDS = 5.0
_THREAD_HANGS = "a thread cannot be ended: it takes processor time until this server is started again"


class MapperDied(Exception):
    """A mapping process was killed, or ran out of memory; the page may be mapped again."""


class MapRaised(Exception):
    """The integration's `map` has raised what it should not, of the record of this id; its trace as text."""

    def __init__(self, record_id: str, trace: str) -> None:
        super().__init__(record_id, trace)
        self.record_id = record_id
        self.trace = trace


class MapperFailed(Exception):
    """Mapping has failed, and not by the integration. The message is the trace."""


class MappingTimedOut(Exception):
    """An integration has not mapped a page of so many records in time; `record_id` is the first of them."""

    def __init__(self, record_id: str, records: int, seconds: float) -> None:
        super().__init__(record_id, records, seconds)
        self.record_id = record_id
        self.records = records
        self.seconds = seconds


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
"""Raises MappingFailed, MapRaised, MapperDied, MapperFailed, MappingTimedOut."""

_Outcome = MappedPage | MapRaised | tuple[str, str, str] | str
"""A page, or what MappingFailed is made of, or the trace of another error. Errors of others may not travel."""


class Mappers:
    """Where pages are mapped, each within `page_seconds_max`. `processes` 0: always in threads."""

    def __init__(self, registry: Registry, processes: int, page_seconds_max: float) -> None:
        self._registry = registry
        self._plug_ins = plug_ins(registry)
        self._processes_max = processes
        self._page_seconds_max = page_seconds_max
        self._places = asyncio.Semaphore(processes)
        self._processes: set[MappingProcess] = set()
        self._idle: list[MappingProcess] = []
        self._users = 0
        self._ending: asyncio.TimerHandle | None = None

    @property
    def at_once(self) -> int:
        """How many pages of one dataset are worth having on the way: while one is mapped another comes or goes."""
        return 2 * self._processes_max or 1

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that there are now."""
        return [process.id for process in self._processes]

    @asynccontextmanager
    async def mapper(self, job: MappingJob, records: int) -> AsyncIterator[MapPage]:
        """Maps the pages of a dataset of so many records."""
        is_trusted = job.integration_key not in self._plug_ins
        if self._processes_max == 0 or (is_trusted and records < _PROCESSES_FROM_RECORDS):
            yield partial(self._in_thread, asyncio.Lock(), job)
            return
        self._users += 1
        if self._ending is not None:
            self._ending.cancel()
        try:
            yield partial(self._in_process, job)
        finally:
            self._users -= 1
            if self._users == 0:
                self._ending = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self.end)

    def end(self) -> None:
        """End the processes, of which none is mapping any more."""
        for process in self._idle:
            self._end(process)
        self._idle.clear()

    async def _in_thread(
        self, turn: asyncio.Lock, job: MappingJob, raw_records: Sequence[bytes]
    ) -> MappedPage:
        # One of a dataset at a time: more would only share the interpreter, and each that hangs stays.
        async with turn:
            try:
                outcome = await self._in_time(job, raw_records, partial(_outcome, self._registry))
            except MappingTimedOut:
                _log.warning("mapping_thread_hangs", integration=job.integration_key, hint=_THREAD_HANGS)
                raise
        return _page(outcome)

    async def _in_process(self, job: MappingJob, raw_records: Sequence[bytes]) -> MappedPage:
        async with self._places:
            process = self._living() or self._begin()
            try:
                await process.ready()
                outcome = await self._in_time(job, raw_records, process.outcome)
            except BaseException:
                # It is late, dead, or in the middle of a page that nobody waits for any more.
                self._end(process)
                raise
            self._idle.append(process)
        return _page(outcome)

    async def _in_time(
        self,
        job: MappingJob,
        raw_records: Sequence[bytes],
        outcome: Callable[[MappingJob, Sequence[bytes]], _Outcome],
    ) -> _Outcome:
        try:
            async with asyncio.timeout(self._page_seconds_max):
                return await in_daemon_thread(partial(outcome, job, raw_records))
        except TimeoutError:
            first = _parse(raw_records[0])["id"]
            raise MappingTimedOut(first, len(raw_records), self._page_seconds_max) from None

    def _living(self) -> MappingProcess | None:
        """One that is idle; somebody may have killed it meanwhile."""
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                return process
            self._end(process)
        return None

    def _begin(self) -> MappingProcess:
        process = MappingProcess(self._page_seconds_max + _OVERTIME_SECONDS)
        self._processes.add(process)
        return process

    def _end(self, process: MappingProcess) -> None:
        self._processes.discard(process)
        process.kill()


class MappingProcess:
    """A process beside the server that maps a page at a time, with a pipe to it.

    It ends, whatever becomes of its server, where a page takes it more than `page_seconds_max`.
    """

    def __init__(self, page_seconds_max: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_map_pages, args=(theirs, page_seconds_max), daemon=True)
        self._process.start()
        # Theirs alone is left, so that the pipe ends with the process.
        theirs.close()
        self._is_ready = False

    @property
    def id(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    async def ready(self) -> None:
        """Until it can map. Raises MapperDied."""
        if self._is_ready:
            return
        try:
            async with asyncio.timeout(_START_SECONDS_MAX):
                await in_daemon_thread(self._receive)
        except TimeoutError:
            raise MapperDied(f"it has not started within {_START_SECONDS_MAX:g} s") from None
        self._is_ready = True

    def outcome(self, job: MappingJob, raw_records: Sequence[bytes]) -> _Outcome:
        """What becomes of a page; blocks. Raises MapperDied."""
        try:
            self._pipe.send((job, list(raw_records)))
        except OSError as exc:
            raise MapperDied(repr(exc)) from exc
        return self._receive()

    def kill(self) -> None:
        # The pipe is left alone: a thread may wait at it, until it ends with the process.
        self._process.kill()
        threading.Thread(target=self._process.join, daemon=True).start()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError) as exc:
            raise MapperDied(repr(exc)) from exc


def map_page(integration: Integration[Any], job: MappingJob, raw_records: Sequence[bytes]) -> MappedPage:
    """Raises MappingFailed naming the record and the field that cannot be mapped, MapRaised."""
    columns = MappedColumns()
    findings: list[Finding] = []
    for raw in raw_records:
        parsed = _parse(raw)
        # Before its integration has it, which may take it apart.
        raw_id = parsed["id"]
        record, found = validation.validated(
            raw_id,
            job.books,
            lambda raw_id=raw_id, parsed=parsed: _mapped(integration, job.data_type, raw_id, parsed),
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


def _mapped(integration: Integration[Any], data_type: str, raw_id: str, raw: RawRecord) -> StandardRecord:
    try:
        record = integration.map(data_type, raw)
    except (errors.MappingFailed, ValidationError):
        raise
    except BaseException as exc:  # of SystemExit, too, only this record ends
        raise MapRaised(raw_id, traceback.format_exc()) from exc
    model = MODELS[data_type]
    # It may be anything, and None too.
    if type(record) is not model:
        raise errors.MappingFailed(raw_id, "(whole record)", f"was not mapped to a {model.__name__}")
    return record


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        parsed = from_json(raw)
    except ValueError as exc:
        raise errors.MappingFailed("(unknown)", "(whole record)", "is not JSON in UTF-8") from exc
    if not isinstance(parsed, dict) or not isinstance(parsed.get("id"), str) or not parsed["id"]:
        raise errors.MappingFailed("(unknown)", "id", "a raw record is an object with a non-empty string id")
    return parsed


def _outcome(registry: Registry, job: MappingJob, raw_records: Sequence[bytes]) -> _Outcome:
    try:
        return map_page(find_integration(registry, job.integration_key), job, raw_records)
    except errors.MappingFailed as exc:
        # What an integration raises may be wrong in itself.
        return str(exc.record_id), str(exc.field), str(exc.problem)
    except MapRaised as exc:
        return exc
    except Exception:
        return traceback.format_exc()


def _page(outcome: _Outcome) -> MappedPage:
    match outcome:
        case MappedPage():
            return outcome
        case MapRaised():
            raise outcome
        case str():
            raise MapperFailed(outcome)
        case record_id, field, problem:
            raise errors.MappingFailed(record_id, field, problem)


def _map_pages(pipe: Connection, page_seconds_max: float) -> None:
    """What a mapping process does, until it is killed."""
    # A Ctrl-C at a terminal goes to all its processes; the server ends its own in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A server that is killed cannot end its processes: they look after themselves.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
    # A server may have been started without it, and a plug-in may put something else in the place of sys.stderr.
    trace = sys.__stderr__ or open(os.devnull, "w")  # noqa: SIM115 (as long as the process)
    registry = load_registry()
    # Without a server there is nobody to map for.
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            job, raw_records = pipe.recv()
            # No thread of ours runs while the integration keeps the interpreter lock; this needs none.
            faulthandler.dump_traceback_later(page_seconds_max, exit=True, file=trace)
            outcome = _outcome(registry, job, raw_records)
            faulthandler.cancel_dump_traceback_later()
            pipe.send(outcome)
