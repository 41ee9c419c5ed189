"""What people see: whole where it is short, and nothing that others can make a mess of."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from datastatus.cli.output import print_error, print_fields, print_note, print_table


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datastatus.cli.output.console", Console(width=80, highlight=False))


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
