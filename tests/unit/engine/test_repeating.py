"""One time that fails does not end what is done again and again."""

from __future__ import annotations

import asyncio

import pytest

from datastatus import errors
from datastatus.engine.repeating import repeat


@pytest.mark.parametrize("failure", [errors.StoreDown(), OverflowError("nobody has thought of it")])
async def test_it_is_done_again_after_a_failure(failure: Exception) -> None:
    done = asyncio.Event()
    attempts = 0

    async def action() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise failure
        done.set()

    repeating = asyncio.create_task(repeat(action, 0.001))
    async with asyncio.timeout(5):
        await done.wait()
    assert attempts == 2
    repeating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await repeating
