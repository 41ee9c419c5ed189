"""Whatever is sent, the answer says what is wrong: no crash, no traceback, and nothing has changed."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2

from datastatus.cli.client import Client
from datastatus.v1 import (
    company_service_pb2,
    connector_pb2,
    connector_service_pb2,
    connector_service_pb2_grpc,
    dataset_pb2,
    record_service_pb2,
    sync_service_pb2,
    sync_settings_service_pb2,
    watch_pb2,
)
from messages import fill_with_nonsense
from running_service import RunningService, linked, reason_of, running_service, violations_of

NONSENSE_CALLS_PER_METHOD = 60
SEED = int(os.environ.get("NONSENSE_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
NOBODY = str(uuid.UUID(int=uuid.uuid4().int))

NOTHING = {FieldDescriptor.TYPE_STRING: "", FieldDescriptor.TYPE_BYTES: b"", FieldDescriptor.TYPE_ENUM: 0}

METHODS = [
    method
    for module in (
        sync_service_pb2,
        company_service_pb2,
        sync_settings_service_pb2,
        record_service_pb2,
        connector_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


@pytest.fixture
async def channel(service: RunningService) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield channel


async def call(channel: grpc.aio.Channel, method: MethodDescriptor, request: Message | bytes) -> None:
    """Call any method with one request; a watch is read up to its first token."""
    name = f"/{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type)
    formats = {
        "request_serializer": lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
        "response_deserializer": answer.FromString,
    }
    match method.client_streaming, method.server_streaming:
        case False, False:
            await channel.unary_unary(name, **formats)(request, timeout=20)
        case False, True:
            stream = channel.unary_stream(name, **formats)(request, timeout=20)
            async for message in stream:
                if message.resume_token:
                    break
            stream.cancel()
        case True, False:
            await channel.stream_unary(name, **formats)(iter([request]), timeout=20)
        case True, True:
            stream = channel.stream_stream(name, **formats)(iter([request]), timeout=20)
            await stream.read()
            stream.cancel()


@pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: method.full_name.removeprefix("datastatus.v1.")
)
async def test_nonsense_is_refused_with_a_reason(
    service: RunningService, client: Client, channel: grpc.aio.Channel, method: MethodDescriptor
) -> None:
    connection = await linked(client, "gnucash")
    chance = random.Random(f"{SEED} {method.full_name}")
    print(f"NONSENSE_SEED={SEED}")
    refusals: list[grpc.aio.AioRpcError] = []
    for _ in range(NONSENSE_CALLS_PER_METHOD):
        request = message_factory.GetMessageClass(method.input_type)()
        fill_with_nonsense(request, chance, [connection.company_id, connection.id])
        if (refusal := await refusal_of(channel, method, request)) is not None:
            refusals.append(refusal)
    assert not [one for one in refusals if reason_of(one) in ("INTERNAL", "CALL_FAILED", "STORE_DOWN")]
    assert refusals or not method.input_type.fields
    assert "internal_error" not in service.log
    assert "Traceback" not in service.log


async def refusal_of(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: Message
) -> grpc.aio.AioRpcError | None:
    try:
        await call(channel, method, request)
    except grpc.aio.AioRpcError as exc:
        return exc
    return None


@pytest.mark.parametrize(
    ("method", "request_", "fields"),
    [
        (
            "SyncService.QueueSync",
            sync_service_pb2.SyncRequest(
                company_id="acme",
                connection_id="",
                data_type=" ",
                request_id="1",
                on_active=cast(sync_service_pb2.OnActive.ValueType, 9),
            ),
            ["company_id", "data_type", "connection_id", "request_id", "on_active"],
        ),
        (
            "SyncService.WatchStatus",
            watch_pb2.WatchStatusRequest(
                heartbeat=Duration(seconds=3600),
                max_batch_bytes=1,
                any_of=[
                    watch_pb2.StatusFilter(
                        company_ids=["x"], to_statuses=[cast(dataset_pb2.DatasetStatus.ValueType, 99)]
                    ),
                    watch_pb2.StatusFilter(dataset_ids=["y"]),
                ],
                resume_token="not one either",
            ),
            [
                "any_of[0].company_ids[0]",
                "any_of[0].to_statuses[0]",
                "any_of[1].dataset_ids[0]",
                "heartbeat",
                "max_batch_bytes",
            ],
        ),
        (
            "CompanyService.CreateCompany",
            company_service_pb2.CreateCompanyRequest(name="", external_id="x" * 300),
            ["name", "external_id"],
        ),
        (
            "CompanyService.CreateCompany",
            company_service_pb2.CreateCompanyRequest(name="Acme", external_id=""),
            ["external_id"],
        ),
        (
            "CompanyService.ListCompanies",
            company_service_pb2.ListCompaniesRequest(external_id=" "),
            ["external_id"],
        ),
        (
            "ConnectorService.ReportStatus",
            connector_service_pb2.ReportStatusRequest(
                dataset_id=NOBODY,
                to_status=dataset_pb2.DATASET_STATUS_FETCH_ERROR,
                description="x" * 4001,
                error_message="x" * 4001,
                error_code="x" * 101,
            ),
            ["description", "error_message", "error_code"],
        ),
        (
            "ConnectorService.UploadRecords",
            connector_service_pb2.UploadRecordsRequest(dataset_id="x", page=-1, records=[b""] * 1001),
            ["dataset_id", "lease_token", "page", "records"],
        ),
        (
            "ConnectorService.Connect",
            connector_pb2.ConnectRequest(
                hello=connector_pb2.ConnectorHello(
                    connector_name="a", capacity=1001, held_leases=[connector_pb2.HeldLease(dataset_id="x")]
                )
            ),
            [
                "hello.connection_ids",
                "hello.capacity",
                "hello.held_leases[0].dataset_id",
                "hello.held_leases[0].lease_token",
            ],
        ),
        (
            "ConnectorService.Connect",
            connector_pb2.ConnectRequest(
                hello=connector_pb2.ConnectorHello(
                    connection_ids=["x"], max_batch_assignments=0, version="1\0"
                )
            ),
            [
                "hello.connector_name",
                "hello.version",
                "hello.connection_ids[0]",
                "hello.capacity",
                "hello.max_batch_assignments",
            ],
        ),
    ],
)
async def test_all_wrong_fields_come_back_at_once(
    channel: grpc.aio.Channel, method: str, request_: Message, fields: Sequence[str]
) -> None:
    [found] = [one for one in METHODS if one.full_name == f"datastatus.v1.{method}"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(channel, found, request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "INVALID_FIELD"
    assert sorted(violations_of(refused.value)) == sorted(fields)


def is_read(method: MethodDescriptor, encoded: bytes) -> bool:
    try:
        message_factory.GetMessageClass(method.input_type).FromString(encoded)
    except DecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("method", "encoded"),
    [
        pytest.param(method, encoded, id=f"{problem} {method.full_name.removeprefix('datastatus.v1.')}")
        for problem, encoded in {"broken": b"\xff\xff", "not UTF-8": b"\x0a\x02\xff\xfe"}.items()
        for method in METHODS
        if not is_read(method, encoded)
    ],
)
async def test_what_is_no_request_is_refused_with_a_reason(
    service: RunningService, channel: grpc.aio.Channel, method: MethodDescriptor, encoded: bytes
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(channel, method, encoded)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "INVALID_FIELD"
    problem = f"must be a {method.input_type.full_name}, encoded as protobuf"
    assert violations_of(refused.value) == {"request": problem}
    assert "Traceback" not in service.log
    assert '"error"' not in service.log


def lists_in(message: Descriptor, path: str = "") -> Iterator[str]:
    """The paths of all lists in a request, in those of messages that lists hold too."""
    for field in message.fields:
        if field.is_repeated:
            yield f"{path}{field.name}"
        if field.message_type is not None and field.message_type.full_name != "google.protobuf.Struct":
            yield from lists_in(field.message_type, f"{path}{field.name}{'[0]' * field.is_repeated}.")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, path)
        for method in METHODS
        for path in lists_in(method.input_type)
        # A stream does not begin with them.
        if not path.startswith("reports.")
    ],
)
async def test_a_list_with_too_many_elements_is_refused_and_none_of_them_is_looked_at(
    channel: grpc.aio.Channel, method: MethodDescriptor, path: str
) -> None:
    request = message_factory.GetMessageClass(method.input_type)()
    message: Any = request
    *steps, name = path.split(".")
    for step in steps:
        message = getattr(message, step.removesuffix("[0]"))
        message = message.add() if step.endswith("[0]") else message
    elements, field = getattr(message, name), message.DESCRIPTOR.fields_by_name[name]
    for _ in range(20_000):
        elements.add() if field.message_type else elements.append(NOTHING[field.type])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(channel, method, request)
    violations = violations_of(refused.value)
    assert violations[path].endswith("elements, not 20000")
    assert not [one for one in violations if one.startswith(f"{path}[")]


async def test_credentials_that_are_too_large_are_refused_whatever_is_in_them(client: Client) -> None:
    request = company_service_pb2.AuthorizeConnectionRequest(connection_id=NOBODY)
    request.credentials["keys"] = [""] * 100_000
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.companies.AuthorizeConnection(request)
    assert "must have at most 65536 bytes" in violations_of(refused.value)["credentials"]


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("SyncService.GetDataset", {"dataset_id": NOBODY}, "DATASET_NOT_FOUND"),
        ("SyncService.CancelSync", {"dataset_id": NOBODY}, "DATASET_NOT_FOUND"),
        ("SyncService.GetDataStatus", {"company_id": NOBODY}, "COMPANY_NOT_FOUND"),
        ("SyncService.RefreshCompany", {"company_id": NOBODY}, "COMPANY_NOT_FOUND"),
        ("SyncService.QueueSync", {"company_id": NOBODY, "data_type": "bills"}, "COMPANY_NOT_FOUND"),
        (
            "SyncService.WatchStatus",
            {"any_of": [{"dataset_ids": [NOBODY]}], "until_terminal": True},
            "DATASET_NOT_FOUND",
        ),
        ("CompanyService.GetCompany", {"company_id": NOBODY}, "COMPANY_NOT_FOUND"),
        ("CompanyService.DeleteCompany", {"company_id": NOBODY}, "COMPANY_NOT_FOUND"),
        ("CompanyService.ListConnections", {"company_id": NOBODY}, "COMPANY_NOT_FOUND"),
        (
            "CompanyService.CreateConnection",
            {"company_id": NOBODY, "integration_key": "gnucash"},
            "COMPANY_NOT_FOUND",
        ),
        (
            "CompanyService.CreateConnection",
            {"company_id": NOBODY, "integration_key": "odd"},
            "INTEGRATION_NOT_FOUND",
        ),
        ("CompanyService.GetConnection", {"connection_id": NOBODY}, "CONNECTION_NOT_FOUND"),
        ("CompanyService.AuthorizeConnection", {"connection_id": NOBODY}, "CONNECTION_NOT_FOUND"),
        ("CompanyService.UnlinkConnection", {"connection_id": NOBODY}, "CONNECTION_NOT_FOUND"),
        ("CompanyService.DeleteConnection", {"connection_id": NOBODY}, "CONNECTION_NOT_FOUND"),
        ("CompanyService.GetIntegration", {"key": "odd"}, "INTEGRATION_NOT_FOUND"),
        ("RecordService.ListRecords", {"company_id": NOBODY, "data_type": "bills"}, "COMPANY_NOT_FOUND"),
        (
            "RecordService.GetRecord",
            {"company_id": NOBODY, "data_type": "bills", "record_id": "1"},
            "COMPANY_NOT_FOUND",
        ),
        ("RecordService.GetValidationResult", {"dataset_id": NOBODY}, "DATASET_NOT_FOUND"),
        ("SyncSettingsService.GetSyncSettings", {"company_id": NOBODY}, "COMPANY_NOT_FOUND"),
        ("SyncSettingsService.ListSyncSchedules", {"company_id": NOBODY}, "COMPANY_NOT_FOUND"),
        (
            "ConnectorService.Connect",
            {"hello": {"connector_name": "a", "capacity": 1, "integration_keys": ["odd"]}},
            "INTEGRATION_NOT_FOUND",
        ),
        (
            "ConnectorService.Connect",
            {"hello": {"connector_name": "a", "capacity": 1, "connection_ids": [NOBODY]}},
            "CONNECTION_NOT_FOUND",
        ),
        ("ConnectorService.ReportStatus", {"dataset_id": NOBODY, "to_status": 2}, "DATASET_NOT_FOUND"),
    ],
)
async def test_what_does_not_exist_is_named(
    channel: grpc.aio.Channel, method: str, request_: dict, reason: str
) -> None:
    [found] = [one for one in METHODS if one.full_name == f"datastatus.v1.{method}"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(channel, found, message_factory.GetMessageClass(found.input_type)(**request_))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(refused.value) == reason


@pytest.mark.parametrize("data_type", ["nosuch", "", "Invoices"])
@pytest.mark.parametrize("method", ["ListDatasets", "WatchStatus"])
async def test_a_filter_by_an_unknown_data_type_is_refused(
    channel: grpc.aio.Channel, method: str, data_type: str
) -> None:
    requests = {
        "ListDatasets": sync_service_pb2.ListDatasetsRequest(data_type=data_type),
        "WatchStatus": watch_pb2.WatchStatusRequest(
            any_of=[watch_pb2.StatusFilter(), watch_pb2.StatusFilter(data_types=["invoices", data_type])]
        ),
    }
    [found] = [one for one in METHODS if one.full_name == f"datastatus.v1.SyncService.{method}"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(channel, found, requests[method])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "DATA_TYPE_UNKNOWN"


async def test_a_page_token_is_good_for_its_own_request_only(client: Client) -> None:
    connection, other = await linked(client, "external"), await linked(client, "external")
    companies = await client.companies.ListCompanies(company_service_pb2.ListCompaniesRequest(page_size=1))
    request = sync_service_pb2.ListDatasetsRequest(connection_id=connection.id, page_size=1)
    datasets = await client.sync.ListDatasets(request)
    foreign = [
        client.sync.ListDatasets(
            sync_service_pb2.ListDatasetsRequest(
                connection_id=connection.id, page_token=companies.next_page_token
            )
        ),
        client.sync.ListDatasets(
            sync_service_pb2.ListDatasetsRequest(connection_id=other.id, page_token=datasets.next_page_token)
        ),
        client.sync.ListDataStatus(
            sync_service_pb2.ListDataStatusRequest(page_token=companies.next_page_token)
        ),
    ]
    answers = await asyncio.gather(*foreign, return_exceptions=True)
    refusals = [one for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert [reason_of(one) for one in refusals] == ["BAD_TOKEN"] * len(foreign)

    request.page_token, request.page_size = datasets.next_page_token, 2
    following = await client.sync.ListDatasets(request)
    assert len(following.datasets) == 2
    assert datasets.datasets[0] not in following.datasets


async def test_of_a_batch_what_is_wrong_is_refused_in_its_place(client: Client) -> None:
    connection = await linked(client, "gnucash")
    syncs = [
        ("salesOrders", connection.company_id),
        ("bills", "acme"),
        ("odd", connection.company_id),
        ("commerce-orders", connection.company_id),
        ("bills", NOBODY),
    ]
    requests = [
        sync_service_pb2.SyncRequest(company_id=company_id, data_type=data_type)
        for data_type, company_id in syncs
    ]
    answer = await client.sync.BatchQueueSync(sync_service_pb2.BatchQueueSyncRequest(requests=requests))
    told = [one.dataset.data_type or code_pb2.Code.Name(one.error.code) for one in answer.results]
    assert told == ["salesOrders", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "commerce-orders", "NOT_FOUND"]


async def test_an_illegal_report_changes_nothing(client: Client, channel: grpc.aio.Channel) -> None:
    connection = await linked(client, "external")
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(connection_id=connection.id, page_size=1)
    )
    before = history.datasets[0]
    connectors: connector_service_pb2_grpc.ConnectorServiceAsyncStub = (
        connector_service_pb2_grpc.ConnectorServiceStub(channel)
    )
    illegal = [
        status
        for status in dataset_pb2.DatasetStatus.values()
        if status
        not in (
            dataset_pb2.DATASET_STATUS_UNSPECIFIED,
            dataset_pb2.DATASET_STATUS_FETCHING,
            dataset_pb2.DATASET_STATUS_NOT_SUPPORTED,
            dataset_pb2.DATASET_STATUS_AUTH_ERROR,
            dataset_pb2.DATASET_STATUS_CANCELLED,
            dataset_pb2.DATASET_STATUS_INTERNAL_ERROR,
        )
    ]

    reports = [
        connectors.ReportStatus(
            connector_service_pb2.ReportStatusRequest(dataset_id=before.id, to_status=status)
        )
        for status in illegal
    ]
    answers = await asyncio.gather(*reports, return_exceptions=True)

    refusals = [one for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert len(refusals) == len(illegal)
    assert {reason_of(one) for one in refusals} == {"ILLEGAL_TRANSITION"}
    after = await client.sync.GetDataset(sync_service_pb2.GetDatasetRequest(dataset_id=before.id))
    assert after == before
