from __future__ import annotations

from datetime import UTC, datetime, timedelta

from datastatus.domain.retention import PARTITIONS_MAX, JournalPartition, oldest_seq_to_keep

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def partitions(*ages_days: int | None) -> list[JournalPartition]:
    """Of ten transitions each; the age of the newest in each, None where nothing is in it yet."""
    return [
        JournalPartition(10 * n + 1, 10 * n + 11, None if age is None else NOW - timedelta(days=age))
        for n, age in enumerate(ages_days)
    ]


def oldest(*ages_days: int | None) -> int:
    return oldest_seq_to_keep(partitions(*ages_days), NOW - timedelta(days=30))


def test_an_empty_journal_is_kept() -> None:
    assert oldest(None, None) == 1


def test_whole_partitions_go_once_the_newest_in_them_is_too_old() -> None:
    assert oldest(40, 35, 29, 1, None) == 21


def test_the_newest_with_anything_in_it_stays_however_old() -> None:
    assert oldest(400, 300, None) == 11


def test_there_are_never_too_many() -> None:
    assert oldest(*[1] * (PARTITIONS_MAX + 3), None) == 31
