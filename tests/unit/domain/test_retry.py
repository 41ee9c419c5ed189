"""When a read is tried again, and how long it waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastatus import errors
from datastatus.domain.dataset import WaitReason
from datastatus.domain.retry import RetryPolicy, wait_reason

POLICY = RetryPolicy(attempts_max=5, first_pause_seconds=2, longest_pause_seconds=10)
AWAY = errors.SourceOutOfReach("the source does not answer", code="TIMEOUT")


def overrun(seconds: float | None) -> errors.SourceRateLimited:
    return errors.SourceRateLimited("too many requests", code="RATE_LIMITED", retry_after_seconds=seconds)


def test_pauses_double_up_to_the_longest_and_end_with_the_attempts() -> None:
    ceilings = [POLICY.pause_seconds(AWAY, failures, 1.0) for failures in range(1, 6)]
    assert ceilings == [2, 4, 8, 10, None]


@given(st.integers(1, 4), st.floats(0, 1))
def test_jitter_takes_a_pause_anywhere_below_its_ceiling(failures: int, jitter: float) -> None:
    pause = POLICY.pause_seconds(AWAY, failures, jitter)
    ceiling = POLICY.pause_seconds(AWAY, failures, 1.0)
    assert pause is not None
    assert ceiling is not None
    assert pause == pytest.approx(jitter * ceiling)


def test_what_a_source_asks_for_is_granted_in_full() -> None:
    assert POLICY.pause_seconds(overrun(7), 1, 0.0) == 7
    assert POLICY.pause_seconds(overrun(7), 1, 1.0) == 9
    assert POLICY.pause_seconds(overrun(None), 1, 1.0) == 2


def test_a_source_that_asks_for_more_than_the_longest_pause_is_not_waited_for() -> None:
    assert POLICY.pause_seconds(overrun(10), 1, 0.0) == 10
    assert POLICY.pause_seconds(overrun(10.1), 1, 0.0) is None


def test_many_failures_do_not_overflow() -> None:
    patient = RetryPolicy(attempts_max=10_000)
    assert patient.pause_seconds(AWAY, 9_999, 1.0) == patient.longest_pause_seconds


@pytest.mark.parametrize(
    "error",
    [
        errors.SourceUnavailable("no such file", code="BOOK_MISSING"),
        errors.SourceAuthFailed("refused", code="KEY_REFUSED"),
        errors.SourcePermissionDenied("not allowed", code="FORBIDDEN"),
        errors.SourceUnsupported("no such data", code="DATA_TYPE_UNSUPPORTED"),
        errors.MappingFailed("1", "total", "is not a number"),
    ],
)
def test_what_waiting_cannot_cure_is_not_tried_again(error: errors.SourceError) -> None:
    assert wait_reason(error) is None
    assert POLICY.pause_seconds(error, 1, 0.5) is None


def test_a_wait_says_what_it_waits_for() -> None:
    assert wait_reason(AWAY) is WaitReason.SOURCE_UNAVAILABLE
    assert wait_reason(overrun(None)) is WaitReason.RATE_LIMITED
    assert wait_reason(errors.SourceLocked("in use", code="BOOK_LOCKED")) is WaitReason.BOOK_LOCKED
