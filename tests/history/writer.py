"""Writers whose batches hold good items, and bad ones that must fail alone."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2

from datastatus.client import translate
from datastatus.domain.data_types import DATA_TYPES
from datastatus.integrations.gnucash import GNUCASH
from datastatus.v1 import (
    connector_service_pb2,
    connector_service_pb2_grpc,
    dataset_pb2,
    sync_service_pb2,
    sync_service_pb2_grpc,
)
from history.cluster import Cluster
from history.watcher import is_torn

# A dataset of one of these ends as soon as it is queued.
_UNSUPPORTED = sorted(DATA_TYPES.keys() - GNUCASH.info.data_types)
# A server may be frozen just now.
_CALL_SECONDS = 5

_ACCEPTED = "accepted"
_CONFLICT = "DATASET_ALREADY_IN_PROGRESS"
# A report races with those of other writers and with cancelling.
_REPORTED = {_ACCEPTED, "ILLEGAL_TRANSITION", "LEASE_LOST"}


@dataclass
class Writer:
    """Queues, reports and cancels until it is enough: faults wait for what is written meanwhile."""

    cluster: Cluster
    enough: Callable[[], bool]
    chance: random.Random
    # How many items of its batches were answered how.
    answers: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        while not self.enough():
            address = self.chance.choice(self.cluster.servers).address
            async with grpc.aio.insecure_channel(address) as channel:
                try:
                    for _ in range(self.chance.randint(1, 5)):
                        await self._write_once(channel)
                except grpc.aio.AioRpcError as exc:
                    if not is_torn(exc) and exc.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise

    async def _write_once(self, channel: grpc.aio.Channel) -> None:
        stub: sync_service_pb2_grpc.SyncServiceAsyncStub = sync_service_pb2_grpc.SyncServiceStub(channel)
        connectors: connector_service_pb2_grpc.ConnectorServiceAsyncStub = (
            connector_service_pb2_grpc.ConnectorServiceStub(channel)
        )
        driven = await self._queue(stub)
        await asyncio.gather(*self._reports(connectors, driven))
        await asyncio.gather(
            *(self._cancel(stub, one) for one in driven), self._cancel(stub, str(uuid.uuid4()), unknown=True)
        )

    async def _queue(self, stub: sync_service_pb2_grpc.SyncServiceAsyncStub) -> list[str]:
        """Queue good and bad, mixed; the ids of driven datasets."""
        items = [*self._good(), *self._bad()]
        self.chance.shuffle(items)
        request = sync_service_pb2.BatchQueueSyncRequest(requests=[one for one, _ in items])
        answer = await stub.BatchQueueSync(request, timeout=_CALL_SECONDS)
        driven = set()
        for (one, expected), result in zip(items, answer.results, strict=True):
            reason = _reason(result)
            self.answers[reason] += 1
            assert reason in expected, f"{one} was answered {reason}, not {expected}"
            if result.HasField("dataset") and not result.dataset.HasField("completed"):
                driven.add(result.dataset.id)
        return sorted(driven)

    def _good(self) -> list[tuple[sync_service_pb2.SyncRequest, set[str]]]:
        """Many that end at once, with some twice in the batch, and a few that many writers want."""
        company_id, connection_id = self.chance.choice(self.cluster.ending)
        items = [
            (
                sync_service_pb2.SyncRequest(
                    company_id=company_id, connection_id=connection_id, data_type=data_type
                ),
                {_ACCEPTED, _CONFLICT},
            )
            for data_type in self.chance.choices(_UNSUPPORTED, k=self.chance.randint(1, 200))
        ]
        company_id, connection_id = self.chance.choice(self.cluster.driven)
        for data_type in self.chance.sample(sorted(DATA_TYPES), k=10):
            attach = self.chance.random() < 0.8
            one = sync_service_pb2.SyncRequest(
                company_id=company_id,
                connection_id=connection_id,
                data_type=data_type,
                on_active=sync_service_pb2.ON_ACTIVE_ATTACH if attach else sync_service_pb2.ON_ACTIVE_REJECT,
            )
            items.append((one, {_ACCEPTED} if attach else {_ACCEPTED, _CONFLICT}))
        return items

    def _bad(self) -> list[tuple[sync_service_pb2.SyncRequest, set[str]]]:
        (company_id, connection_id), (_, of_another) = self.cluster.ending[:2]
        request = sync_service_pb2.SyncRequest
        return [
            (request(company_id=str(uuid.uuid4()), data_type="bills"), {"COMPANY_NOT_FOUND"}),
            (
                request(company_id=company_id, connection_id=of_another, data_type="bills"),
                {"CONNECTION_NOT_FOUND"},
            ),
            (request(company_id=company_id, data_type="nonsense"), {"DATA_TYPE_UNKNOWN"}),
            (request(company_id="acme", data_type="bills"), {"INVALID_FIELD"}),
            (
                request(
                    company_id=company_id,
                    connection_id=connection_id,
                    data_type="commerce-payments",
                    request_id=self.cluster.spent_request_id,
                ),
                {"REQUEST_ID_REUSED"},
            ),
        ]

    def _reports(
        self, connectors: connector_service_pb2_grpc.ConnectorServiceAsyncStub, driven: list[str]
    ) -> list[Awaitable[None]]:
        """At once, so that the service makes batches of them: good, illegal, doubled and unknown ones."""

        async def report(
            dataset_id: str, status: dataset_pb2.DatasetStatus.ValueType, expected: set[str]
        ) -> None:
            request = connector_service_pb2.ReportStatusRequest(dataset_id=dataset_id, to_status=status)
            await self._answered(connectors.ReportStatus(request, timeout=_CALL_SECONDS), expected)

        reported = driven[: self.chance.randint(0, 5)]
        return [
            report(str(uuid.uuid4()), dataset_pb2.DATASET_STATUS_FETCHING, {"DATASET_NOT_FOUND"}),
            *(report(one, dataset_pb2.DATASET_STATUS_FETCHING, _REPORTED) for one in reported),
            *(report(one, dataset_pb2.DATASET_STATUS_FETCHING, _REPORTED) for one in reported[:2]),
            # Nothing is ever PROCESSING here.
            *(report(one, dataset_pb2.DATASET_STATUS_COMPLETE, _REPORTED - {_ACCEPTED}) for one in reported),
            *(report(one, dataset_pb2.DATASET_STATUS_MAPPING, _REPORTED) for one in reported[2:]),
        ]

    async def _cancel(
        self, stub: sync_service_pb2_grpc.SyncServiceAsyncStub, dataset_id: str, *, unknown: bool = False
    ) -> None:
        request = sync_service_pb2.CancelSyncRequest(dataset_id=dataset_id)
        expected = {"DATASET_NOT_FOUND"} if unknown else {_ACCEPTED}
        await self._answered(stub.CancelSync(request, timeout=_CALL_SECONDS), expected)

    async def _answered(self, call: Awaitable[object], expected: set[str]) -> None:
        try:
            await call
            reason = _ACCEPTED
        except grpc.aio.AioRpcError as exc:
            reason = translate(exc).reason
            if reason not in expected:
                raise
        self.answers[reason] += 1
        assert reason in expected, f"answered {reason}, not {expected}"


def _reason(result: sync_service_pb2.BatchQueueSyncResult) -> str:
    if result.HasField("dataset"):
        return _ACCEPTED
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in result.error.details), result
    return info.reason
