"""Ctrl-C before a command has begun."""

from __future__ import annotations

import subprocess
import sys

import pytest

from datastatus.cli.exits import EXIT_INTERRUPTED

_PROGRAM = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == LOADING:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from datastatus.cli import main
main()
"""


@pytest.mark.parametrize("loading", ["cyclopts", "rich.console", "grpc", "datastatus.cli.watch"])
def test_an_interrupt_while_modules_load_is_quiet(loading: str) -> None:
    program = f"LOADING = {loading!r}\n{_PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program, "watch"], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_INTERRUPTED, b"", b"")
