"""The command line. This module imports next to nothing, so that an interrupt is answered from the beginning on."""

from __future__ import annotations

import os
import signal
from typing import Any

from datastatus.cli.exits import EXIT_INTERRUPTED

# We start programs but never fork to go on in Python; gRPC would prepare for that, and say so.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def main() -> None:
    """Run the command that was asked for; its exit code is one of `cli.exits`."""
    # Nothing has to be left in order while modules load, which takes a second or two.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from datastatus.cli.commands import run  # noqa: PLC0415 (what it loads can be interrupted now)

    run()


def _end(*_: Any) -> None:
    os._exit(EXIT_INTERRUPTED)
