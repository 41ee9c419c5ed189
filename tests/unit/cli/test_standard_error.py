"""What becomes of lines that standard error does not take."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from datastatus.cli.output import print_error, print_note
from datastatus.cli.standard_error import standard_error


@pytest.fixture
def full() -> Iterator[TextIO]:
    with open("/dev/full", "w") as stream:
        yield stream


def test_lines_that_cannot_be_written_are_dropped_and_counted(
    full: TextIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", full)
    print_note("first")
    print_error("second\nthird")

    with (tmp_path / "log").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        print_note("fourth")
        print_note("fifth")

    assert (tmp_path / "log").read_text() == "lines that could not be written here: 3\nfourth\nfifth\n"


def test_a_line_that_was_cut_is_ended_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    room = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with open(reading, "rb", buffering=0) as reader, open(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        standard_error.write("x" * 2 * room + "\n")
        assert reader.read(room) == b"x" * room
        standard_error.write("next\n")
        assert reader.read(room) == b"\nlines that could not be written here: 1\nnext\n"


def test_a_pipe_that_nobody_reads_any_more_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        print_note("nobody hears this")
        monkeypatch.undo()
    print_note("everybody hears this")
    assert capsys.readouterr().err.splitlines()[1:] == ["everybody hears this"]
