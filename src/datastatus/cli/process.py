"""Running until told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or Ctrl-C sets, so that everything is left in order."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first, inside the groups that tasks wrap their failures in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
