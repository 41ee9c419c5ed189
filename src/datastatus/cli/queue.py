"""`datastatus queue`: queue syncs, and wait for them if asked to."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from datastatus.cli.client import (
    CALL_SECONDS,
    DEFAULT_SERVER,
    Client,
    Json,
    Server,
    command_line,
    explain,
    run_client,
)
from datastatus.cli.company import Quiet
from datastatus.cli.datasets import ENDED_WELL, print_datasets
from datastatus.cli.exits import EXIT_FAILED, EXIT_OK, EXIT_SERVER
from datastatus.cli.live import follow_until_terminal
from datastatus.cli.output import console, exit_with_usage, print_error, print_json, print_note, status_name
from datastatus.client import translate_status
from datastatus.v1 import sync_service_pb2


def queue(
    company_id: str,
    /,
    *data_types: Annotated[str, Parameter(help="Such as `invoices`; one or more.")],
    connection: str | None = None,
    request_id: str | None = None,
    attach: bool = False,
    allow_mass_deletion: bool = False,
    wait: bool = False,
    quiet: Quiet = False,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Queue syncs of a company's data types.

    Parameters
    ----------
    connection
        Over this connection; otherwise over the company's one linked connection that supports the type.
    request_id
        A UUID that makes a repetition answer with the same dataset; for one data type only.
    attach
        Answer with the running dataset where there is one, instead of refusing.
    allow_mass_deletion
        Publish even where most of the records in the cache are no longer at the source.
    wait
        Show live progress until all have ended; exit code 1 if one ended otherwise than COMPLETE or
        NOT_SUPPORTED.
    """
    if not data_types or (request_id and len(data_types) > 1):
        exit_with_usage("name at least one data type, and exactly one with --request-id")

    async def work(client: Client) -> int:
        on_active = sync_service_pb2.ON_ACTIVE_ATTACH if attach else sync_service_pb2.ON_ACTIVE_REJECT
        request = sync_service_pb2.BatchQueueSyncRequest(
            requests=[
                sync_service_pb2.SyncRequest(
                    company_id=company_id,
                    data_type=data_type,
                    connection_id=connection,
                    request_id=request_id,
                    on_active=on_active,
                    allow_mass_deletion=allow_mass_deletion,
                )
                for data_type in data_types
            ]
        )
        results = (await client.sync.BatchQueueSync(request, timeout=CALL_SECONDS)).results
        queued = [result.dataset for result in results if result.HasField("dataset")]
        for data_type, result in zip(data_types, results, strict=True):
            if result.HasField("error"):
                print_error(f"{data_type}: {explain(translate_status(result.error), server)}")
        for dataset in queued:
            if json:
                print_json(dataset)
            elif quiet:
                console.print(dataset.id)
        if queued and not (json or quiet or wait):
            print_datasets(queued)
        code = EXIT_OK if len(queued) == len(results) else EXIT_SERVER
        if wait and queued:
            ended = await follow_until_terminal(client, queued, server=server, json=json)
            for dataset in ended:
                if dataset.status not in ENDED_WELL:
                    details = command_line(server, "dataset", dataset.id)
                    print_note(f"{dataset.data_type} ended {status_name(dataset.status)}; see: {details}")
                    code = code or EXIT_FAILED
        return code

    return run_client(server, work)
