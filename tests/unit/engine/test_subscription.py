from __future__ import annotations

import asyncio

from datastatus.engine.subscription import Subscription

# Longer than any test.
AGES = 3600.0


async def waiting(subscription: Subscription, timeout_seconds: float = AGES) -> asyncio.Task[None]:
    """One who waits already."""
    task = asyncio.create_task(subscription.wait(timeout_seconds))
    await asyncio.sleep(0)
    return task


async def test_what_concerns_us_ends_the_wait_and_the_first_of_it_is_noted() -> None:
    subscription = Subscription(None, 0)
    task = await waiting(subscription)
    subscription.concern(7)
    subscription.concern(8)
    await task
    assert subscription.first_seq == 7
    subscription.stop_timer()


async def test_what_came_before_the_wait_ends_it_and_no_other() -> None:
    subscription = Subscription(None, 0)
    subscription.concern(7)
    await subscription.wait(AGES)
    task = await waiting(subscription)
    assert not task.done()
    subscription.wake()
    await task
    subscription.stop_timer()


async def test_a_wait_is_over_by_its_time_even_after_a_longer_one() -> None:
    subscription = Subscription(None, 0)
    task = await waiting(subscription)
    subscription.wake()
    await task
    async with asyncio.timeout(60):
        for _ in range(3):
            await subscription.wait(0.01)


async def test_whoever_gives_up_waiting_may_wait_again() -> None:
    subscription = Subscription(None, 0)
    task = await waiting(subscription)
    task.cancel()
    await asyncio.wait([task])
    subscription.concern(7)
    await subscription.wait(AGES)
    subscription.stop_timer()
