"""`datastatus cancel`: cancel a sync."""

from __future__ import annotations

from datastatus.cli.client import CALL_SECONDS, DEFAULT_SERVER, Client, Json, Server, run_client
from datastatus.cli.datasets import print_datasets
from datastatus.v1 import sync_service_pb2


def cancel(dataset_id: str, /, *, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """Cancel a sync; one that has ended is shown as it ended."""

    async def work(client: Client) -> None:
        request = sync_service_pb2.CancelSyncRequest(dataset_id=dataset_id)
        dataset = await client.sync.CancelSync(request, timeout=CALL_SECONDS)
        print_datasets([dataset], json=json)

    return run_client(server, work)
