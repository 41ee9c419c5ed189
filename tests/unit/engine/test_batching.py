from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from datastatus import errors
from datastatus.engine.batching import SelfBatcher


class Calls:
    """Answers each item with itself, a call at a time, once it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[str]) -> Sequence[str]:
        self.batches.append(list(items))
        self.begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return items


@asynccontextmanager
async def running(batcher: SelfBatcher[str, str]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(batcher.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_comes_while_a_call_is_in_flight_goes_together() -> None:
    calls = Calls()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls)
    async with running(batcher):
        first = asyncio.create_task(batcher.submit(["a"]))
        await calls.begun.wait()
        others = [asyncio.create_task(batcher.submit([one, one.upper()])) for one in "bcd"]
        await asyncio.sleep(0)
        calls.may_end.set()
        assert await first == ["a"]
        assert await asyncio.gather(*others) == [["b", "B"], ["c", "C"], ["d", "D"]]
    assert calls.batches == [["a"], ["b", "B", "c", "C", "d", "D"]]


@pytest.mark.parametrize(
    ("first", "then"), [("a", [["x"], ["y"]]), ("ab", [["x", "y"]])], ids=["a lone caller", "several"]
)
async def test_where_several_ask_at_once_those_on_their_way_are_let_in(
    first: str, then: Sequence[Sequence[str]]
) -> None:
    calls = Calls()
    calls.may_end.set()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls)

    async def late(item: str, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await batcher.submit([item])

    async with running(batcher):
        await batcher.submit(list(first))
        await asyncio.gather(late("x", 1), late("y", 5))
    assert calls.batches == [list(first), *then]


async def test_whoever_goes_away_takes_all_that_was_not_sent_along() -> None:
    calls = Calls()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls)
    async with running(batcher):
        first = asyncio.create_task(batcher.submit(["a"]))
        await calls.begun.wait()
        gone = asyncio.create_task(batcher.submit(["b", "c"]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        calls.may_end.set()
        assert await asyncio.gather(first, batcher.submit(["d"])) == [["a"], ["d"]]
    assert calls.batches == [["a"], ["d"]]


async def test_of_equal_keys_one_goes_into_a_batch_and_the_others_follow_in_order() -> None:
    calls = Calls()
    calls.may_end.set()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls, key=lambda item: item[0])
    submitted = asyncio.create_task(batcher.submit(["a1", "b1", "a2", "a3", "b2", "c1"]))
    await asyncio.sleep(0)
    async with running(batcher):
        assert await submitted == ["a1", "b1", "a2", "a3", "b2", "c1"]
    assert calls.batches == [["a1", "b1", "c1"], ["a2", "b2"], ["a3"]]


async def test_a_batch_has_a_limit() -> None:
    calls = Calls()
    calls.may_end.set()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls, batch_items_max=2)
    submitted = asyncio.create_task(batcher.submit(list("abcde")))
    await asyncio.sleep(0)
    async with running(batcher):
        await submitted
    assert calls.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_where_many_wait_a_second_call_is_made_beside_the_first() -> None:
    calls = Calls()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls, batch_items_max=3, crowd_items_min=2)
    async with running(batcher):
        submitted = [asyncio.create_task(batcher.submit([one])) for one in "abcdefgh"]
        await calls.begun.wait()
        # The others come while it is under way: enough of them for a second call, and none makes a third.
        for _ in range(20):
            await asyncio.sleep(0)
        assert calls.batches == [["a", "b", "c"], ["d", "e", "f"]]
        calls.may_end.set()
        assert await asyncio.gather(*submitted) == [[one] for one in "abcdefgh"]
    assert calls.batches[2:] == [["g", "h"]]


async def test_a_few_wait_for_the_call_before_them() -> None:
    calls = Calls()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls, crowd_items_min=3)
    async with running(batcher):
        first = asyncio.create_task(batcher.submit(["a"]))
        await calls.begun.wait()
        others = asyncio.create_task(batcher.submit(["b", "c"]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert calls.batches == [["a"]]
        calls.may_end.set()
        await asyncio.gather(first, others)


async def test_of_equal_keys_one_is_in_a_call_however_many_calls_there_are() -> None:
    calls = Calls()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls, key=lambda item: item[0], crowd_items_min=2)
    async with running(batcher):
        first = asyncio.create_task(batcher.submit(["a1"]))
        await calls.begun.wait()
        others = asyncio.create_task(batcher.submit(["a2", "b1", "b2", "a3"]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert calls.batches == [["a1"], ["b1"]]
        calls.may_end.set()
        assert await first == ["a1"]
        assert await others == ["a2", "b1", "b2", "a3"]
    called = [item for batch in calls.batches for item in batch]
    assert [item for item in called if item[0] == "a"] == ["a1", "a2", "a3"]
    assert [item for item in called if item[0] == "b"] == ["b1", "b2"]


async def test_a_failed_call_fails_its_items_and_no_others() -> None:
    calls = Calls()
    calls.error = ValueError("no")
    calls.may_end.set()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls)
    async with running(batcher):
        with pytest.raises(ValueError, match="no"):
            await batcher.submit(["a", "b"])
        calls.error = None
        assert await batcher.submit(["c"]) == ["c"]


async def test_after_a_failed_call_its_keys_may_go_again() -> None:
    calls = Calls()
    calls.error = ValueError("no")
    calls.may_end.set()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls, key=lambda item: item)
    async with running(batcher):
        with pytest.raises(ValueError, match="no"):
            await batcher.submit(["a"])
        calls.error = None
        assert await batcher.submit(["a"]) == ["a"]


async def test_a_call_that_somebody_else_cancels_ends_nothing_but_itself() -> None:
    async def cancelled_at_first(items: Sequence[str]) -> Sequence[str]:
        if items == ["a"]:
            raise asyncio.CancelledError
        return items

    batcher: SelfBatcher[str, str] = SelfBatcher(cancelled_at_first)
    async with running(batcher):
        with pytest.raises(errors.Draining):
            await batcher.submit(["a"])
        assert await batcher.submit(["b"]) == ["b"]


async def test_whoever_gives_up_while_waiting_is_not_called_for() -> None:
    calls = Calls()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls)
    async with running(batcher):
        first = asyncio.create_task(batcher.submit(["a"]))
        await calls.begun.wait()
        given_up = asyncio.create_task(batcher.submit(["b"]))
        last = asyncio.create_task(batcher.submit(["c"]))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        calls.may_end.set()
        await asyncio.gather(first, last)
    assert calls.batches == [["a"], ["c"]]


async def test_too_much_waiting_is_refused_at_once() -> None:
    batcher: SelfBatcher[str, str] = SelfBatcher(Calls(), pending_items_max=2)
    waiting = asyncio.create_task(batcher.submit(["a", "b"]))
    await asyncio.sleep(0)
    with pytest.raises(errors.StoreDown):
        await batcher.submit(["c"])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_at_the_end_nobody_is_left_waiting() -> None:
    calls = Calls()
    batcher: SelfBatcher[str, str] = SelfBatcher(calls)
    async with running(batcher):
        in_flight = asyncio.create_task(batcher.submit(["a"]))
        await calls.begun.wait()
        waiting = asyncio.create_task(batcher.submit(["b"]))
        await asyncio.sleep(0)
    for one in (in_flight, waiting, batcher.submit(["c"])):
        with pytest.raises(errors.Draining):
            await one
