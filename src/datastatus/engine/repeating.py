"""Work that is done again and again, whatever becomes of one time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from datastatus import errors

_log = structlog.get_logger(__name__)


async def repeat(
    action: Callable[[], Awaitable[object]], pause_seconds: float, *, shortest_share: float = 1
) -> None:
    """Do it, wait, and do it again, until cancelled. Pauses are of random length, from that share of it on.

    What fails is logged. Every server does the same, so that an error which ended one would end all of them. Not
    for what nobody can do without, such as following the journal: a server that cannot do it had better end.
    """
    while True:
        try:
            await action()
        except errors.Unavailable as exc:
            _log.warning("waits_for_store", action=action.__qualname__, cause=repr(exc.__cause__))
        except Exception as exc:
            _log.error("action_failed", action=action.__qualname__, exc_info=exc)
        await asyncio.sleep(pause_seconds * random.uniform(shortest_share, 1))
