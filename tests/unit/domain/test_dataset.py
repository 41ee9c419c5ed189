from __future__ import annotations

import pytest

from datastatus.domain.dataset import DESCRIPTIONS, TRANSITIONS, DatasetStatus, Progress, is_legal

S = DatasetStatus


def test_every_status_has_its_followers_and_its_description() -> None:
    assert set(TRANSITIONS) == set(DESCRIPTIONS) == set(DatasetStatus)


def test_every_status_can_be_reached_and_every_active_one_can_end() -> None:
    reached = {S.QUEUED}
    for _ in DatasetStatus:
        reached |= {after for before in reached for after in TRANSITIONS[before]}
    assert reached == set(DatasetStatus)
    for status in DatasetStatus:
        if not status.is_terminal:
            # Whoever operates it can always stop it, and a failure of ours always has a name.
            assert {S.CANCELLED, S.INTERNAL_ERROR} <= TRANSITIONS[status]


def test_nothing_follows_a_terminal_status() -> None:
    terminal = {status for status in DatasetStatus if status.is_terminal}
    assert terminal == set(DatasetStatus) - {S.QUEUED, S.FETCHING, S.MAPPING, S.VALIDATING, S.PROCESSING}
    assert not any(is_legal(before, after) for before in terminal for after in DatasetStatus)


def test_no_stage_is_skipped_on_the_way_to_complete() -> None:
    stages = [S.QUEUED, S.FETCHING, S.MAPPING, S.VALIDATING, S.PROCESSING, S.COMPLETE]
    for before in stages:
        for after in stages:
            if after is not S.QUEUED:
                assert is_legal(before, after) == (stages.index(after) == stages.index(before) + 1)


@pytest.mark.parametrize(
    ("progress", "percent"),
    [
        (Progress(), None),
        (Progress(fetched=10), None),
        (Progress(total=0), 100),
        (Progress(total=10), 0),
        (Progress(fetched=10, total=10), 25),
        (Progress(fetched=10, mapped=10, validated=5, total=10), 62),
        (Progress(fetched=10, mapped=10, validated=10, stored=10, total=10), 100),
        # The source had counted fewer.
        (Progress(fetched=30, mapped=30, validated=30, stored=30, total=10), 100),
    ],
)
def test_percent_counts_each_stage_a_quarter(progress: Progress, percent: int | None) -> None:
    assert progress.percent == percent
