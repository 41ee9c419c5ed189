"""Watching from the terminal: a stream that resumes by itself, and a table that moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from rich.live import Live
from rich.table import Table
from rich.text import Text

from datastatus.cli.client import CALL_SECONDS, Client
from datastatus.cli.datasets import progress_words
from datastatus.cli.output import (
    clock,
    console,
    harmless,
    print_json,
    print_note,
    print_rows,
    status_name,
    status_text,
)
from datastatus.client import watch_responses
from datastatus.v1 import dataset_pb2, sync_service_pb2, transition_pb2, watch_pb2

_REFRESH_SECONDS = 0.5


def watching(
    client: Client, request: watch_pb2.WatchStatusRequest
) -> AsyncGenerator[watch_pb2.WatchStatusResponse, None]:
    """The messages of a watch; breaks are told to the person and survived."""
    return watch_responses(
        client.line,
        request,
        on_retry=lambda why, seconds: print_note(f"{why}; reconnecting in {seconds:.1f} s"),
    )


def transition_line(one: transition_pb2.StatusTransition) -> Text:
    """One transition on one line, for people."""
    line = Text.assemble(
        (clock(one.occurred), "dim"),
        f"  {one.data_type:<20} ",
        (f"{status_name(one.from_status) if one.HasField('from_status') else '':>10} → ", "dim"),
        status_text(one.to_status),
    )
    if one.error_message:
        line.append(harmless(f"  {one.error_message}", style="red"))
    return line


async def follow_until_terminal(
    client: Client, dataset_ids: Sequence[str], *, json: bool
) -> list[dataset_pb2.Dataset]:
    """Show the datasets live until all are terminal; the datasets as they ended, in the order given."""
    request = watch_pb2.WatchStatusRequest(
        any_of=[watch_pb2.StatusFilter(dataset_ids=dataset_ids)], until_terminal=True
    )
    if json:
        async for response in watching(client, request):
            for transition in response.batch.transitions:
                print_json(transition)
        return await _get_all(client, dataset_ids)
    # Its last state is printed below: Live itself would leave a file without a newline at its end.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        refreshing = asyncio.create_task(_refresh(client, dataset_ids, live))
        try:
            async for _ in watching(client, request):
                pass
        finally:
            refreshing.cancel()
    ended = await _get_all(client, dataset_ids)
    print_rows(_progress_rows(ended))
    return ended


async def _refresh(client: Client, dataset_ids: Sequence[str], live: Live) -> None:
    while True:
        live.update(_progress_table(await _get_all(client, dataset_ids)), refresh=True)
        await asyncio.sleep(_REFRESH_SECONDS)


async def _get_all(client: Client, dataset_ids: Sequence[str]) -> list[dataset_pb2.Dataset]:
    requests = [sync_service_pb2.GetDatasetRequest(dataset_id=one) for one in dataset_ids]
    return list(
        await asyncio.gather(*(client.sync.GetDataset(one, timeout=CALL_SECONDS) for one in requests))
    )


def _progress_table(found: Sequence[dataset_pb2.Dataset]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in _progress_rows(found):
        table.add_row(*row)
    return table


def _progress_rows(found: Sequence[dataset_pb2.Dataset]) -> list[tuple[Text, Text, Text]]:
    return [(Text(one.data_type), status_text(one.status), harmless(_progress(one))) for one in found]


def _progress(one: dataset_pb2.Dataset) -> str:
    if one.error_message:
        return one.error_message
    return f"{one.progress.records_stored} records" if one.HasField("completed") else progress_words(one)
