"""Where an integration's code begins: what it raises is its failure, and nobody else's end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from datastatus.tasks import is_asked_to_end


class IntegrationExited(Exception):
    """An integration has raised what ends a whole program; its cause is what that was."""


@contextmanager
def contained() -> Iterator[None]:
    """Around every call of an integration, as the event loop ends the program for a SystemExit in any task.

    Raises IntegrationExited instead of it and its like; errors and cancellations pass. A Ctrl-C does not come this
    way, since the loop handles its signal, unless it is the second one.
    """
    try:
        yield
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt) and is_asked_to_end():
            raise
        raise IntegrationExited(f"{type(exc).__name__} would have ended the whole program") from exc
