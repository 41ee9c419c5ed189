"""`datastatus watch`: every transition as it happens."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from google.protobuf.empty_pb2 import Empty

from datastatus.cli.client import DEFAULT_SERVER, Client, Json, Server, command_line, run_client
from datastatus.cli.datasets import print_datasets
from datastatus.cli.exits import EXIT_OK
from datastatus.cli.live import transition_line, watching
from datastatus.cli.output import console, print_json, print_note, status_number
from datastatus.v1 import watch_pb2


def watch(
    *,
    company: tuple[str, ...] = (),
    connection: tuple[str, ...] = (),
    data_type: tuple[str, ...] = (),
    dataset: tuple[str, ...] = (),
    status: tuple[str, ...] = (),
    start: Annotated[str, Parameter(name="--from")] = "snapshot",
    until_terminal: bool = False,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Show the present state, then every transition as it happens, until Ctrl-C. Reconnects by itself.

    Parameters
    ----------
    company
        Only of this company; this and the following may be given several times.
    connection
        Only over this connection.
    data_type
        Only of this data type.
    dataset
        Only of this dataset.
    status
        Only transitions to this status, such as COMPLETE.
    start
        snapshot, now, earliest, or the resume token of an earlier watch.
    until_terminal
        End once all datasets named with --dataset have ended.
    """
    statuses = [status_number(name) for name in status]
    request = watch_pb2.WatchStatusRequest(until_terminal=until_terminal)
    selection = watch_pb2.StatusFilter(
        company_ids=company,
        connection_ids=connection,
        data_types=data_type,
        dataset_ids=dataset,
        to_statuses=statuses,  # type: ignore[arg-type]
    )
    if selection.ByteSize():
        request.any_of.append(selection)
    match start:
        case "snapshot":
            request.snapshot.CopyFrom(Empty())
        case "now":
            request.now.CopyFrom(Empty())
        case "earliest":
            request.earliest.CopyFrom(Empty())
        case token:
            request.resume_token = token

    async def work(client: Client) -> None:
        async for response in watching(client, request):
            if json:
                print_json(response)
            else:
                _show(response)

    try:
        return run_client(server, work)
    except KeyboardInterrupt:
        if not json and request.resume_token:
            options = {
                **{"--company": company, "--connection": connection, "--data-type": data_type},
                **{"--dataset": dataset, "--status": status, "--from": [request.resume_token]},
            }
            words = [
                word for option, values in options.items() for value in values for word in (option, value)
            ]
            if until_terminal:
                words.append("--until-terminal")
            print_note(f"go on from here with: {command_line(server, 'watch', *words)}")
        return EXIT_OK


def _show(response: watch_pb2.WatchStatusResponse) -> None:
    match response.WhichOneof("message"):
        case "snapshot":
            print_datasets(response.snapshot.datasets)
        case "snapshot_end":
            print_note(f"live from transition {response.snapshot_end.seq} on; Ctrl-C ends")
        case "batch":
            for one in response.batch.transitions:
                console.print(transition_line(one, with_id=True), soft_wrap=True)
        case _:
            pass
