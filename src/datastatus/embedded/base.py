"""What the parts of the embedded Postgres share."""

from __future__ import annotations

import time
from collections.abc import Iterator


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot be used; the message says why and what to do."""


def tries(seconds: float) -> Iterator[None]:
    """Once at once, then every 50 ms until the time is over: other processes' states send no event."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > end:
            return
        time.sleep(0.05)
