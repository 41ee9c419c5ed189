"""`datastatus settings`: how data types are synchronised."""

from __future__ import annotations

from datastatus.cli.client import CALL_SECONDS, DEFAULT_SERVER, Client, Json, Server, run_client
from datastatus.cli.output import print_json, print_table
from datastatus.v1 import settings_pb2, sync_settings_service_pb2


def settings(*, company: str | None = None, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """Show which data types the first link queues, and in which order.

    Parameters
    ----------
    company
        As in force for this company; otherwise the defaults.
    """

    async def work(client: Client) -> None:
        request = sync_settings_service_pb2.GetSyncSettingsRequest(company_id=company)
        found = (await client.settings.GetSyncSettings(request, timeout=CALL_SECONDS)).settings
        if json:
            for setting in found:
                print_json(setting)
        else:
            print_table(
                ("data type", "on first link", "frequency", "order"),
                [
                    (
                        one.data_type,
                        "yes" if one.fetch_on_first_link else "no",
                        settings_pb2.SyncFrequency.Name(one.frequency)
                        .removeprefix("SYNC_FREQUENCY_")
                        .lower(),
                        str(one.sync_order),
                    )
                    for one in found
                ],
            )

    return run_client(server, work)
