"""`datastatus datasets`: the history of syncs."""

from __future__ import annotations

from collections.abc import Sequence

from datastatus.cli.client import DEFAULT_SERVER, Client, Json, Limit, Server, listed, run_client
from datastatus.cli.output import print_listing, print_note, status_number, status_text, when
from datastatus.v1 import dataset_pb2, sync_service_pb2

ENDED_WELL = (dataset_pb2.DATASET_STATUS_COMPLETE, dataset_pb2.DATASET_STATUS_NOT_SUPPORTED)
"""The ends of a sync that are no failure."""


def datasets(
    *,
    company: str | None = None,
    connection: str | None = None,
    data_type: str | None = None,
    status: tuple[str, ...] = (),
    limit: Limit = 50,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """List syncs, newest first.

    Parameters
    ----------
    company
        Only this company's.
    connection
        Only over this connection.
    data_type
        Only of this data type.
    status
        Only in this status, such as FETCH_ERROR; may be given several times.
    """
    statuses = [status_number(name) for name in status]

    async def work(client: Client) -> None:
        request = sync_service_pb2.ListDatasetsRequest(
            company_id=company,
            connection_id=connection,
            data_type=data_type,
            statuses=statuses,  # type: ignore[arg-type]
        )
        found, last = await listed(client.sync.ListDatasets, request, lambda page: page.datasets, limit)
        print_datasets(found, json=json)
        if not json and last.next_page_token:
            print_note(f"these are the newest {len(found)}; --limit N lists more")
        if not json and any(one.error_message for one in found):
            print_note("`datastatus dataset DATASET_ID` shows one whole, and what validation found in it")

    return run_client(server, work)


def print_datasets(found: Sequence[dataset_pb2.Dataset], *, json: bool = False) -> None:
    """As `print_listing`; messages only where there are any."""
    columns = ("data type", "status", "requested", "completed", "records", "dataset id")
    has_messages = any(one.error_message for one in found)
    print_listing(
        found,
        (*columns, "message") if has_messages else columns,
        lambda one: (
            one.data_type,
            status_text(one.status),
            when(one, "requested"),
            when(one, "completed"),
            str(one.progress.records_stored) if one.HasField("completed") else progress_words(one),
            one.id,
            *([one.error_message] if has_messages else []),
        ),
        json=json,
    )


def progress_words(dataset: dataset_pb2.Dataset) -> str:
    """How far a running dataset is, or why it waits."""
    if words := wait_words(dataset):
        return words
    progress = dataset.progress
    if progress.HasField("percent"):
        return f"{progress.percent} %"
    return str(max(progress.records_fetched, progress.records_mapped) or "")


def wait_words(dataset: dataset_pb2.Dataset) -> str:
    """Why it waits; nothing where it does not."""
    if not dataset.HasField("wait_reason"):
        return ""
    reason = dataset_pb2.WaitReason.Name(dataset.wait_reason).removeprefix("WAIT_REASON_")
    return reason.replace("_", " ").lower()
