"""Settings: defaults and overrides, what they change, and what may not be set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from datastatus.cli.client import Client
from datastatus.v1 import (
    company_service_pb2,
    connector_pb2,
    connector_service_pb2_grpc,
    settings_pb2,
    sync_service_pb2,
    sync_settings_service_pb2,
)
from running_service import (
    RunningService,
    client_of,
    datastatus,
    linked,
    reason_of,
    running_service,
    violations_of,
)

DAILY, HOURLY = settings_pb2.SYNC_FREQUENCY_DAILY, settings_pb2.SYNC_FREQUENCY_HOURLY
NONE = settings_pb2.SYNC_FREQUENCY_NONE
# The ends of what a Timestamp can hold, to the microsecond.
EARLIEST = Timestamp(seconds=-62_135_596_800)
LATEST = Timestamp(seconds=253_402_300_799, nanos=999_999_000)


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[Client]:
    """A client; afterwards the defaults are as they were."""
    async with client_of(service) as client:
        yield client
        changed = [one.data_type for one in (await current(client)).values()]
        await client.settings.UpdateSyncSettings(
            sync_settings_service_pb2.UpdateSyncSettingsRequest(reset_data_types=changed)
        )


@pytest.fixture
async def company(client: Client) -> str:
    created = await client.companies.CreateCompany(company_service_pb2.CreateCompanyRequest(name="Acme"))
    return created.id


async def current(client: Client, company: str | None = None) -> dict[str, settings_pb2.SyncSetting]:
    request = sync_settings_service_pb2.GetSyncSettingsRequest(company_id=company)
    found = (await client.settings.GetSyncSettings(request)).settings
    return {one.data_type: one for one in found}


async def update(
    client: Client,
    *settings: settings_pb2.SyncSetting,
    company: str | None = None,
    mask: str = "",
    **more: Any,
) -> dict[str, settings_pb2.SyncSetting]:
    request = sync_settings_service_pb2.UpdateSyncSettingsRequest(
        company_id=company,
        settings=settings,
        update_mask=FieldMask(paths=mask.split(",")) if mask else None,
        **more,
    )
    found = (await client.settings.UpdateSyncSettings(request)).settings
    return {one.data_type: one for one in found}


def setting(data_type: str, **values: Any) -> settings_pb2.SyncSetting:
    return settings_pb2.SyncSetting(data_type=data_type, **values)


def moment(*parts: int) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(datetime(*parts, tzinfo=UTC))  # type: ignore[arg-type]
    return found


async def test_a_company_has_the_defaults_until_it_has_its_own(client: Client, company: str) -> None:
    await update(client, setting("invoices", frequency=DAILY), mask="frequency")
    assert (await current(client, company))["invoices"].frequency == DAILY

    own = (await update(client, setting("invoices", sync_order=5), company=company, mask="sync_order"))[
        "invoices"
    ]
    assert (own.frequency, own.sync_order, own.overridden) == (DAILY, 5, True)
    assert own.fetch_on_first_link

    # Its own is whole: a later change of the default is not for it.
    await update(client, setting("invoices", frequency=HOURLY), mask="frequency")
    assert (await current(client, company))["invoices"] == own

    back = (await update(client, company=company, reset_data_types=["invoices"]))["invoices"]
    assert (back.frequency, back.sync_order, back.overridden) == (HOURLY, 100, False)


@pytest.mark.parametrize("mask", ["", "*"])
async def test_without_a_mask_what_is_absent_is_absent_afterwards(
    client: Client, company: str, mask: str
) -> None:
    whole = setting("invoices", fetch_on_first_link=True, frequency=DAILY, sync_from=moment(2024, 1, 1))
    await update(client, whole, company=company, mask=mask)
    after = await update(client, setting("invoices", frequency=DAILY), company=company, mask=mask)
    assert after["invoices"] == setting("invoices", frequency=DAILY, overridden=True)


async def test_what_the_mask_does_not_name_is_not_looked_at(client: Client, company: str) -> None:
    before = (await current(client, company))["bills"]
    nonsense = setting(
        "bills",
        fetch_on_first_link=not before.fetch_on_first_link,
        frequency=99,  # type: ignore[arg-type]
        sync_order=-1,
        sync_from=LATEST,
        sync_from_window_months=0,
        months_to_sync=-1,
    )
    after = (await update(client, nonsense, company=company, mask="fetch_on_first_link"))["bills"]
    before.fetch_on_first_link, before.overridden = nonsense.fetch_on_first_link, True
    assert after == before


async def test_a_date_and_a_window_take_each_others_place(client: Client, company: str) -> None:
    dated = await update(
        client, setting("bills", sync_from=moment(2024, 1, 1)), company=company, mask="sync_from"
    )
    assert dated["bills"].sync_from == moment(2024, 1, 1)
    window = await update(
        client, setting("bills", sync_from_window_months=6), company=company, mask="sync_from_window_months"
    )
    assert (window["bills"].HasField("sync_from"), window["bills"].sync_from_window_months) == (False, 6)
    free = await update(client, setting("bills"), company=company, mask="sync_from")
    assert not free["bills"].HasField("sync_from_window_months")


async def test_a_locked_default_is_for_everybody(client: Client, company: str) -> None:
    await update(client, setting("bills", frequency=HOURLY), company=company, mask="frequency")
    await update(client, setting("bills", frequency=DAILY, locked=True), mask="frequency,locked")
    in_force = (await current(client, company))["bills"]
    assert (in_force.frequency, in_force.locked, in_force.overridden) == (DAILY, True, False)

    before = await current(client, company)
    for request in (
        {
            "settings": [setting("items", frequency=HOURLY), setting("bills", frequency=HOURLY)],
            "mask": "frequency",
        },
        {"settings": [], "reset_data_types": ["bills"]},
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await update(client, *request.pop("settings"), company=company, **request)
        assert (refused.value.code(), reason_of(refused.value)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "SETTING_LOCKED",
        )
    # Whoever sends back what it was given changes nothing.
    assert await update(client, *before.values(), company=company) == {
        key: setting_as_own(one) for key, one in before.items()
    }
    await update(client, setting("bills"), mask="locked")
    assert (await current(client, company))["bills"].frequency == HOURLY


def setting_as_own(one: settings_pb2.SyncSetting) -> settings_pb2.SyncSetting:
    own = settings_pb2.SyncSetting()
    own.CopyFrom(one)
    own.overridden = not one.locked
    return own


BAD = {
    "unknown type": ({"settings": [setting("unicorns", frequency=DAILY)]}, "DATA_TYPE_UNKNOWN", set()),
    "unknown type reset": ({"reset_data_types": ["unicorns"]}, "DATA_TYPE_UNKNOWN", set()),
    "unknown frequency": (
        {"settings": [setting("bills", frequency=99)]},  # type: ignore[arg-type]
        "INVALID_FIELD",
        {"settings[0].frequency"},
    ),
    "no frequency": ({"settings": [setting("bills")]}, "INVALID_FIELD", {"settings[0].frequency"}),
    "date and window": (
        {
            "settings": [
                setting("bills", frequency=NONE, sync_from=moment(2024, 1, 1), sync_from_window_months=6)
            ]
        },
        "INVALID_FIELD",
        {"settings[0].sync_from"},
    ),
    "out of range": (
        {
            "settings": [
                setting("bills", frequency=NONE, sync_from_window_months=0, months_to_sync=-1, sync_order=-1),
                setting("items", frequency=NONE, sync_from=Timestamp(seconds=1 << 60)),
            ]
        },
        "INVALID_FIELD",
        {
            *("settings[0].sync_from_window_months", "settings[0].months_to_sync", "settings[0].sync_order"),
            "settings[1].sync_from",
        },
    ),
    "beyond what everybody can hold": (
        {
            "settings": [
                setting("bills", frequency=NONE, sync_from=EARLIEST),
                setting("items", frequency=NONE, sync_from=LATEST),
            ]
        },
        "INVALID_FIELD",
        {"settings[0].sync_from", "settings[1].sync_from"},
    ),
    "unknown field": (
        {"settings": [setting("bills")], "mask": "sync_order,colour"},
        "INVALID_FIELD",
        {"update_mask.paths[1]"},
    ),
    "named twice": (
        {"settings": [setting("bills"), setting("bills")], "mask": "sync_order"},
        "INVALID_FIELD",
        {"settings"},
    ),
    "changed and reset": (
        {"settings": [setting("bills")], "mask": "sync_order", "reset_data_types": ["bills"]},
        "INVALID_FIELD",
        {"settings"},
    ),
    "nothing named": ({"settings": []}, "INVALID_FIELD", {"settings"}),
    "no type": (
        {"settings": [setting("")], "mask": "sync_order"},
        "INVALID_FIELD",
        {"settings[0].data_type"},
    ),
    "a lock of one company": (
        {"settings": [setting("bills", locked=True)], "mask": "locked", "company": "own"},
        "INVALID_FIELD",
        {"settings.locked"},
    ),
    "no such company": (
        {
            "settings": [setting("bills")],
            "mask": "sync_order",
            "company": "01890a5d-ac96-774b-bcce-b302099a8057",
        },
        "COMPANY_NOT_FOUND",
        set(),
    ),
    "no company id": (
        {"settings": [setting("bills")], "mask": "sync_order", "company": "acme"},
        "INVALID_FIELD",
        {"company_id"},
    ),
}


@pytest.mark.parametrize(("request_", "reason", "wrong"), BAD.values(), ids=BAD)
async def test_bad_settings_are_refused_and_change_nothing(
    client: Client, company: str, request_: dict[str, Any], reason: str, wrong: set[str]
) -> None:
    before = await current(client), await current(client, company)
    arguments = dict(request_)
    if arguments.get("company") == "own":
        arguments["company"] = company
    settings = arguments.pop("settings", [])
    if settings:
        # One that is right goes the way of those that are not.
        settings = [*settings, setting("invoices", frequency=HOURLY, sync_order=1)]

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await update(client, *settings, **arguments)

    assert reason_of(refused.value) == reason
    assert set(violations_of(refused.value)) == wrong
    assert (await current(client), await current(client, company)) == before


async def test_a_change_of_nothing_is_told_what_it_may_name(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await update(client)
    assert violations_of(refused.value) == {"settings": "or reset_data_types must name what is to be changed"}


async def test_links_and_refreshes_queue_by_the_settings(client: Client) -> None:
    await update(client, setting("invoices"), mask="fetch_on_first_link")
    await update(client, setting("bills", sync_order=0), mask="sync_order")
    connection = await linked(client, "gnucash")
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(connection_id=connection.id, page_size=100)
    )
    first = {one.data_type for one in history.datasets}
    assert "bills" in first
    assert "invoices" not in first
    for one in history.datasets:
        await client.sync.CancelSync(sync_service_pb2.CancelSyncRequest(dataset_id=one.id))

    await update(client, setting("items"), company=connection.company_id, mask="fetch_on_first_link")
    await update(client, setting("customers"), company=connection.company_id, mask="fetch_on_first_link")
    refreshed = await client.sync.RefreshCompany(
        sync_service_pb2.RefreshCompanyRequest(company_id=connection.company_id)
    )

    assert {one.data_type for one in refreshed.queued} == first - {"customers"}
    assert refreshed.queued[0].data_type == "bills"
    assert list(refreshed.already_active_dataset_ids) == []

    again = await client.sync.RefreshCompany(
        sync_service_pb2.RefreshCompanyRequest(company_id=connection.company_id)
    )
    assert list(again.queued) == []
    assert list(again.already_active_dataset_ids) == [one.id for one in refreshed.queued]


async def test_an_assignment_says_what_to_fetch(service: RunningService, client: Client) -> None:
    connection = await linked(client, "gnucash")
    company = connection.company_id
    await update(
        client, setting("invoices", sync_from=moment(2024, 2, 29, 13)), company=company, mask="sync_from"
    )
    await update(client, setting("invoices", months_to_sync=24), company=company, mask="months_to_sync")
    await update(
        client, setting("bills", sync_from_window_months=12), company=company, mask="sync_from_window_months"
    )
    async with grpc.aio.insecure_channel(service.address) as channel:
        call = connector_service_pb2_grpc.ConnectorServiceStub(channel).Connect()
        hello = connector_pb2.ConnectorHello(
            connector_name="test", connection_ids=[connection.id], capacity=100
        )
        await call.write(connector_pb2.ConnectRequest(hello=hello))
        wanted = {"invoices", "bills", "customers"}
        found: dict[str, connector_pb2.Assignment] = {}
        while wanted - found.keys():
            message = await call.read()
            if message.HasField("assignment"):  # type: ignore[union-attr]
                found[message.assignment.data_type] = message.assignment  # type: ignore[union-attr]

    assert (found["invoices"].sync_from, found["invoices"].months_to_sync) == ("2024-02-29", 24)
    back = (datetime.now(UTC).date() - datetime.fromisoformat(found["bills"].sync_from).date()).days
    assert 365 <= back <= 367
    assert not found["customers"].HasField("sync_from")


async def test_settings_from_the_command_line(service: RunningService, client: Client, company: str) -> None:
    done = await datastatus(
        *(service, "settings", "set", "invoices", "bills", "--company", company, "--frequency", "weekly"),
        *("--since", "2024-05-01", "--json"),
    )
    assert [one["dataType"] for one in done.documents] == ["invoices", "bills"]
    assert {(one["frequency"], one["syncFrom"]) for one in done.documents} == {
        ("SYNC_FREQUENCY_WEEKLY", "2024-05-01T00:00:00Z")
    }
    shown = await datastatus(service, "settings", "--company", company)
    assert any(
        "weekly" in line and "2024-05-01" in line and "own" in line for line in shown.output.splitlines()
    )
    again = await datastatus(service, "settings", "reset", "invoices", "--company", company, "--json")
    assert again.documents[0]["frequency"] == "SYNC_FREQUENCY_NONE"

    connection = await linked(client, "gnucash")
    await datastatus(
        *(service, "settings", "set", "bills", "--company", connection.company_id, "--frequency", "daily")
    )
    scheduled = await datastatus(service, "settings", "schedule", connection.company_id, "--json")
    assert [one["dataType"] for one in scheduled.documents] == ["bills"]
    assert "daily" in (await datastatus(service, "settings", "schedule", connection.company_id)).output

    assert (await datastatus(service, "settings", "set", "bills", "--company", company)).code == 2
    too_early = await datastatus(service, "settings", "set", "bills", "--since", "0001-01-01")
    assert too_early.code == 3
    assert "settings[0].sync_from: must be a time from 0001-01-02T00:00:00+00:00 to 9999" in too_early.errors
    unknown = await datastatus(service, "settings", "set", "bills", "--frequency", "fortnightly")
    assert unknown.code == 2
    await datastatus(service, "settings", "set", "bills", "--locked")
    refused = await datastatus(service, "settings", "set", "bills", "--company", company, "--order", "1")
    assert refused.code == 3
    assert "SETTING_LOCKED" in refused.errors
