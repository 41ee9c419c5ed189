"""`datastatus connection`: create, authorize, list, show, unlink, delete; and the integrations there are."""

from __future__ import annotations

import sys
from json import dumps as json_document
from pathlib import Path
from typing import Annotated

import grpc
from cyclopts import App, Parameter
from google.protobuf import json_format, struct_pb2

from datastatus.cli.client import (
    CALL_SECONDS,
    DEFAULT_SERVER,
    Client,
    Json,
    Server,
    command_line,
    listed,
    run_client,
)
from datastatus.cli.company import Quiet
from datastatus.cli.exits import EXIT_USAGE
from datastatus.cli.integrations import runs
from datastatus.cli.output import (
    connection_status,
    console,
    exit_with_usage,
    harmless,
    print_error,
    print_fields,
    print_json,
    print_listing,
    print_note,
    when,
)
from datastatus.v1 import company_service_pb2, connection_pb2

app = App(name="connection")

# Never the credentials themselves: everybody on the machine sees a command line.
Credentials = Annotated[
    str | None,
    Parameter(
        name="--credentials",
        allow_leading_hyphen=True,
        help="A JSON file with what the source asks for, - for standard input; `connection integrations --json` "
        "shows the schema.",
    ),
]


@app.command
def create(
    company_id: str,
    integration: str,
    /,
    *,
    authorize: bool = False,
    credentials: Credentials = None,
    quiet: Quiet = False,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Create a connection of a company to an integration, such as `gnucash`.

    Parameters
    ----------
    authorize
        Link it at once, which queues its first syncs.
    """
    given = _read_credentials(credentials)

    async def work(client: Client) -> int | None:
        if authorize and given is None and (asked := await _asked_for(client, integration)):
            print_error(asked)
            return EXIT_USAGE
        request = company_service_pb2.CreateConnectionRequest(
            company_id=company_id, integration_key=integration
        )
        connection = await client.companies.CreateConnection(request, timeout=CALL_SECONDS)
        if authorize or given is not None:
            try:
                connection = await _authorize(client, connection.id, given)
            except grpc.aio.AioRpcError:
                # It is there all the same, and nothing else tells its id.
                words = ["authorize", connection.id, *(["--credentials", credentials] if credentials else [])]
                print_note(
                    f"connection {connection.id} is created but not linked; "
                    f"link it with: {command_line(server, 'connection', *words)}"
                )
                raise
        _show(connection, quiet=quiet, json=json)
        return None

    return run_client(server, work)


@app.command(name="authorize")
def authorize_(
    connection_id: str,
    /,
    *,
    credentials: Credentials = None,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Link a connection, for the first time or again, or give it new credentials."""
    given = _read_credentials(credentials)

    async def work(client: Client) -> int | None:
        if given is None:
            request = company_service_pb2.GetConnectionRequest(connection_id=connection_id)
            connection = await client.companies.GetConnection(request, timeout=CALL_SECONDS)
            # One that is linked keeps what it has.
            is_linked = connection.status == connection_pb2.CONNECTION_STATUS_LINKED
            if not is_linked and (asked := await _asked_for(client, connection.integration_key)):
                print_error(asked)
                return EXIT_USAGE
        _show(await _authorize(client, connection_id, given), quiet=False, json=json)
        return None

    return run_client(server, work)


@app.command(name="list")
def list_(company_id: str, /, *, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """List the connections of a company."""

    async def work(client: Client) -> None:
        request = company_service_pb2.ListConnectionsRequest(company_id=company_id)
        found, _ = await listed(client.companies.ListConnections, request, lambda page: page.connections)
        print_listing(
            found,
            ("connection id", "integration", "status", "connector", "last sync"),
            lambda one: (
                one.id,
                one.integration_key,
                connection_status(one.status),
                one.connector.connector_name if one.HasField("connector") else "offline",
                when(one, "last_sync"),
            ),
            json=json,
        )

    return run_client(server, work)


@app.command
def show(connection_id: str, /, *, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """Show one connection, its connector and its problems."""

    async def work(client: Client) -> None:
        request = company_service_pb2.GetConnectionRequest(connection_id=connection_id)
        _show(await client.companies.GetConnection(request, timeout=CALL_SECONDS), quiet=False, json=json)

    return run_client(server, work)


@app.command
def unlink(connection_id: str, /, *, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """Take a link back; what is running is cancelled, what is cached stays readable."""

    async def work(client: Client) -> None:
        request = company_service_pb2.UnlinkConnectionRequest(connection_id=connection_id)
        _show(await client.companies.UnlinkConnection(request, timeout=CALL_SECONDS), quiet=False, json=json)

    return run_client(server, work)


@app.command
def delete(connection_id: str, /, *, server: Server = DEFAULT_SERVER) -> int:
    """Delete a connection; what is running is cancelled."""

    async def work(client: Client) -> None:
        request = company_service_pb2.DeleteConnectionRequest(connection_id=connection_id)
        await client.companies.DeleteConnection(request, timeout=CALL_SECONDS)

    return run_client(server, work)


@app.command
def integrations(*, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """List the integrations that the service has installed.

    With --json it tells everything: the data types, and the schema of credentials.
    """

    async def work(client: Client) -> None:
        request = company_service_pb2.ListIntegrationsRequest()
        found = (await client.companies.ListIntegrations(request, timeout=CALL_SECONDS)).integrations
        print_listing(
            found,
            ("key", "name", "kind", "runs", "data types"),
            lambda one: (
                one.key,
                one.name,
                one.source_type,
                runs(one),
                str(len(one.data_types)),
            ),
            json=json,
        )

    return run_client(server, work)


def _read_credentials(path: str | None) -> struct_pb2.Struct | None:
    """The JSON object in a file, or on standard input; None where none is named. Ends the program if it is none."""
    if path is None:
        return None
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        return json_format.Parse(text, struct_pb2.Struct())
    except OSError as exc:
        exit_with_usage(f"{path}: {exc.strerror}")
    except (json_format.ParseError, UnicodeDecodeError):
        # Without its cause, which may hold the secret.
        exit_with_usage(f'{path}: must hold one JSON object, such as {{"apiKey": "..."}}')


async def _asked_for(client: Client, integration_key: str) -> str | None:
    """How to give the credentials that an integration cannot be linked without; None where it can."""
    request = company_service_pb2.GetIntegrationRequest(key=integration_key)
    integration = await client.companies.GetIntegration(request, timeout=CALL_SECONDS)
    schema = json_format.MessageToDict(integration.credentials_schema)
    required = schema.get("required", [])
    if not required:
        return None
    properties = schema["properties"]
    return "\n".join(
        [
            f"{integration_key} asks for credentials; name a file with --credentials, or -, that holds",
            f"  {json_document(dict.fromkeys(required, '...'))}",
            *(f"  {name}: {properties[name].get('description', '')}" for name in required),
            *(
                f"  {name}, which may be left out: {properties[name].get('description', '')}"
                for name in sorted(properties.keys() - set(required))
            ),
        ]
    )


async def _authorize(
    client: Client, connection_id: str, credentials: struct_pb2.Struct | None
) -> connection_pb2.Connection:
    request = company_service_pb2.AuthorizeConnectionRequest(
        connection_id=connection_id, credentials=credentials
    )
    return await client.companies.AuthorizeConnection(request, timeout=CALL_SECONDS)


def _show(connection: connection_pb2.Connection, *, quiet: bool, json: bool) -> None:
    if quiet:
        console.print(connection.id)
        return
    if json:
        print_json(connection)
        return
    connector = "offline"
    if connection.HasField("connector"):
        presence = connection.connector
        connector = f"{presence.connector_name} {presence.version} since {when(presence, 'online_since')}"
        if (others := connection.connectors_online - 1) > 0:
            connector += f", and {others} more"
    print_fields(
        [
            ("connection", connection.id),
            ("company", connection.company_id),
            ("integration", connection.integration_key),
            ("status", connection_status(connection.status)),
            ("link url", connection.link_url),
            ("connector", connector),
            ("last sync", when(connection, "last_sync")),
        ]
    )
    for problem in connection.errors:
        resolved = "resolved" if problem.HasField("resolved") else "active"
        console.print(
            harmless(f"{when(problem, 'occurred')}  {problem.code} ({resolved}): {problem.message}")
        )
