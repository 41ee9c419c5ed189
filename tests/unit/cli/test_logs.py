"""What is logged of what nobody waits for."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from datastatus.cli.logs import log_loop_errors


async def test_what_fails_where_nobody_waits_for_it_is_logged_with_its_cause() -> None:
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    log_loop_errors()
    try:
        with capture_logs() as logs:
            loop.call_soon(int, "no number")
            await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(handler)
    [logged] = logs
    assert (logged["event"], logged["log_level"]) == ("loop_error", "error")
    assert "no number" in str(logged["exc_info"])
    # Which Python tells the arguments of depends on its version.
    assert "int(" in logged["handle"]
