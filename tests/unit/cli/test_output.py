"""What people see: whole where it is short, and nothing that others can make a mess of."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from rich.console import Console

from datastatus.cli.output import print_error, print_fields, print_note, print_rows, print_table, when
from datastatus.v1 import dataset_pb2


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datastatus.cli.output.console", Console(width=80, highlight=False))


_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
_LONG = "the file cannot be read " * 40


@pytest.mark.usefixtures("narrow")
def test_a_long_text_leaves_the_short_columns_of_a_table_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        ("company id", "name", "needs", "created"),
        [
            ("0199a5c6", "n" * 500, "credentials", "01-31 12:00:00"),
            ("0199a5c7", "Acme", "", "01-31 12:00:01"),
        ],
    )

    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["company", "id", "name", "needs", "created"],
        ["0199a5c6", "n" * (80 - 10 - 11 - 14 - 3 * 2 - 1) + "…", "credentials", "01-31", "12:00:00"],
        ["0199a5c7", "Acme", "01-31", "12:00:01"],
    ]


def test_nothing_of_what_is_piped_away_is_cut_or_folded(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        ("data type", "status", "dataset id", "message"),
        [("invoices", "FETCH_ERROR", _ID, _LONG), ("bills", "COMPLETE", _ID, "")],
    )
    print_fields([("dataset", _ID), ("message", _LONG)])
    print_rows([("invoices", "FETCH_ERROR", _LONG)])
    print_error(_LONG)

    told = capsys.readouterr()
    assert [re.split(" {2,}", line) for line in told.out.splitlines()] == [
        ["data type", "status", "dataset id", "message"],
        ["invoices", "FETCH_ERROR", _ID, _LONG.rstrip()],
        ["bills", "COMPLETE", _ID],
        ["dataset", _ID],
        ["message", _LONG.rstrip()],
        ["invoices", "FETCH_ERROR", _LONG.rstrip()],
    ]
    assert told.err.splitlines() == [f"error: {_LONG}"]


@pytest.mark.usefixtures("narrow")
def test_on_a_terminal_a_message_folds_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("dataset id", "message"), [(_ID, _LONG)])
    table = capsys.readouterr().out.splitlines()
    print_fields([("dataset", _ID), ("link url", "x" * 100), ("message", _LONG)])
    fields = capsys.readouterr().out.splitlines()

    assert table[1].startswith(f"{_ID}  the file")
    assert " ".join(line.removeprefix(_ID).strip() for line in table[1:]) == _LONG.strip()
    assert max(map(len, table)) <= 80
    assert fields[:2] == [f"dataset   {_ID}", f"link url  {'x' * 100}"]
    assert " ".join(line.removeprefix("message").strip() for line in fields[2:]) == _LONG.strip()
    assert max(map(len, fields[2:])) <= 80


@pytest.mark.usefixtures("narrow")
def test_where_there_is_no_room_for_a_message_the_terminal_wraps_the_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("connection id", "dataset id", "message"), [(_ID, _ID, _LONG)])
    assert capsys.readouterr().out.splitlines()[1] == f"{_ID}  {_ID}  {_LONG.rstrip()}"


def test_a_time_of_another_year_says_so() -> None:
    now = datetime.now(UTC).replace(month=6, day=15)
    one, before = dataset_pb2.Dataset(), dataset_pb2.Dataset()
    one.requested.FromDatetime(now)
    before.requested.FromDatetime(now.replace(year=now.year - 1))

    assert when(one, "requested").startswith("06-1")
    assert when(before, "requested").startswith(f"{now.year - 1}-06-1")


def test_texts_of_others_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[31mred\t[/x] :smile:\x9b2J\r\x07é"
    shown = r"\x1b[31mred\t[/x] :smile:\x9b2J\r\x07é"

    print_table(("name", "status"), [(text, "first\nsecond")])
    print_fields([("name", text), ("link url", "first\nsecond")])
    print_error(f"{text}\n  link_url: here")
    print_note(text)

    told = capsys.readouterr()
    assert [re.split(" {2,}", line.rstrip()) for line in told.out.splitlines()] == [
        ["name", "status"],
        [shown, r"first\nsecond"],
        ["name", shown],
        ["link url", r"first\nsecond"],
    ]
    assert told.err.splitlines() == [f"error: {shown}", "  link_url: here", shown]
