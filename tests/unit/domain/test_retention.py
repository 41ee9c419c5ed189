from __future__ import annotations

from datastatus.domain.retention import PARTITIONS_MAX, JournalPartition, oldest_seq_to_keep


def oldest(filled: int) -> int:
    """With that many partitions of ten transitions filled, and a spare one."""
    partitions = [JournalPartition(10 * n + 1, 10 * n + 11) for n in range(filled + 1)]
    return oldest_seq_to_keep(partitions, 10 * filled)


def test_all_is_kept_that_may_be() -> None:
    assert oldest_seq_to_keep([], 0) == 1
    assert oldest(0) == 1
    assert oldest(PARTITIONS_MAX) == 1


def test_there_are_never_too_many() -> None:
    assert oldest(PARTITIONS_MAX + 3) == 31
