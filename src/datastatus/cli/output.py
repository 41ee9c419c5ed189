"""Printing for people and for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import NoReturn, TextIO, TypeVar

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from datastatus.cli.exits import EXIT_READER_GONE, EXIT_USAGE
from datastatus.cli.standard_error import standard_error
from datastatus.v1 import connection_pb2, dataset_pb2

# What is piped away has no width: nothing of it is cut or folded.
_PIPED_COLUMNS = 1_000_000
# Between the columns of a table.
_GAP = "  "
# In less room than this a text is not worth shortening: the terminal wraps its line.
_TEXTS_COLUMNS_MIN = 20
# A column of this name folds where another text is cut.
_MESSAGE = "message"
# What could paint the terminal, move about in it, or break a row; shown as Python writes it, such as \x1b.
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}

Listed = TypeVar("Listed", bound=Message)


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Whoever read the output has gone: end without a word, as tools do."""
        # What is left is written once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        raise SystemExit(EXIT_READER_GONE)


def _console(stream: TextIO, file: TextIO | None = None) -> _Console:
    # Texts are shown as they are: what looks like rich's markup in them is none of ours.
    width = None if stream.isatty() else _PIPED_COLUMNS
    return _Console(file=file, highlight=False, markup=False, emoji=False, width=width)


console = _console(sys.stdout)
_errors = _console(sys.stderr, standard_error)

_GOOD, _BAD, _BUSY, _CALM = "green", "bold red", "cyan", "yellow"
_STATUS_STYLES = {
    dataset_pb2.DATASET_STATUS_COMPLETE: _GOOD,
    dataset_pb2.DATASET_STATUS_QUEUED: _CALM,
    dataset_pb2.DATASET_STATUS_NOT_SUPPORTED: _CALM,
    dataset_pb2.DATASET_STATUS_CANCELLED: _CALM,
    dataset_pb2.DATASET_STATUS_FETCHING: _BUSY,
    dataset_pb2.DATASET_STATUS_MAPPING: _BUSY,
    dataset_pb2.DATASET_STATUS_VALIDATING: _BUSY,
    dataset_pb2.DATASET_STATUS_PROCESSING: _BUSY,
}


def harmless(text: str, style: str = "") -> Text:
    """A text of others on one line, its control characters told instead of obeyed."""
    return Text(text.translate(_CONTROLS), style)


def _harmless_lines(text: str, style: str = "") -> Text:
    return Text("\n").join(harmless(line, style) for line in text.split("\n"))


def print_error(text: str) -> None:
    """To standard error, so that --json output stays clean; dropped where that cannot be written to."""
    _errors.print(Text.assemble(("error: ", _BAD), _harmless_lines(text)), soft_wrap=True)


def exit_with_usage(problem: str) -> NoReturn:
    """End the program: it was called in a way that it cannot be."""
    print_error(problem)
    sys.exit(EXIT_USAGE)


def print_note(text: str) -> None:
    """For people only, to standard error; dropped where that cannot be written to."""
    # The terminal wraps it: a command in it could not be copied with line ends of ours.
    _errors.print(_harmless_lines(text, style="dim"), soft_wrap=True)


def print_json(message: Message) -> None:
    """One JSON document on one line, with the proto's JSON names."""
    print_plain(MessageToJson(message, indent=None, ensure_ascii=False))


def print_plain(text: str) -> None:
    """To standard output as it is, for programs and to be copied, and at once."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        console.on_broken_pipe()


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    texts: Collection[str] = ("name", _MESSAGE),
) -> None:
    """A table as wide as its words. On a terminal that is narrower the columns `texts` give way, and no others.

    A message folds, other texts are cut.
    """
    header = [Text(column, "bold") for column in columns]
    _print_cells(
        [header, *([_cell(cell) for cell in row] for row in rows)],
        texts=[number for number, column in enumerate(columns) if column in texts],
        folding=[number for number, column in enumerate(columns) if column == _MESSAGE],
    )


def print_rows(rows: Iterable[Sequence[str | Text]]) -> None:
    """As a table, without a header; the last cell of each is a message."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    last = [len(cells[0]) - 1]
    _print_cells(cells, texts=last, folding=last)


def _print_cells(rows: Sequence[Sequence[Text]], texts: Collection[int], folding: Collection[int]) -> None:
    """Side by side; the columns `texts` give way to what else is in a narrow terminal, by folding or by a cut."""
    # Not rich's table, which cuts and folds any column, and fills every row up to the widest.
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    room = console.width - len(_GAP) * (len(widths) - 1)
    room -= sum(width for number, width in enumerate(widths) if number not in texts)
    if room >= _TEXTS_COLUMNS_MIN:
        width_max = _width_max([widths[number] for number in texts], room)
        widths = [min(width, width_max) if number in texts else width for number, width in enumerate(widths)]
    lines: list[Text] = []
    for row in rows:
        cells = [
            cell.wrap(console, width) if number in folding else [_cut(cell, width)]
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for parts in zip_longest(*cells, fillvalue=Text()):
            line = Text(_GAP).join(_padded(part, width) for part, width in zip(parts, widths, strict=True))
            line.rstrip()
            lines.append(line)
    console.print(Text("\n").join(lines), soft_wrap=True)


def _cut(cell: Text, width: int) -> Text:
    cell.truncate(width, overflow="ellipsis")
    return cell


def _padded(cell: Text, width: int) -> Text:
    padded = cell.copy()
    padded.pad_right(width - cell.cell_len)
    return padded


def print_listing(
    found: Iterable[Listed],
    columns: Sequence[str],
    row: Callable[[Listed], Sequence[str | Text]],
    *,
    json: bool,
) -> None:
    """A table with a row for each, or with `json` a document for each."""
    if json:
        for one in found:
            print_json(one)
    else:
        print_table(columns, [row(one) for one in found])


def _width_max(widths: Iterable[int], room: int) -> int:
    """How wide a column may be, so that the short ones stay whole and the long ones share what is left."""
    left = sorted(widths)
    while left and left[0] * len(left) <= room:
        room -= left.pop(0)
    return room // len(left) if left else room


def print_fields(fields: Iterable[tuple[str, str | Text]]) -> None:
    """One thing, a line a field; empty ones are left out. On a terminal a message folds."""
    shown = [(name, _cell(value)) for name, value in fields if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        texts = [1] if name == _MESSAGE else []
        _print_cells([[Text(name.ljust(width), "bold"), value]], texts, folding=texts)


def _cell(value: str | Text) -> Text:
    return harmless(value) if isinstance(value, str) else value


def status_name(status: int) -> str:
    """`FETCHING`, as people say it."""
    return dataset_pb2.DatasetStatus.Name(status).removeprefix("DATASET_STATUS_")  # type: ignore[arg-type]


def status_number(name: str) -> int:
    """The number of a status as people say it; ends the program where there is none."""
    try:
        return dataset_pb2.DatasetStatus.Value(f"DATASET_STATUS_{name.upper()}")  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(status_name(one) for one in dataset_pb2.DatasetStatus.values() if one)
        exit_with_usage(f"there is no status {name!r}; there are {known}")


def status_text(status: int) -> Text:
    return Text(status_name(status), style=_STATUS_STYLES.get(status, _BAD))  # type: ignore[arg-type]


def connection_status(status: int) -> str:
    return connection_pb2.ConnectionStatus.Name(status).removeprefix("CONNECTION_STATUS_")  # type: ignore[arg-type]


def when(message: Message, field: str) -> str:
    """A time in the reader's time zone, or a dash where absent; --json has it whole."""
    if not message.HasField(field):
        return "–"  # noqa: RUF001 (a dash for people)
    moment: Timestamp = getattr(message, field)
    local = moment.ToDatetime(tzinfo=UTC).astimezone()
    return local.strftime(
        "%m-%d %H:%M:%S" if local.year == datetime.now().astimezone().year else "%Y-%m-%d %H:%M"
    )


def clock(moment: Timestamp) -> str:
    """The time of day with milliseconds, in the reader's time zone."""
    return moment.ToDatetime(tzinfo=UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
