"""How much of the journal is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A query plan looks at every partition.
PARTITIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class JournalPartition:
    """Room for the transitions from `from_seq` up to but without `to_seq`."""

    from_seq: int
    to_seq: int


def oldest_seq_to_keep(partitions: Sequence[JournalPartition], head_seq: int) -> int:
    """Where the journal begins if all is kept that may be: no more than `PARTITIONS_MAX` with anything in them.

    `partitions` are in order of seq.
    """
    filled = [one for one in partitions if one.from_seq <= head_seq]
    return filled[-PARTITIONS_MAX].from_seq if len(filled) > PARTITIONS_MAX else 1
