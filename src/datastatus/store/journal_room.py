"""The partitions of the journal: room for what is to come, and giving up what is old."""

from __future__ import annotations

from datetime import datetime

from datastatus.domain.retention import JournalPartition
from datastatus.store.database import Executor


async def journal_partitions(executor: Executor) -> list[JournalPartition]:
    """In order of seq."""
    return [JournalPartition(**dict(row)) for row in await executor.rows("journal_partitions")]


async def make_journal_room(executor: Executor, transitions: int) -> None:
    """Have room for that many more transitions, in partitions of that size."""
    await executor.rows("make_journal_room", transitions)


async def oldest_seq_since(executor: Executor, from_seq: int, moment: datetime) -> int:
    """The first from `from_seq` on, of those told of, that is not older than `moment`; if all are, the newest."""
    [row] = await executor.rows("oldest_seq_since", from_seq, moment)
    return row[0]


async def raise_oldest_seq(executor: Executor, oldest_seq: int) -> None:
    """Stop telling of transitions before `oldest_seq`."""
    await executor.rows("raise_oldest_seq", oldest_seq)


async def drop_journal_partition(executor: Executor, from_seq: int) -> bool:
    """Whether the partition could be dropped; not while a reader or writer holds it, then try again later."""
    [row] = await executor.rows("drop_journal_partition", from_seq)
    return row[0]
