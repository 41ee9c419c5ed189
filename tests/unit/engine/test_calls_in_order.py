from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from datastatus.engine.calls_in_order import CallsInOrder


class Steps:
    """Calls that end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._may_end: dict[str, asyncio.Event] = {}

    def call(self, name: str, error: Exception | None = None) -> Callable[[], Coroutine[Any, Any, str]]:
        self._may_end[name] = asyncio.Event()

        async def step() -> str:
            self.begun.append(name)
            await self._may_end[name].wait()
            self.ended.append(name)
            if error is not None:
                raise error
            return name

        return step

    def let_end(self, name: str) -> None:
        self._may_end[name].set()


async def settle() -> None:
    """Until nothing happens by itself any more."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def calls() -> AsyncIterator[CallsInOrder[int, str]]:
    async with CallsInOrder[int, str](4) as calls:
        yield calls


async def test_calls_run_at_the_same_time_and_their_results_come_in_order(
    calls: CallsInOrder[int, str], steps: Steps
) -> None:
    await calls.begin([1], steps.call("first"))
    await calls.begin([2], steps.call("second"))
    calls.end()
    steps.let_end("second")
    await settle()
    assert (steps.begun, steps.ended) == (["first", "second"], ["second"])
    assert (1 in calls, 2 in calls) == (True, False)
    steps.let_end("first")
    assert [result async for result in calls.results()] == ["first", "second"]


async def test_calls_that_share_a_key_follow_each_other(calls: CallsInOrder[int, str], steps: Steps) -> None:
    await calls.begin([1, 2], steps.call("first"))
    await calls.begin([3], steps.call("other"))
    waiting = asyncio.create_task(calls.begin([2, 4], steps.call("second")))
    await settle()
    assert steps.begun == ["first", "other"]
    steps.let_end("first")
    await waiting
    await settle()
    assert steps.begun == ["first", "other", "second"]


async def test_no_more_are_in_hand_than_may_be_whether_they_run_or_wait_to_be_told_of(steps: Steps) -> None:
    async with CallsInOrder[int, str](2) as calls:
        for number, name in enumerate(("first", "second")):
            await calls.begin([number], steps.call(name))
            steps.let_end(name)
        third = asyncio.create_task(calls.begin([3], steps.call("third")))
        await settle()
        assert steps.ended == ["first", "second"]
        assert not third.done()
        results = calls.results()
        assert await anext(results) == "first"
        assert await anext(results) == "second"
        await third


async def test_an_error_comes_in_its_turn_once_nothing_runs_any_more(
    calls: CallsInOrder[int, str], steps: Steps
) -> None:
    await calls.begin([1], steps.call("good"))
    await calls.begin([2], steps.call("bad", ValueError("bad")))
    await calls.begin([3], steps.call("after"))
    results = calls.results()
    steps.let_end("bad")
    steps.let_end("good")
    assert await anext(results) == "good"
    failing = asyncio.ensure_future(anext(results))
    await settle()
    assert not failing.done()
    steps.let_end("after")
    with pytest.raises(ValueError, match="bad"):
        await failing
    assert steps.ended[-1] == "after"


async def test_what_still_runs_at_the_end_is_cancelled(steps: Steps) -> None:
    calls = CallsInOrder[int, str](4)
    with suppress(KeyError):
        async with calls:
            await calls.begin([1], steps.call("endless"))
            await settle()
            raise KeyError
    assert (steps.begun, steps.ended) == (["endless"], [])
    assert 1 not in calls
