"""`datastatus status`: where a company's data types stand."""

from __future__ import annotations

from datastatus.cli.client import CALL_SECONDS, DEFAULT_SERVER, Client, Json, Server, run_client
from datastatus.cli.output import print_json, print_table, status_text, when
from datastatus.v1 import data_status_pb2, sync_service_pb2


def status(
    company_id: str,
    /,
    *,
    connection: str | None = None,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Show where each data type of a company stands.

    Parameters
    ----------
    connection
        Only over this connection.
    """

    async def work(client: Client) -> None:
        request = sync_service_pb2.GetDataStatusRequest(company_id=company_id, connection_id=connection)
        found = await client.sync.GetDataStatus(request, timeout=CALL_SECONDS)
        if json:
            print_json(found)
        else:
            print_data_status(found)

    return run_client(server, work)


def print_data_status(found: data_status_pb2.DataStatus) -> None:
    print_table(
        ("data type", "status", "last success", "latest sync id"),
        [
            (
                key,
                status_text(one.current_status) if one.HasField("current_status") else "never synced",
                when(one, "last_successful_sync"),
                one.latest_sync_id,
            )
            for key, one in sorted(found.data_types.items())
        ],
    )
