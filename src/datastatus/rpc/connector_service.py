"""ConnectorService: one stream a connector, uploads, and single reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from datastatus import errors
from datastatus.domain.texts import CODE_CHARACTERS_MAX, TEXT_CHARACTERS_MAX
from datastatus.engine.calls_in_order import CallsInOrder
from datastatus.engine.connector_session import (
    Assigned,
    ConnectorClosing,
    ConnectorSession,
    Hello,
    Revocation,
)
from datastatus.engine.engine import Engine
from datastatus.engine.reports import Answer, Report
from datastatus.integrations.encoding import RECORD_BYTES_MAX
from datastatus.rpc import convert, error_table
from datastatus.rpc.fields import Fields
from datastatus.store.datasets import Assignment
from datastatus.store.ids import NIL
from datastatus.v1 import connector_pb2, connector_service_pb2, connector_service_pb2_grpc, dataset_pb2

Context = grpc.aio.ServicerContext

_REPORTS_MAX = 1000
_RECORDS_MAX = 1000
_PAGE_BYTES_MAX = 4 << 20
_SERVED_MAX = 10_000
# A stream may break before a connector has heard that what it held is done, and after it was given as much again.
_HELD_LEASES_MAX = 10_000
_VERSION_CHARACTERS_MAX = 100

# As many messages of reports of one connector are carried out at the same time.
_MESSAGES_AT_ONCE_MAX = 4

# What goes to the connector; None ends the stream, and so does an error.
_Outgoing = asyncio.Queue[connector_pb2.ConnectResponse | Exception | None]
# Messages of reports that are being carried out, by the datasets that they are on.
_Reporting = CallsInOrder[UUID, connector_pb2.ReportResults]

_ReportMessage = connector_pb2.StatusReport | connector_service_pb2.ReportStatusRequest


class ConnectorService(connector_service_pb2_grpc.ConnectorServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._connectors = engine.connectors
        self._reporter = engine.reporter

    async def Connect(  # pyright: ignore[reportIncompatibleMethodOverride] (writes to the context)
        self, request_iterator: AsyncIterator[connector_pb2.ConnectRequest], context: Context
    ) -> None:
        first = await anext(request_iterator, None)
        hello = _hello(first, context.peer())
        async with self._connectors.session(hello) as session:
            await context.write(self._welcome(session))
            outgoing: _Outgoing = asyncio.Queue(_REPORTS_MAX)
            async with asyncio.TaskGroup() as tasks, _Reporting(_MESSAGES_AT_ONCE_MAX) as reporting:
                working = (
                    tasks.create_task(self._read(request_iterator, session, reporting)),
                    tasks.create_task(self._answer(reporting, outgoing)),
                    tasks.create_task(self._forward(session, outgoing)),
                )
                while (message := await outgoing.get()) is not None:
                    if isinstance(message, Exception):
                        raise message
                    await context.write(message)
                for one in working:
                    one.cancel()

    async def UploadRecords(
        self, request_iterator: AsyncIterator[connector_service_pb2.UploadRecordsRequest], context: Context
    ) -> connector_service_pb2.UploadRecordsResponse:
        dataset_id = lease_token = ""
        pages = staged = 0
        async for request in request_iterator:
            dataset_id, lease_token = request.dataset_id or dataset_id, request.lease_token or lease_token
            with Fields() as fields:
                dataset = fields.uuid("dataset_id", dataset_id)
                token = fields.uuid("lease_token", lease_token)
                fields.number("page", request.page, at_least=0, at_most=1 << 40)
                records = fields.elements("records", request.records, at_most=_RECORDS_MAX)
                if sum(map(len, records)) > _PAGE_BYTES_MAX:
                    fields.wrong("records", f"must have at most {_PAGE_BYTES_MAX} bytes together")
                for index, record in enumerate(records):
                    if len(record) > RECORD_BYTES_MAX:
                        problem = f"must have at most {RECORD_BYTES_MAX} bytes, not {len(record)}"
                        fields.wrong(f"records[{index}]", problem)
            pages, staged = await self._connectors.stage_page(dataset, token, request.page, records)
        return connector_service_pb2.UploadRecordsResponse(pages=pages, records=staged)

    async def ReportStatus(
        self, request: connector_service_pb2.ReportStatusRequest, context: Context
    ) -> dataset_pb2.Dataset:
        with Fields() as fields:
            dataset_id = fields.uuid("dataset_id", request.dataset_id)
            lease_token = fields.optional_uuid(request, "lease_token")
            to_status = fields.choice("to_status", request.to_status, convert.STATUSES)
            report = Report(
                dataset_id,
                lease_token or NIL,
                to_status,
                description=_text(fields, request, "description"),
                error_message=_text(fields, request, "error_message"),
                error_code=_code(fields, request),
                records_fetched=fields.optional_count(request, "records_fetched"),
                records_total=fields.optional_count(request, "records_total"),
            )
        return convert.dataset(await self._reporter.report_alone(dataset_id, lease_token, to_status, report))

    def _welcome(self, session: ConnectorSession) -> connector_pb2.ConnectResponse:
        return connector_pb2.ConnectResponse(
            welcome=connector_pb2.ConnectorWelcome(
                session_id=str(session.id),
                heartbeat_interval=convert.duration(timedelta(seconds=self._connectors.heartbeat_seconds)),
                lease_ttl=convert.duration(timedelta(seconds=self._connectors.lease_seconds)),
            )
        )

    async def _read(
        self,
        requests: AsyncIterator[connector_pb2.ConnectRequest],
        session: ConnectorSession,
        reporting: _Reporting,
    ) -> None:
        """Carry out what the connector says; reports on different datasets at the same time."""
        try:
            async for request in requests:
                match request.WhichOneof("message"):
                    case "reports":
                        with Fields("reports.") as fields:
                            reports = fields.elements(
                                "reports", request.reports.reports, at_most=_REPORTS_MAX
                            )
                        read = [_report_or_error(report) for report in reports]
                        about = {one.dataset_id for one in read if isinstance(one, Report)}
                        await reporting.begin(about, partial(self._report, session, reports, read))
                    case "heartbeat":
                        await self._connectors.heartbeat(session, reporting)
                    case "draining":
                        await self._connectors.drain_session(session)
                    case _:
                        problem = "must be reports, a heartbeat or draining after the hello"
                        raise errors.InvalidFields.of("message", problem)
        except (errors.InvalidFields, DecodeError) as exc:
            # What came before it is answered first.
            await reporting.begin((), partial(_refuse, exc))
        reporting.end()

    async def _answer(self, reporting: _Reporting, outgoing: _Outgoing) -> None:
        try:
            async for results in reporting.results():
                await outgoing.put(connector_pb2.ConnectResponse(report_results=results))
        except Exception as exc:
            # Raised here it would overtake the results that still wait to be sent.
            await outgoing.put(exc)
        else:
            await outgoing.put(None)

    async def _forward(self, session: ConnectorSession, outgoing: _Outgoing) -> None:
        while True:
            match await session.outbox.get():
                case Assigned(assignments):
                    for message in self._assigned(session.hello, assignments):
                        await outgoing.put(message)
                case Revocation(dataset_id, lease_token, reason):
                    revocation = connector_pb2.Revocation(
                        dataset_id=str(dataset_id),
                        lease_token=str(lease_token),
                        reason=convert.REVOKE_NUMBERS[reason],  # type: ignore[arg-type]
                    )
                    await outgoing.put(connector_pb2.ConnectResponse(revoke=revocation))
                case ConnectorClosing(retry_after):
                    closing = connector_pb2.ConnectorClosing(retry_after=convert.duration(retry_after))
                    await outgoing.put(connector_pb2.ConnectResponse(closing=closing))
                    await outgoing.put(None)

    def _assigned(
        self, hello: Hello, assignments: Sequence[Assignment]
    ) -> Iterable[connector_pb2.ConnectResponse]:
        lease_ttl = convert.duration(timedelta(seconds=self._connectors.lease_seconds))
        messages = [_assignment(one, lease_ttl) for one in assignments]
        count_max = hello.batch_assignments_max
        if count_max is None:
            return (connector_pb2.ConnectResponse(assignment=one) for one in messages)
        batches = (messages[first : first + count_max] for first in range(0, len(messages), count_max))
        return (
            connector_pb2.ConnectResponse(assignment_batch=connector_pb2.AssignmentBatch(assignments=batch))
            for batch in batches
        )

    async def _report(
        self,
        session: ConnectorSession,
        reports: Sequence[connector_pb2.StatusReport],
        read: Sequence[Report | errors.InvalidFields],
    ) -> connector_pb2.ReportResults:
        good = [one for one in read if isinstance(one, Report)]
        answers = iter(await self._connectors.report(session, good))
        return connector_pb2.ReportResults(
            results=[
                _result(report, next(answers) if isinstance(one, Report) else one)
                for report, one in zip(reports, read, strict=True)
            ]
        )


async def _refuse(error: errors.InvalidFields | DecodeError) -> connector_pb2.ReportResults:
    raise error


def _hello(first: connector_pb2.ConnectRequest | None, peer: str) -> Hello:
    if first is None or first.WhichOneof("message") != "hello":
        raise errors.InvalidFields.of("message", "must be a hello first")
    hello = first.hello
    with Fields("hello.") as fields:
        held_leases = fields.elements("held_leases", hello.held_leases, at_most=_HELD_LEASES_MAX)
        integration_keys = fields.elements("integration_keys", hello.integration_keys, at_most=_SERVED_MAX)
        readable_integration_keys = fields.elements(
            "readable_integration_keys", hello.readable_integration_keys, at_most=_SERVED_MAX
        )
        if not hello.connection_ids and not hello.integration_keys:
            fields.wrong("connection_ids", "or integration_keys must name what the connector serves")
        return Hello(
            connector_name=fields.text("connector_name", hello.connector_name, characters_max=200),
            version=fields.possible_text("version", hello.version, characters_max=_VERSION_CHARACTERS_MAX),
            address=peer,
            integration_keys=frozenset(integration_keys),
            connection_ids=fields.uuids("connection_ids", hello.connection_ids, at_most=_SERVED_MAX),
            capacity=fields.number("capacity", hello.capacity, at_least=1, at_most=1000),
            batch_assignments_max=fields.optional_number(
                hello, "max_batch_assignments", at_least=1, at_most=1000
            ),
            held_leases=tuple(
                (
                    fields.uuid(f"held_leases[{index}].dataset_id", held.dataset_id),
                    fields.uuid(f"held_leases[{index}].lease_token", held.lease_token),
                )
                for index, held in enumerate(held_leases)
            ),
            readable_integration_keys=frozenset(readable_integration_keys),
        )


def _report_or_error(report: connector_pb2.StatusReport) -> Report | errors.InvalidFields:
    try:
        with Fields() as fields:
            return Report(
                fields.uuid("dataset_id", report.dataset_id),
                fields.uuid("lease_token", report.lease_token),
                fields.optional_choice(report, "to_status", convert.STATUSES),
                description=_text(fields, report, "description"),
                error_message=_text(fields, report, "error_message"),
                error_code=_code(fields, report),
                records_fetched=fields.optional_count(report, "records_fetched"),
                records_total=fields.optional_count(report, "records_total"),
                wait_reason=fields.optional_choice(report, "wait_reason", convert.WAIT_REASONS),
                retry_time=fields.timestamp(report, "retry_time"),
                fetch_complete=report.fetch_complete,
                complete_from=fields.day(report, "complete_from"),
            )
    except errors.InvalidFields as exc:
        return exc


def _text(fields: Fields, message: _ReportMessage, field: str) -> str | None:
    return fields.optional_text(message, field, characters_max=TEXT_CHARACTERS_MAX)


def _code(fields: Fields, message: _ReportMessage) -> str | None:
    return fields.optional_text(message, "error_code", characters_max=CODE_CHARACTERS_MAX)


def _result(report: connector_pb2.StatusReport, answer: Answer) -> connector_pb2.ReportResult:
    result = connector_pb2.ReportResult(dataset_id=report.dataset_id, lease_token=report.lease_token)
    match answer:
        case errors.DatastatusError():
            result.error.CopyFrom(error_table.to_status(answer))
        case None:
            result.status = dataset_pb2.DATASET_STATUS_UNSPECIFIED
        case status:
            result.status = convert.STATUS_NUMBERS[status]  # type: ignore[assignment]
    return result


def _assignment(assignment: Assignment, lease_ttl: Duration) -> connector_pb2.Assignment:
    scope = assignment.scope
    return connector_pb2.Assignment(
        dataset_id=str(assignment.dataset_id),
        company_id=str(assignment.company_id),
        connection_id=str(assignment.connection_id),
        integration_key=assignment.integration_key,
        data_type=assignment.data_type,
        lease=connector_pb2.Lease(
            token=str(assignment.lease_token),
            attempt=assignment.attempt,
            ttl=lease_ttl,
        ),
        sync_from=scope.sync_from.isoformat() if scope.sync_from else None,
        months_to_sync=scope.months_to_sync,
        modified_since=convert.timestamp(scope.modified_since),
    )
