"""How much of the journal is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

# A query plan looks at every partition.
PARTITIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class JournalPartition:
    """Transitions from `from_seq` up to but without `to_seq`; `newest` is None where there is none in it."""

    from_seq: int
    to_seq: int
    newest: datetime | None


def oldest_seq_to_keep(partitions: Sequence[JournalPartition], forget_before: datetime) -> int:
    """Where the journal begins from now on: whole partitions go, those wholly older than `forget_before`.

    The newest partition with anything in it always stays, and there are never more than `PARTITIONS_MAX` with
    anything in them. `partitions` are in order of seq, and at least one.
    """
    filled = [one for one in partitions if one.newest is not None]
    kept = filled[-PARTITIONS_MAX:]
    while len(kept) > 1 and kept[0].newest is not None and kept[0].newest < forget_before:
        kept = kept[1:]
    return (kept or partitions)[0].from_seq
