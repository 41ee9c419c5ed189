"""What people see: whole where it is short, and nothing that others can make a mess of."""

from __future__ import annotations

import pytest
from rich.console import Console

from datastatus.cli.output import print_table


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
