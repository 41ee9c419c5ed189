"""Watching from the terminal: a stream that resumes by itself, and a table that moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress

import grpc
from rich.live import Live
from rich.table import Table
from rich.text import Text

from datastatus.cli.client import CALL_SECONDS, Client, command_line
from datastatus.cli.datasets import progress_words, wait_words
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
from datastatus.domain.dataset import DatasetStatus
from datastatus.v1 import dataset_pb2, sync_service_pb2, transition_pb2, watch_pb2

_REFRESH_SECONDS = 0.5
_STATUS_COLUMNS = max(len(status_name(one)) for one in dataset_pb2.DatasetStatus.values())


def watching(
    client: Client, request: watch_pb2.WatchStatusRequest
) -> AsyncGenerator[watch_pb2.WatchStatusResponse, None]:
    """The messages of a watch; breaks are told to the person and survived."""
    return watch_responses(
        client.line,
        request,
        on_retry=lambda why, seconds: print_note(f"{why}; reconnecting in {seconds:.1f} s"),
    )


def transition_line(one: transition_pb2.StatusTransition, *, with_id: bool = False) -> Text:
    """One transition on one line, for people; with the dataset's id where it may be any dataset's."""
    line = Text.assemble(
        (clock(one.occurred), "dim"),
        f"  {one.data_type:<20} ",
        (f"{status_name(one.from_status) if one.HasField('from_status') else '':>10} → ", "dim"),
        status_text(one.to_status),
    )
    if with_id:
        line.append(
            f"{'':{max(0, _STATUS_COLUMNS - len(status_name(one.to_status)))}}  {one.dataset_id}", "dim"
        )
    if one.error_message:
        line.append(harmless(f"  {one.error_message}", style="red"))
    return line


async def follow_until_terminal(
    client: Client, queued: Sequence[dataset_pb2.Dataset], *, server: str, json: bool
) -> list[dataset_pb2.Dataset]:
    """Show the datasets live until all are terminal; the datasets as they ended, in the order given.

    Where the wait is broken off, the person is told what goes on.
    """
    dataset_ids = [one.id for one in queued]
    request = watch_pb2.WatchStatusRequest(
        any_of=[watch_pb2.StatusFilter(dataset_ids=dataset_ids)], until_terminal=True
    )
    running = {one.id: one.data_type for one in queued}
    try:
        async with _progress_shown(client, dataset_ids, live=console.is_terminal and not json):
            async for response in watching(client, request):
                for one in response.snapshot.datasets:
                    if one.HasField("completed"):
                        running.pop(one.id, None)
                for transition in response.batch.transitions:
                    if json:
                        print_json(transition)
                    if DatasetStatus(status_name(transition.to_status)).is_terminal:
                        running.pop(transition.dataset_id, None)
    except asyncio.CancelledError:
        _say_what_goes_on(running, server)
        raise
    ended = await _get_all(client, dataset_ids)
    if not json:
        print_rows(_progress_rows(ended))
    return ended


def _say_what_goes_on(running: Mapping[str, str], server: str) -> None:
    if not running:
        return
    print_note("no longer waiting; what goes on:")
    for dataset_id, data_type in running.items():
        print_note(f"  {data_type}  {dataset_id}")
    named = [word for dataset_id in running for word in ("--dataset", dataset_id)]
    print_note(f"follow it with: {command_line(server, 'watch', *named, '--until-terminal')}")
    for dataset_id, data_type in running.items():
        print_note(f"cancel {data_type} with: {command_line(server, 'cancel', dataset_id)}")


@asynccontextmanager
async def _progress_shown(client: Client, dataset_ids: Sequence[str], *, live: bool) -> AsyncIterator[None]:
    """A table that moves; otherwise a note whenever a status, or what is waited for, has changed."""
    # Its last state is printed afterwards: Live itself would leave a file without a newline at its end.
    with Live(console=console, auto_refresh=False, transient=True) if live else nullcontext() as table:
        refreshing = asyncio.create_task(_refresh(client, dataset_ids, table))
        try:
            yield
        finally:
            refreshing.cancel()
            await asyncio.wait([refreshing])


async def _refresh(client: Client, dataset_ids: Sequence[str], table: Live | None) -> None:
    told: dict[str, str] = {}
    while True:
        # The watch tells of a service that is away.
        with suppress(grpc.aio.AioRpcError):
            found = await _get_all(client, dataset_ids)
            if table is not None:
                table.update(_progress_table(found), refresh=True)
            else:
                _note_changes(found, told)
        await asyncio.sleep(_REFRESH_SECONDS)


def _note_changes(found: Sequence[dataset_pb2.Dataset], told: dict[str, str]) -> None:
    for one in found:
        words = " ".join([one.data_type, status_name(one.status), wait_words(one)]).rstrip()
        if told.get(one.id) != words and not one.HasField("completed"):
            print_note(words)
        told[one.id] = words


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
