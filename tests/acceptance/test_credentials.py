"""Credentials: accepted by the source before the link is made, sealed at rest, and shown nowhere."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import Message

from datastatus.cli.client import Client
from datastatus.engine.credentials import KeyRing, generate_key
from datastatus.v1 import company_service_pb2, connection_pb2, dataset_pb2, sync_service_pb2
from running_service import (
    PLUGINS,
    RunningService,
    client_of,
    datastatus,
    ended,
    reason_of,
    running_service,
    script,
    synced,
    violations_of,
)

# Three bytes each make four characters of base64, whatever follows.
STEMS = ("first-secret", "later-secret", "wrong-secret")
# With what is written differently in a repr, in JSON, and in a URL.
FIRST, SECOND, WRONG = (f'{stem}\\4711"ö@' for stem in STEMS)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "keys").write_text(FIRST)
    return folder


@pytest.fixture(scope="module")
async def service(scripts: Path) -> AsyncIterator[RunningService]:
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(scripts)}
    async with running_service("--log-level", "debug", environment=environment) as service:
        yield service


@pytest.fixture
def accept(scripts: Path) -> Iterator[Callable[..., None]]:
    """Tells the source which keys it accepts from now on; at first, and after the test, FIRST."""

    def accept(*keys: str) -> None:
        (scripts / "keys").write_text("\n".join(keys))

    accept(FIRST)
    yield accept
    accept(FIRST)


async def pending(client: Client) -> connection_pb2.Connection:
    company = await client.companies.CreateCompany(company_service_pb2.CreateCompanyRequest(name="Acme"))
    return await client.companies.CreateConnection(
        company_service_pb2.CreateConnectionRequest(company_id=company.id, integration_key="keyed")
    )


async def authorize(client: Client, connection_id: str, **credentials: Any) -> connection_pb2.Connection:
    given = struct_pb2.Struct()
    given.update(credentials)
    return await client.companies.AuthorizeConnection(
        company_service_pb2.AuthorizeConnectionRequest(connection_id=connection_id, credentials=given)
    )


async def refusal(client: Client, connection_id: str, **credentials: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await authorize(client, connection_id, **credentials)
    return refused.value


async def history(client: Client, connection_id: str) -> list[dataset_pb2.Dataset]:
    request = sync_service_pb2.ListDatasetsRequest(connection_id=connection_id, page_size=1000)
    return list((await client.sync.ListDatasets(request)).datasets)


async def all_ended(client: Client, connection_id: str) -> list[dataset_pb2.Dataset]:
    """The datasets of a connection, once all have ended."""
    await ended(client, *(one.id for one in await history(client, connection_id)))
    return await history(client, connection_id)


async def show(client: Client, connection_id: str) -> connection_pb2.Connection:
    request = company_service_pb2.GetConnectionRequest(connection_id=connection_id)
    return await client.companies.GetConnection(request)


def kept(connection: connection_pb2.Connection) -> connection_pb2.Connection:
    """What the service has stored of it. The connector comes by itself, and soon."""
    stored = connection_pb2.Connection()
    stored.CopyFrom(connection)
    stored.ClearField("connector")
    stored.ClearField("connectors_online")
    return stored


@pytest.mark.parametrize(
    ("credentials", "code", "reason"),
    [
        ({"server": "erp"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"server": "erp", "apiKey": WRONG}, grpc.StatusCode.INVALID_ARGUMENT, "CREDENTIALS_REFUSED"),
        ({"server": "down", "apiKey": WRONG}, grpc.StatusCode.UNAVAILABLE, "SOURCE_UNAVAILABLE"),
        ({"server": "broken", "apiKey": WRONG}, grpc.StatusCode.UNAVAILABLE, "SOURCE_UNAVAILABLE"),
        ({"server": "exits", "apiKey": WRONG}, grpc.StatusCode.UNAVAILABLE, "SOURCE_UNAVAILABLE"),
        ({"server": "breaks the schema", "apiKey": WRONG}, grpc.StatusCode.UNAVAILABLE, "SOURCE_UNAVAILABLE"),
        ({"server": "exits the schema", "apiKey": WRONG}, grpc.StatusCode.UNAVAILABLE, "SOURCE_UNAVAILABLE"),
    ],
    ids=lambda value: str(value.get("server")) if isinstance(value, dict) else None,
)
async def test_what_the_source_does_not_accept_changes_nothing(
    client: Client, credentials: dict[str, str], code: grpc.StatusCode, reason: str
) -> None:
    connection = await pending(client)

    error = await refusal(client, connection.id, **credentials)

    assert (error.code(), reason_of(error)) == (code, reason)
    assert "wrong-secret" not in str(error)
    assert kept(await show(client, connection.id)) == kept(connection)
    assert await history(client, connection.id) == []


async def test_every_field_that_is_wrong_is_named(client: Client) -> None:
    connection = await pending(client)
    error = await refusal(client, connection.id, apiKey="short", extra=WRONG)
    assert set(violations_of(error)) == {"credentials.server", "credentials.apiKey", "credentials.extra"}
    assert "short" not in violations_of(error)["credentials.apiKey"].replace("too short", "")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["plain", "nested"])
async def test_numbers_that_json_does_not_know_are_refused(client: Client, where: str, number: float) -> None:
    connection = await pending(client)
    error = await refusal(client, connection.id, server=number if where == "plain" else [{"port": number}])
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(violations_of(error)) == {"credentials"}


async def test_a_connection_is_linked_with_what_its_source_accepts_and_syncs_with_it(
    client: Client, scripts: Path, accept: Callable[..., None]
) -> None:
    script(scripts, "suppliers", records=[{"id": "s1", "supplierName": "Müller", "status": "Active"}])
    connection = await pending(client)
    assert connection.status == connection_pb2.CONNECTION_STATUS_PENDING_AUTH

    linked = await authorize(client, connection.id, server="erp", apiKey=FIRST)

    assert linked.status == connection_pb2.CONNECTION_STATUS_LINKED
    first = await all_ended(client, connection.id)
    assert {one.trigger for one in first} == {dataset_pb2.TRIGGER_FIRST_LINK}
    assert {one.status for one in first} == {dataset_pb2.DATASET_STATUS_COMPLETE}

    # The key is revoked: the sync finds out, and the end user must come back with another one.
    accept(SECOND)
    failed = await synced(client, connection.company_id, "suppliers")
    assert (failed.status, failed.error_code) == (dataset_pb2.DATASET_STATUS_AUTH_ERROR, "KEY_UNKNOWN")
    assert "first-secret" not in failed.error_message
    assert (await show(client, connection.id)).errors[0].message == failed.error_message
    assert (
        reason_of(await refusal(client, connection.id, server="erp", apiKey=FIRST)) == "CREDENTIALS_REFUSED"
    )

    again = await authorize(client, connection.id, server="erp", apiKey=SECOND)
    assert again.status == connection_pb2.CONNECTION_STATUS_LINKED
    assert again.errors[0].HasField("resolved")
    [relinked] = [
        one for one in await history(client, connection.id) if one.trigger == dataset_pb2.TRIGGER_RELINK
    ]
    assert relinked.data_type == "suppliers"
    assert (await ended(client, relinked.id)).status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_a_linked_connection_takes_new_credentials_and_queues_nothing(
    client: Client, accept: Callable[..., None]
) -> None:
    connection = await pending(client)
    await authorize(client, connection.id, server="erp", apiKey=FIRST)
    before = await all_ended(client, connection.id)
    accept(FIRST, SECOND)

    assert (
        reason_of(await refusal(client, connection.id, server="erp", apiKey=WRONG)) == "CREDENTIALS_REFUSED"
    )
    await authorize(client, connection.id, server="erp", apiKey=SECOND)
    assert len(await history(client, connection.id)) == len(before)

    accept(SECOND)
    dataset = await synced(client, connection.company_id, "items")
    assert dataset.status == dataset_pb2.DATASET_STATUS_COMPLETE
    assert (await show(client, connection.id)).status == connection_pb2.CONNECTION_STATUS_LINKED


async def test_a_linked_connection_is_left_alone_without_credentials_but_not_with_empty_ones(
    client: Client, accept: Callable[..., None]
) -> None:
    connection = await pending(client)
    await authorize(client, connection.id, server="erp", apiKey=FIRST)
    await all_ended(client, connection.id)

    error = await refusal(client, connection.id)
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(violations_of(error)) == {"credentials.server", "credentials.apiKey"}

    absent = company_service_pb2.AuthorizeConnectionRequest(connection_id=connection.id)
    assert kept(await client.companies.AuthorizeConnection(absent)) == kept(await show(client, connection.id))
    dataset = await synced(client, connection.company_id, "items")
    assert dataset.status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_credentials_are_given_in_a_file_or_on_standard_input_never_on_the_command_line(
    service: RunningService, client: Client, tmp_path: Path, accept: Callable[..., None]
) -> None:
    schema = await datastatus(service, "connection", "integrations", "--json")
    [keyed] = [one for one in schema.documents if one["key"] == "keyed"]
    assert keyed["credentialsSchema"]["properties"]["apiKey"]["writeOnly"] is True

    connection = await pending(client)
    path = tmp_path / "credentials.json"
    path.write_text(f"apiKey: {FIRST}")
    wrong = await datastatus(service, "connection", "authorize", connection.id, "--credentials", str(path))
    assert wrong.code == 2
    assert "first-secret" not in wrong.output + wrong.errors

    given = json.dumps({"server": "erp", "apiKey": FIRST})
    done = await datastatus(
        service, "connection", "authorize", connection.id, "--credentials", "-", "--json", stdin=given
    )
    assert done.documents[0]["status"] == "CONNECTION_STATUS_LINKED"


async def test_keys_rotate_while_the_service_runs(
    service: RunningService, client: Client, accept: Callable[..., None]
) -> None:
    connection = await pending(client)
    await authorize(client, connection.id, server="erp", apiKey=FIRST)
    await all_ended(client, connection.id)
    path = service.data_folder / "credentials.keys"
    [old] = path.read_text().split()

    done = await datastatus(
        None, "credentials", "rotate", "--add-new-key", "--data-folder", str(service.data_folder)
    )

    assert done.code == 0, done.errors
    new, still = path.read_text().split()
    assert still == old
    # From here on the old key is not needed.
    path.write_text(new)
    dataset = await synced(client, connection.company_id, "customers")
    assert dataset.status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_no_key_is_lost_with_its_file_while_a_service_has_it(
    service: RunningService, client: Client, accept: Callable[..., None]
) -> None:
    connection = await pending(client)
    await authorize(client, connection.id, server="erp", apiKey=FIRST)
    await all_ended(client, connection.id)
    path = service.data_folder / "credentials.keys"
    good = path.read_text()
    path.unlink()

    done = await datastatus(None, "credentials", "rotate", "--data-folder", str(service.data_folder))
    assert (done.code, done.output) == (3, "")
    assert f"the file of credentials keys {path} cannot be read: No such file" in done.errors
    assert not path.exists()

    # One of another installation, say.
    path.write_text(generate_key())
    dataset = await synced(client, connection.company_id, "customers")
    assert dataset.status == dataset_pb2.DATASET_STATUS_COMPLETE
    await service.logged("credentials_key_missing")
    path.write_text(good)
    assert (
        await synced(client, connection.company_id, "customers")
    ).status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_a_service_does_not_start_with_new_keys_where_its_own_are_needed(
    scripts: Path, tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(scripts)}
    async with running_service(environment=environment) as service:
        async with client_of(service) as client:
            connection = await pending(client)
            await authorize(client, connection.id, server="erp", apiKey=FIRST)
            await all_ended(client, connection.id)
        await service.stop()
        path = service.data_folder / "credentials.keys"
        good = path.read_text()
        [key_id] = KeyRing(good.split()).key_ids

        path.unlink()
        refused = await datastatus(
            None, "serve", "--listen", "127.0.0.1:0", "--data-folder", str(service.data_folder)
        )
        assert refused.code == 3
        assert f"{path} is missing, and what is sealed under {key_id} cannot be read" in refused.errors
        assert not path.exists()

        path.write_text(generate_key())
        [other_id] = KeyRing([path.read_text()]).key_ids
        backup = tmp_path / "backup.keys"
        backup.write_text(good)
        folder = ("--data-folder", str(service.data_folder))
        listed = await datastatus(None, "credentials", "keys", *folder)
        assert [line.split() for line in listed.output.splitlines()[1:]] == [
            [other_id, "0"],
            [key_id, "1", "missing"],
        ]
        listed = await datastatus(
            None, "credentials", "keys", *folder, "--credentials-keys-file", str(backup)
        )
        assert [line.split() for line in listed.output.splitlines()[1:]] == [[key_id, "1"]]

        await service.start()
        await service.logged("credentials_key_missing")
        async with client_of(service) as client:
            unreadable = await synced(client, connection.company_id, "customers")
            assert unreadable.status == dataset_pb2.DATASET_STATUS_FETCH_ERROR
            assert unreadable.error_code == "CREDENTIALS_UNREADABLE"
            assert (await show(client, connection.id)).status == connection_pb2.CONNECTION_STATUS_LINKED
            path.write_text(good)
            dataset = await synced(client, connection.company_id, "customers")
            assert dataset.status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_no_sync_fails_for_a_file_of_keys_that_is_being_edited(
    service: RunningService, client: Client
) -> None:
    path = service.data_folder / "credentials.keys"
    whole = path.read_text()
    connection = await pending(client)
    try:
        path.write_text(whole[:20])
        authorized = await authorize(client, connection.id, server="erp", apiKey=FIRST)
        assert authorized.status == connection_pb2.CONNECTION_STATUS_LINKED
        assert {one.status for one in await all_ended(client, connection.id)} == {
            dataset_pb2.DATASET_STATUS_COMPLETE
        }
    finally:
        path.write_text(whole)
    await service.logged("credentials_keys_unusable")
    assert whole[:20] not in service.log


async def test_no_secret_is_in_any_answer_log_or_table(
    service: RunningService, client: Client, scripts: Path, accept: Callable[..., None]
) -> None:
    connection = await pending(client)
    for server in ("erp", "down", "broken", "breaks the schema", "exits the schema"):
        await refusal(client, connection.id, server=server, apiKey=WRONG)
    await authorize(client, connection.id, server="erp", apiKey=FIRST)
    await all_ended(client, connection.id)
    accept(SECOND)
    await synced(client, connection.company_id, "suppliers")
    await authorize(client, connection.id, server="erp", apiKey=SECOND)
    script(scripts, "bills", crash=f"the plug-in dies with {SECOND} in hand, or {SECOND!r}")
    assert (await synced(client, connection.company_id, "bills")).error_code == "INTEGRATION_FAILED"
    script(scripts, "bills", records=[])

    answers: list[Message] = [
        await show(client, connection.id),
        *await history(client, connection.id),
        await client.companies.ListIntegrations(company_service_pb2.ListIntegrationsRequest()),
    ]
    places = {
        "answers": "".join(map(json_format.MessageToJson, answers)),
        "log": service.log,
        "tables": await all_rows(service),
    }
    assert "source_failed" in places["log"]
    assert "verify_failed" in places["log"]
    assert connection.id in places["tables"]
    for place, text in places.items():
        for stem in STEMS:
            for written in (stem, stem.encode().hex(), base64.b64encode(stem.encode()).decode()):
                assert written not in text, place


async def all_rows(service: RunningService) -> str:
    """Every row of every table of the embedded database, as text."""
    async with service.database() as database:
        tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = []
        for (table,) in tables:
            rows += [row[0] for row in await database.fetch(f'SELECT t::text FROM "{table}" t')]
        return "\n".join(rows)
