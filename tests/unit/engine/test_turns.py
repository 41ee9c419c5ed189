from __future__ import annotations

import asyncio
from uuid import UUID

from datastatus.engine.turns import CompanyTurns

BUSY, OTHER, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)


async def test_companies_take_turns_and_each_keeps_its_order() -> None:
    turns: CompanyTurns[str] = CompanyTurns()
    for number in range(1000):
        turns.put(BUSY, f"busy {number}")
    turns.put(OTHER, "other")
    assert [await turns.get() for _ in range(3)] == ["busy 0", "other", "busy 1"]
    turns.put(THIRD, "third 0")
    turns.put(THIRD, "third 1")
    assert [await turns.get() for _ in range(4)] == ["busy 2", "third 0", "busy 3", "third 1"]
    assert [await turns.get() for _ in range(996)] == [f"busy {number}" for number in range(4, 1000)]


async def test_whoever_waits_gets_what_comes_and_one_who_leaves_takes_nothing_along() -> None:
    turns: CompanyTurns[str] = CompanyTurns()
    leaving, staying = asyncio.create_task(turns.get()), asyncio.create_task(turns.get())
    await asyncio.sleep(0)
    leaving.cancel()
    turns.put(BUSY, "first")
    assert await staying == "first"
    turns.put(BUSY, "second")
    assert await turns.get() == "second"
