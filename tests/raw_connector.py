"""A connector by hand: a stream of ConnectorService, of which a test decides every message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from datastatus.v1 import (
    connector_pb2,
    connector_service_pb2,
    connector_service_pb2_grpc,
    dataset_pb2,
)
from running_service import RunningService

_SECONDS_MAX = 30


def _as_bytes(message: connector_pb2.ConnectRequest | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


class RawConnector:
    """`in_hand` are the assignments that were neither ended by `finish` nor revoked.

    `batch_sizes`: how many came in each AssignmentBatch.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: connector_service_pb2_grpc.ConnectorServiceAsyncStub = (
            connector_service_pb2_grpc.ConnectorServiceStub(channel)
        )
        self._call = channel.stream_stream(
            "/datastatus.v1.ConnectorService/Connect",
            request_serializer=_as_bytes,
            response_deserializer=connector_pb2.ConnectResponse.FromString,
        )()
        self._assigned: asyncio.Queue[connector_pb2.Assignment] = asyncio.Queue()
        self._revoked: asyncio.Queue[connector_pb2.Revocation] = asyncio.Queue()
        self._results: asyncio.Queue[connector_pb2.ReportResult] = asyncio.Queue()
        self.in_hand: dict[str, connector_pb2.Assignment] = {}
        self.in_hand_max = 0
        self.batch_sizes: list[int] = []
        self._reading: asyncio.Task[None] | None = None

    async def open(self, hello: connector_pb2.ConnectorHello) -> connector_pb2.ConnectorWelcome:
        await self._call.write(connector_pb2.ConnectRequest(hello=hello))
        response = await self._call.read()
        assert isinstance(response, connector_pb2.ConnectResponse)
        return response.welcome

    def begin_reading(self) -> asyncio.Task[None]:
        """Take what the service sends, until it ends the stream."""
        self._reading = asyncio.create_task(self._read())
        return self._reading

    async def ended(self) -> None:
        """Until the service has ended the stream. Raises as the stream does."""
        assert self._reading is not None
        async with asyncio.timeout(_SECONDS_MAX):
            await asyncio.shield(self._reading)

    async def _read(self) -> None:
        while isinstance(response := await self._call.read(), connector_pb2.ConnectResponse):
            match response.WhichOneof("message"):
                case "assignment":
                    self._take(response.assignment)
                case "assignment_batch":
                    self.batch_sizes.append(len(response.assignment_batch.assignments))
                    for assignment in response.assignment_batch.assignments:
                        self._take(assignment)
                case "revoke":
                    self.in_hand.pop(response.revoke.dataset_id, None)
                    self._revoked.put_nowait(response.revoke)
                case "report_results":
                    for result in response.report_results.results:
                        self._results.put_nowait(result)

    def _take(self, assignment: connector_pb2.Assignment) -> None:
        self.in_hand[assignment.dataset_id] = assignment
        self.in_hand_max = max(self.in_hand_max, len(self.in_hand))
        self._assigned.put_nowait(assignment)

    async def beat(self, seconds: float) -> None:
        """Heartbeats for ever."""
        while True:
            await self._call.write(connector_pb2.ConnectRequest(heartbeat=connector_pb2.ConnectorHeartbeat()))
            await asyncio.sleep(seconds)

    async def assigned(self) -> connector_pb2.Assignment:
        async with asyncio.timeout(_SECONDS_MAX):
            return await self._assigned.get()

    async def revoked(self) -> connector_pb2.Revocation:
        async with asyncio.timeout(_SECONDS_MAX):
            return await self._revoked.get()

    async def report(
        self,
        assignment: connector_pb2.Assignment,
        status: dataset_pb2.DatasetStatus.ValueType | None = None,
        **more: object,
    ) -> connector_pb2.ReportResult:
        """Report on an assignment; what became of it."""
        await self.send_report(assignment, status, **more)
        return await self.result()

    async def send_report(
        self,
        assignment: connector_pb2.Assignment,
        status: dataset_pb2.DatasetStatus.ValueType | None = None,
        **more: object,
    ) -> None:
        report = connector_pb2.StatusReport(
            dataset_id=assignment.dataset_id,
            lease_token=assignment.lease.token,
            to_status=status,
            **more,  # type: ignore[arg-type]
        )
        reports = connector_pb2.ConnectorReports(reports=[report])
        await self._call.write(connector_pb2.ConnectRequest(reports=reports))

    async def send_empty_reports(self, count: int) -> None:
        reports = connector_pb2.ConnectorReports(reports=[connector_pb2.StatusReport()] * count)
        await self._call.write(connector_pb2.ConnectRequest(reports=reports))

    async def result(self) -> connector_pb2.ReportResult:
        """What became of the first report of which that has not been told yet."""
        async with asyncio.timeout(_SECONDS_MAX):
            return await self._results.get()

    async def finish(
        self,
        assignment: connector_pb2.Assignment,
        status: dataset_pb2.DatasetStatus.ValueType = dataset_pb2.DATASET_STATUS_FETCH_ERROR,
    ) -> None:
        """End an assignment, in a status that needs no records."""
        del self.in_hand[assignment.dataset_id]
        result = await self.report(assignment, status)
        assert result.status == status, result

    async def upload(
        self, assignment: connector_pb2.Assignment, *records: bytes
    ) -> connector_service_pb2.UploadRecordsResponse:
        request = connector_service_pb2.UploadRecordsRequest(
            dataset_id=assignment.dataset_id, lease_token=assignment.lease.token, records=records
        )
        return await self._stub.UploadRecords(iter([request]))

    async def say_nothing(self) -> None:
        """Send a message that is none."""
        await self._call.write(connector_pb2.ConnectRequest())

    async def say_garbage(self) -> None:
        """Send what is no message at all."""
        await self._call.write(b"\xff")

    async def drain(self) -> None:
        await self._call.write(connector_pb2.ConnectRequest(draining=connector_pb2.ConnectorDraining()))

    def cut(self) -> None:
        """Break the stream, without a word."""
        self._call.cancel()


@asynccontextmanager
async def raw_connector(
    service: RunningService,
    connection_ids: Sequence[str] = (),
    *,
    integration_keys: Sequence[str] = (),
    capacity: int = 100,
    max_batch_assignments: int | None = None,
    held: Sequence[connector_pb2.Assignment] = (),
    silent: bool = False,
) -> AsyncIterator[RawConnector]:
    """A connector for the length of the `with`; unless `silent` it sends heartbeats."""
    hello = connector_pb2.ConnectorHello(
        connector_name="raw",
        version="1.2.3",
        connection_ids=connection_ids,
        integration_keys=integration_keys,
        capacity=capacity,
        max_batch_assignments=max_batch_assignments,
        held_leases=[
            connector_pb2.HeldLease(dataset_id=one.dataset_id, lease_token=one.lease.token) for one in held
        ],
    )
    async with grpc.aio.insecure_channel(service.address) as channel:
        connector = RawConnector(channel)
        welcome = await connector.open(hello)
        interval = welcome.heartbeat_interval
        tasks = [connector.begin_reading()]
        if not silent:
            tasks.append(asyncio.create_task(connector.beat(interval.seconds + interval.nanos / 1e9)))
        try:
            yield connector
        finally:
            for task in tasks:
                task.cancel()
            # How the stream ended is looked at by the tests that end it.
            await asyncio.gather(*tasks, return_exceptions=True)
            connector.cut()


async def report_alone(
    service: RunningService,
    assignment: connector_pb2.Assignment,
    status: dataset_pb2.DatasetStatus.ValueType,
    **more: Any,
) -> None:
    """Report by a single call, without a stream."""
    request = connector_service_pb2.ReportStatusRequest(
        dataset_id=assignment.dataset_id,
        lease_token=assignment.lease.token or None,
        to_status=status,
        **more,
    )
    async with grpc.aio.insecure_channel(service.address) as channel:
        await connector_service_pb2_grpc.ConnectorServiceStub(channel).ReportStatus(request)
