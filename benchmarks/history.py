"""Years of history, written straight into a database by COPY: as the service would have written it, but at once.

Two of three datasets are COMPLETE after six transitions, the third is a FETCH_ERROR after three; runs of all data
types of all connections take turns, and all of it lies within the retention of the journal.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from benchmarks.seed import INTEGRATION, Link, seed_links
from benchmarks.sql import connected

_COMPLETE = ("QUEUED", "FETCHING", "MAPPING", "VALIDATING", "PROCESSING", "COMPLETE")
_FAILED = ("QUEUED", "FETCHING", "FETCH_ERROR")
_SPAN = timedelta(days=20)
_CHUNK_ROWS = 5000
_COPY_SECONDS_MAX = 3600
_PARTITION_TRANSITIONS = 1_000_000


@dataclass(frozen=True, slots=True)
class History:
    """How much there is to be. Each connection has every data type, in as many runs as the datasets allow."""

    links: Sequence[Link]
    types: Sequence[str]
    datasets: int
    # The same for every table: ids are made of it.
    begun: datetime

    @property
    def transitions(self) -> int:
        return sum(len(_outcome(number)) for number in range(self.datasets))


def _outcome(number: int) -> Sequence[str]:
    return _FAILED if number % 3 == 2 else _COMPLETE


@dataclass(frozen=True, slots=True)
class _Dataset:
    id: str
    link: Link
    data_type: str
    statuses: Sequence[str]
    first_seq: int
    begun: datetime

    def occurred(self, nth: int) -> str:
        return (self.begun + timedelta(milliseconds=nth)).isoformat()


def _datasets(history: History) -> Iterator[_Dataset]:
    slots = [(link, data_type) for data_type in history.types for link in history.links]
    seq = 1
    for number in range(history.datasets):
        moment = history.begun + _SPAN * 0.99 * number / history.datasets
        link, data_type = slots[number % len(slots)]
        statuses = _outcome(number)
        milliseconds = int(moment.timestamp() * 1000)
        # A UUID version 7 whose random part counts.
        dataset_id = f"{milliseconds:012x}7{number & 0xFFF:03x}8{number:015x}"
        yield _Dataset(dataset_id, link, data_type, statuses, seq, moment)
        seq += len(statuses)


def _dataset_rows(history: History) -> Iterator[str]:
    for one in _datasets(history):
        last = len(one.statuses) - 1
        failed = one.statuses is _FAILED
        message, code = ("The source does not answer.", "SOURCE_DOWN") if failed else (r"\N", r"\N")
        yield (
            f"{one.id}\t{one.link.company_id}\t{one.link.connection_id}\t{INTEGRATION}\t{one.data_type}\tAPI\t1\t"
            f"{one.statuses[-1]}\t{last + 1}\t{one.occurred(0)}\t{one.occurred(1)}\t{one.occurred(last)}\t"
            f"{message}\t{code}\n"
        )


def _transition_rows(history: History) -> Iterator[str]:
    for one in _datasets(history):
        before = r"\N"
        for nth, status in enumerate(one.statuses):
            failed = status == "FETCH_ERROR"
            message, code = ("The source does not answer.", "SOURCE_DOWN") if failed else (r"\N", r"\N")
            yield (
                f"{one.first_seq + nth}\t{one.id}\t{one.link.company_id}\t{one.link.connection_id}\t"
                f"{one.data_type}\t{nth + 1}\t{before}\t{status}\t{one.occurred(nth)}\tAPI\t"
                f"What the service says of every dataset that has become {status}.\t{message}\t{code}\n"
            )
            before = status


def _data_status_rows(history: History) -> Iterator[str]:
    latest: dict[tuple[str, str], _Dataset] = {}
    successful: dict[tuple[str, str], _Dataset] = {}
    for one in _datasets(history):
        slot = (one.link.connection_id, one.data_type)
        latest[slot] = one
        if one.statuses is _COMPLETE:
            successful[slot] = one
    for slot, one in latest.items():
        good = successful.get(slot)
        success = (
            r"\N	\N	\N" if good is None else f"{good.id}\t{good.first_seq + 5}\t{good.occurred(5)}"
        )
        yield f"{slot[0]}\t{slot[1]}\t{one.id}\t{one.first_seq}\t{success}\n"


_DATASET_COLUMNS = (
    *("id", "company_id", "connection_id", "integration_key", "data_type", "trigger", "sync_order"),
    *("status", "version", "requested", "started", "completed", "error_message", "error_code"),
)


async def build_history(dsn: str, companies: int, types: Sequence[str], datasets: int) -> History:
    """Fill a migrated and otherwise empty database."""
    links = await seed_links(dsn, companies)
    history = History(links, types, datasets, datetime.now(UTC) - _SPAN)
    async with connected(dsn, command_timeout=_COPY_SECONDS_MAX) as connection:
        # Foreign keys hold by construction; checks are made all the same.
        await connection.execute("SET session_replication_role = replica")
        await _copy(connection, "dataset", _dataset_rows(history), _DATASET_COLUMNS)
        await _copy(connection, "data_status", _data_status_rows(history))
        transitions = _transition_rows(history)
        for _ in range(0, history.transitions, _PARTITION_TRANSITIONS):
            # As a server would make it.
            await connection.execute(f"SELECT make_journal_room({_PARTITION_TRANSITIONS})")
            await _copy(connection, "transition", itertools.islice(transitions, _PARTITION_TRANSITIONS))
        await _check(connection)
        # As autovacuum leaves it: nothing measured has to do this in passing.
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
        await connection.execute("CHECKPOINT")
    return history


async def _check(connection: asyncpg.Connection) -> None:
    """What the foreign keys would have checked, at once. Raises HistoryBroken."""
    broken = await connection.fetchval(
        """
        SELECT count(*) FROM data_status s
        LEFT JOIN dataset latest ON latest.id = s.latest_dataset_id
        LEFT JOIN dataset successful ON successful.id = s.successful_dataset_id
        WHERE latest.id IS NULL OR (s.successful_dataset_id IS NOT NULL AND successful.id IS NULL)
        """
    )
    if broken:
        raise HistoryBroken(f"{broken} data statuses point to datasets that are not there")


class HistoryBroken(Exception):
    """What was written is not what a service would have written."""


async def _copy(
    connection: asyncpg.Connection, table: str, rows: Iterator[str], columns: Sequence[str] | None = None
) -> None:
    await connection.copy_to_table(table, source=_chunks(rows), columns=columns, timeout=_COPY_SECONDS_MAX)


async def _chunks(rows: Iterator[str]) -> AsyncIterator[bytes]:
    chunk: list[str] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK_ROWS:
            yield "".join(chunk).encode()
            chunk = []
    yield "".join(chunk).encode()


async def read_journal(dsn: str, transitions: int, page: int) -> float:
    """Transitions a second that asyncpg reads, from the beginning of the journal."""
    async with connected(dsn) as connection:
        statement = await connection.prepare("SELECT * FROM transition WHERE seq > $1 ORDER BY seq LIMIT $2")
        seq = 0
        begun = time.monotonic()
        while seq < transitions:
            rows = await statement.fetch(seq, page)
            seq = rows[-1]["seq"]
        return seq / (time.monotonic() - begun)
