"""`datastatus datasets`: the history of syncs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from datastatus.cli.client import CALL_SECONDS, DEFAULT_SERVER, Client, Json, Limit, Server, run_client
from datastatus.cli.output import print_json, print_table, status_number, status_text, when
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
        found: list[dataset_pb2.Dataset] = []
        token = ""
        while len(found) < limit:
            request = sync_service_pb2.ListDatasetsRequest(
                company_id=company,
                connection_id=connection,
                data_type=data_type,
                statuses=statuses,  # type: ignore[arg-type]
                page_size=min(1000, limit - len(found)),
                page_token=token,
            )
            page = await client.sync.ListDatasets(request, timeout=CALL_SECONDS)
            found += page.datasets
            if not (token := page.next_page_token):
                break
        if json:
            for dataset in found:
                print_json(dataset)
        else:
            print_table(*dataset_rows(found))

    return run_client(server, work)


def dataset_rows(
    found: Sequence[dataset_pb2.Dataset],
) -> tuple[tuple[str, ...], list[tuple[str | Text, ...]]]:
    """The columns and rows of a table of datasets; messages only where there are any."""
    columns = ("data type", "status", "requested", "completed", "records", "dataset id")
    rows: list[tuple[str | Text, ...]] = [
        (
            one.data_type,
            status_text(one.status),
            when(one, "requested"),
            when(one, "completed"),
            str(one.progress.records_stored) if one.HasField("completed") else progress_words(one),
            one.id,
        )
        for one in found
    ]
    if any(one.error_message for one in found):
        columns = (*columns, "message")
        rows = [(*row, one.error_message) for row, one in zip(rows, found, strict=True)]
    return columns, rows


def progress_words(dataset: dataset_pb2.Dataset) -> str:
    """How far a running dataset is, or why it waits."""
    if dataset.HasField("wait_reason"):
        reason = dataset_pb2.WaitReason.Name(dataset.wait_reason).removeprefix("WAIT_REASON_")
        return reason.replace("_", " ").lower()
    progress = dataset.progress
    if progress.HasField("percent"):
        return f"{progress.percent} %"
    return str(max(progress.records_fetched, progress.records_mapped) or "")
