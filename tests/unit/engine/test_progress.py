"""What is noted of a dataset is written while it is with whoever told of it, and not later."""

from __future__ import annotations

from typing import Any

import pytest
from uuid_utils.compat import uuid7

from datastatus.domain.dataset import WaitReason
from datastatus.engine import progress
from datastatus.engine.progress import ProgressBoard
from datastatus.store.datasets import ProgressReport


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[ProgressReport]:
    written: list[ProgressReport] = []

    async def record(database: Any, reports: list[ProgressReport]) -> None:
        written.extend(reports)

    monkeypatch.setattr(progress, "record_progress", record)
    return written


async def test_what_was_noted_of_an_attempt_is_not_written_to_the_next_one(
    written: list[ProgressReport],
) -> None:
    board: Any = ProgressBoard(None)  # type: ignore[arg-type] (nothing is written to it)
    dataset_id, lease = uuid7(), uuid7()
    board.note(ProgressReport(dataset_id, lease, fetched=100))
    board.forget(dataset_id)
    board.note(ProgressReport(dataset_id, lease, fetched=1))
    await board.flush()
    assert [one.fetched for one in written] == [1]


async def test_a_wait_that_is_over_is_not_written_but_its_counts_are(written: list[ProgressReport]) -> None:
    board: Any = ProgressBoard(None)  # type: ignore[arg-type] (nothing is written to it)
    dataset_id, lease = uuid7(), uuid7()
    board.note(ProgressReport(dataset_id, lease, fetched=5, wait_reason=WaitReason.BOOK_LOCKED))
    board.end_wait(dataset_id)
    await board.flush()
    assert [(one.fetched, one.wait_reason) for one in written] == [(5, None)]
