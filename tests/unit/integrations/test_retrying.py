"""Reads that fail for the moment are made again, and each wait is told of."""

from __future__ import annotations

import pytest

from datastatus import errors
from datastatus.domain.dataset import WaitReason
from datastatus.domain.retry import RetryPolicy
from datastatus.integrations.retrying import Retries

POLICY = RetryPolicy(attempts_max=3, first_pause_seconds=0.001, longest_pause_seconds=0.002)


class Reads:
    """A source that fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.waits: list[WaitReason] = []

    async def read(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "records"

    async def on_wait(self, reason: WaitReason, seconds: float) -> None:
        assert 0 <= seconds <= POLICY.longest_pause_seconds
        self.waits.append(reason)

    async def retried(self) -> str:
        return await Retries(POLICY, self.on_wait)(self.read)


def away() -> errors.SourceOutOfReach:
    return errors.SourceOutOfReach("the source does not answer", code="TIMEOUT")


async def test_a_source_that_comes_back_in_time_is_read() -> None:
    reads = Reads(away(), errors.SourceRateLimited("too many", code="RATE_LIMITED"))
    assert await reads.retried() == "records"
    assert reads.waits == [WaitReason.SOURCE_UNAVAILABLE, WaitReason.RATE_LIMITED]


async def test_the_last_failure_is_raised_once_the_attempts_are_spent() -> None:
    last = errors.SourceRateLimited("too many", code="RATE_LIMITED")
    reads = Reads(away(), away(), last, away())
    with pytest.raises(errors.SourceRateLimited) as caught:
        await reads.retried()
    assert caught.value is last
    assert len(reads.waits) == 2


async def test_every_read_has_all_its_attempts() -> None:
    reads = Reads(away(), away())
    retries = Retries(POLICY, reads.on_wait)
    assert await retries(reads.read) == "records"
    reads.failures.extend([away(), away()])
    assert await retries(reads.read) == "records"


@pytest.mark.parametrize("error", [errors.SourceAuthFailed("refused", code="KEY"), RuntimeError("a bug")])
async def test_what_waiting_cannot_cure_is_raised_at_once(error: Exception) -> None:
    reads = Reads(error)
    with pytest.raises(type(error)):
        await reads.retried()
    assert reads.waits == []
