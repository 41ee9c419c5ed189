"""Standard error, which may be a file on a full disk, or a pipe whose reader has ended."""

from __future__ import annotations

import sys
from typing import TextIO, cast


class _StandardError:
    """Takes whole lines. What cannot be written is dropped, and counted before the next that can be."""

    def __init__(self) -> None:
        self._lost_lines = 0
        # A line of which only the beginning was written is ended first.
        self._ending = ""

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def write(self, text: str) -> None:
        lost = f"lines that could not be written here: {self._lost_lines}\n" if self._lost_lines else ""
        whole = (self._ending + lost + text).encode(sys.stderr.encoding, "backslashreplace")
        written = _write(whole)
        if written == len(whole):
            self._lost_lines = 0
            self._ending = ""
        else:
            self._lost_lines += text.count("\n")
            self._ending = "\n" if written else self._ending

    def flush(self) -> None:
        """Nothing is kept back."""


def _write(text: bytes) -> int:
    """How many bytes could be written."""
    # Past its buffer, which would keep what cannot be written, and fail again with it when the process ends.
    stream = getattr(sys.stderr.buffer, "raw", sys.stderr.buffer)
    left = memoryview(text)
    try:
        while left and (written := stream.write(left)):
            left = left[written:]
    except OSError:
        pass  # told before the next line
    return len(text) - len(left)


# What writes to it asks for no more than there is.
standard_error = cast(TextIO, _StandardError())
