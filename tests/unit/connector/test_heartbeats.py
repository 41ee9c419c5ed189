"""What a connector says of itself when it cannot be heard."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from structlog.testing import capture_logs

from datastatus.connector.runtime import _beat


async def test_a_heartbeat_that_was_held_up_says_so() -> None:
    outgoing: asyncio.Queue[Any] = asyncio.Queue()
    with capture_logs() as logs:
        beating = asyncio.ensure_future(_beat(outgoing, 0.01))
        await asyncio.sleep(0)
        # As a source does that does not read in a thread.
        time.sleep(0.1)  # noqa: ASYNC251
        assert (await outgoing.get()).WhichOneof("message") == "heartbeat"
        beating.cancel()
    assert [(one["event"], one["late_seconds"] > 0.05) for one in logs] == [("heartbeat_late", True)]
