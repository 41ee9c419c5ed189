"""When a read that failed for the moment is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from datastatus import errors
from datastatus.domain.dataset import WaitReason


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one read is attempted at most, and how long to wait in between.

    The pauses grow exponentially with full jitter: anything from zero to the ceiling, so that many who failed
    together do not come back together.
    """

    attempts_max: int = 6
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0

    def pause_seconds(self, error: errors.SourceError, failures: int, jitter: float) -> float | None:
        """How long to wait after so many failures in a row, `error` the last; None: not again.

        `jitter` is from 0 up to 1. What a source asks for is granted in full, and the jitter comes on top; one
        that asks for more than the longest pause is not waited for.
        """
        if wait_reason(error) is None or failures >= self.attempts_max:
            return None
        asked = error.retry_after_seconds if isinstance(error, errors.SourceRateLimited) else None
        if asked is not None and asked > self.longest_pause_seconds:
            return None
        ceiling = min(self.longest_pause_seconds, self.first_pause_seconds * 2.0 ** min(failures - 1, 64))
        return (asked or 0.0) + jitter * ceiling


USUAL_RETRY = RetryPolicy()
"""Of an integration that says nothing else: gives up after half a minute on average, a minute at most."""


def wait_reason(error: errors.SourceError) -> WaitReason | None:
    """What a dataset shows while such a failure is waited out; None where trying again would not help."""
    match error:
        case errors.SourceRateLimited():
            return WaitReason.RATE_LIMITED
        case errors.SourceLocked():
            return WaitReason.BOOK_LOCKED
        case errors.SourceOutOfReach():
            return WaitReason.SOURCE_UNAVAILABLE
        case _:
            return None
