"""`datastatus records`: what the cache holds."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from datastatus.cli.client import DEFAULT_SERVER, Client, Json, Limit, Server, listed, run_client
from datastatus.cli.output import print_json, print_note, print_table
from datastatus.v1 import record_pb2, record_service_pb2

_COLUMNS_MAX = 6
# What people look for first; the cache keeps a record's fields in no order.
_OF_THE_CACHE = ("id", "sourceModifiedDate", "modifiedDate", "metadata")
_FIRST = (
    *("invoiceNumber", "reference", "nominalCode", "code", "customerRef", "supplierRef", "postedOn"),
    *("customerName", "supplierName", "companyName", "name", "description"),
    *("issueDate", "dueDate", "currency", "totalAmount", "amountDue", "currentBalance", "status"),
)


def records(
    company_id: str,
    data_type: str,
    /,
    *,
    connection: str | None = None,
    filter: str | None = None,  # noqa: A002 (the name of the option)
    order_by: str | None = None,
    modified_since: datetime | None = None,
    limit: Limit = 50,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Show the cached records of a data type.

    Parameters
    ----------
    connection
        Those that came over this connection.
    filter
        Such as 'status != Paid AND totalAmount >= 1000'; docs/reading.md has the grammar.
    order_by
        Such as 'issueDate desc, totalAmount'.
    modified_since
        Those that a sync has changed since, deleted ones among them; in UTC unless it names its offset.
    """

    since = None
    if modified_since is not None:
        since = Timestamp()
        since.FromDatetime(modified_since)

    async def work(client: Client) -> None:
        request = record_service_pb2.ListRecordsRequest(
            company_id=company_id,
            data_type=data_type,
            connection_id=connection,
            filter=filter,
            order_by=order_by,
            modified_since=since,
        )
        found, last = await listed(client.records.ListRecords, request, lambda page: page.records, limit)
        if json:
            for record in found:
                print_json(record)
        elif not last.HasField("publication"):
            print_note(
                f"nothing of {data_type} is cached yet; `datastatus status {company_id}` tells where it stands"
            )
        else:
            print_records(found)
            print_note(f"{len(found)} of {last.total_size}; --json shows every field")

    return run_client(server, work)


def print_records(found: list[record_pb2.Record]) -> None:
    """A table of the plain fields that the records have, nested ones left out."""
    rows = [MessageToDict(one.data) for one in found]
    columns: list[str] = []
    for row in rows:
        for name, value in row.items():
            if name not in columns and name not in _OF_THE_CACHE and _cell(value):
                columns.append(name)
    columns.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    columns = columns[:_COLUMNS_MAX]
    print_table(columns, [[_cell(row.get(name)) for name in columns] for row in rows], texts=columns)


def _cell(value: object) -> str:
    match value:
        case {"name": str(name)}:
            return name
        case dict() | list() | None:
            return ""
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
