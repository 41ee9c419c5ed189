"""Contenders measured in turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Sample = TypeVar("Sample")


async def alternate(
    rounds: int, *contenders: Callable[[], Awaitable[Sample]], warm_up_rounds: int = 1
) -> list[list[Sample]]:
    """The samples of each contender, one a round.

    All contenders of a round are measured before the next one, in an order that turns round each time, so that
    whatever else the machine does falls on all of them alike. Warm-up rounds are not counted.
    """
    samples: list[list[Sample]] = [[] for _ in contenders]
    for number in range(-warm_up_rounds, rounds):
        order: Sequence[int] = range(len(contenders))
        for index in order if number % 2 == 0 else reversed(order):
            sample = await contenders[index]()
            if number >= 0:
                samples[index].append(sample)
    return samples
