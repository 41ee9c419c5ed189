"""Tries a read again while its source is away for the moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from datastatus import errors
from datastatus.domain.dataset import WaitReason
from datastatus.domain.retry import RetryPolicy, wait_reason

Result = TypeVar("Result")

OnWait = Callable[[WaitReason, float], Awaitable[None]]
"""Told of each wait beforehand: why, and for how many seconds."""


class Retries:
    """A `Retrying` that waits as a policy says, and tells of each wait."""

    def __init__(self, policy: RetryPolicy, on_wait: OnWait) -> None:
        self._policy = policy
        self._on_wait = on_wait

    async def __call__(self, read: Callable[[], Awaitable[Result]]) -> Result:
        failures = 0
        while True:
            try:
                return await read()
            except errors.SourceError as exc:
                failures += 1
                reason = wait_reason(exc)
                pause_seconds = self._policy.pause_seconds(exc, failures, random.random())
                if reason is None or pause_seconds is None:
                    raise
            await self._on_wait(reason, pause_seconds)
            await asyncio.sleep(pause_seconds)


async def try_once(read: Callable[[], Awaitable[Result]]) -> Result:
    """A `Retrying` without patience."""
    return await read()
