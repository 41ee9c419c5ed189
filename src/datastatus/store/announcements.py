"""What processes tell each other of the journal, by notifications of the database."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import asyncpg

from datastatus import errors
from datastatus.store.database import Executor
from datastatus.store.ids import parse_id


class Announcement(NamedTuple):
    """To all processes: one of them has committed transitions up to `through_seq`; None: who knows how far."""

    process_id: UUID
    through_seq: int | None

    @classmethod
    def parse(cls, payload: str) -> Announcement:
        """Of the payload of a notification."""
        process_id, through_seq = payload.split(" ")
        return cls(parse_id(process_id), int(through_seq) if through_seq else None)

    def __str__(self) -> str:
        return f"{self.process_id} {'' if self.through_seq is None else self.through_seq}"


async def announce_transitions(
    executor: Executor, announcement: Announcement, *, timeout_seconds: float
) -> None:
    """Wake the tailers of the other processes. Raises StoreDown where they cannot be told now."""
    try:
        await executor.rows("announce_transitions", str(announcement), timeout_seconds=timeout_seconds)
    except asyncpg.ProgramLimitExceededError as exc:
        # The queue of notifications is full: somebody listens, to whatever, and does not end a transaction.
        raise errors.StoreDown from exc
