"""Histories of the journal: the operator begins a new one where a restore may have lost transitions."""

from __future__ import annotations

from datastatus.store.database import Executor


async def forks(executor: Executor) -> list[tuple[int, int]]:
    """(epoch, fork_seq) of each history, oldest first: where it left the one before."""
    return [(row["number"], row["fork_seq"]) for row in await executor.rows("forks")]


async def begin_epoch(executor: Executor) -> tuple[int, int]:
    """(epoch, fork_seq) of a history that begins after the newest transition there is.

    Its number is greater than those before it, and no other history's, whatever was restored how often.
    """
    [row] = await executor.rows("begin_epoch")
    return row["number"], row["fork_seq"]
