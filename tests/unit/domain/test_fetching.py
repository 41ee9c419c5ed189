"""Since when changes are fetched, and when everything is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from datastatus.domain.fetching import (
    NO_HISTORY,
    OVERLAP,
    WHOLE_FETCH_EVERY,
    FetchHistory,
    modified_since,
)

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
HISTORY = FetchHistory(
    now=NOW,
    authorized=NOW - timedelta(days=40),
    whole_started=NOW - timedelta(hours=5),
    whole_from=date(2025, 1, 1),
    newest_source_modified=NOW - timedelta(hours=2),
)


def test_after_a_whole_fetch_only_what_was_changed_since_is_fetched() -> None:
    assert modified_since(HISTORY, date(2025, 1, 1)) == NOW - timedelta(hours=2) - OVERLAP


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (NO_HISTORY, "nothing is known"),
        (replace(HISTORY, whole_started=None), "nothing whole was published yet"),
        (replace(HISTORY, newest_source_modified=None), "the source does not say when it changed"),
        (replace(HISTORY, newest_source_modified=datetime.min.replace(tzinfo=UTC)), "or dates it absurdly"),
        (replace(HISTORY, whole_started=NOW - WHOLE_FETCH_EVERY), "it is due again"),
        (replace(HISTORY, authorized=NOW - timedelta(hours=4)), "it may be another company at the source"),
        (replace(HISTORY, authorized=HISTORY.whole_started), "it may have read the company before"),
    ],
)
def test_everything_is_fetched_where_less_cannot_be_relied_on(history: FetchHistory, why: str) -> None:
    assert modified_since(history, date(2025, 1, 1)) is None, why


def test_a_limit_that_reaches_further_back_takes_a_whole_fetch() -> None:
    assert modified_since(HISTORY, date(2024, 12, 31)) is None
    assert modified_since(HISTORY, None) is None
    assert modified_since(HISTORY, date(2025, 6, 1)) is not None
    assert modified_since(replace(HISTORY, whole_from=None), None) is not None


def test_an_hour_before_it_is_due_it_is_not_yet() -> None:
    history = replace(HISTORY, whole_started=NOW - WHOLE_FETCH_EVERY + timedelta(hours=1))
    assert modified_since(history, date(2025, 1, 1)) is not None
