"""Running until told to stop."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Everything waits for a collection, up to half a microsecond for each object that it looks at. So the young ones
# are collected while they are few, and those that stay (nearly all are transitions, while the ring has room) are
# old at once: any number below zero makes the middle generation go with the young, instead of being looked at by
# itself (up to Python 3.13). All objects, some hundred thousand where thousands watch, are looked at once in five
# million allocations.
_YOUNG_OBJECTS_MAX = 2_000
_MIDDLE_WITH_THE_YOUNG = -1
_COLLECTIONS_UNTIL_ALL = 2_400
# Each client has a connection, which is an open file. More of them than that are no use to anybody.
_OPEN_FILES_MAX = 1 << 20


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


async def first_of(running: asyncio.Task[Any], stopped: asyncio.Event) -> None:
    """Wait until the task is done or the event is set. Neither is touched."""
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()


def allow_open_files() -> None:
    """Have as many files open at once as the system allows, and not as few as it gives to who does not ask.

    That is 1,024 in most places, for the sake of programs that could not number more. Whoever has no more left can
    let nobody in, reach no source and no database.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = _OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES_MAX)
    while wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            # Some systems have a limit beside the one that they tell.
            wanted //= 2
        else:
            return


def settle_memory() -> None:
    """What has been loaded and built by now stays: the garbage collector need not go through it again.

    Nor need it look at all of what comes later so often: most of what a call makes is gone with the call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS_MAX, _MIDDLE_WITH_THE_YOUNG, _COLLECTIONS_UNTIL_ALL)


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first, inside the groups that tasks wrap their failures in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
