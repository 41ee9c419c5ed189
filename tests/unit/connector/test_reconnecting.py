"""What a connector makes of streams that fail, before a service that fails as told."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from structlog.testing import capture_logs

from datastatus import bootstrap, errors
from datastatus.cli.process import first_cause
from datastatus.connector import runtime
from datastatus.connector.runtime import ConnectorRuntime
from datastatus.integrations.gnucash import GNUCASH
from datastatus.rpc import error_table
from datastatus.v1 import connector_pb2, connector_service_pb2_grpc, dataset_pb2


class FailingService(connector_service_pb2_grpc.ConnectorServiceServicer):
    """Ends each stream with the next of `failing`; keeps those that come after.

    `welcoming`: welcomes each before it ends it. `assigning`: and assigns a dataset, and hears a report on it.
    """

    def __init__(self) -> None:
        self.address = ""
        self.failing: list[grpc.StatusCode | status_pb2.Status] = []
        self.welcoming = self.assigning = False
        self.may_welcome = asyncio.Event()
        self.may_welcome.set()
        self.hellos: list[connector_pb2.ConnectorHello] = []
        self.asked, self.kept = asyncio.Event(), asyncio.Event()

    async def Connect(  # pyright: ignore[reportIncompatibleMethodOverride] (writes to the context)
        self, request_iterator: AsyncIterator[connector_pb2.ConnectRequest], context: Any
    ) -> None:
        self.hellos.append((await anext(request_iterator)).hello)
        self.asked.set()
        await self.may_welcome.wait()
        welcome = connector_pb2.ConnectorWelcome()
        welcome.heartbeat_interval.FromSeconds(60)
        welcome.lease_ttl.FromSeconds(180)
        if self.welcoming or not self.failing:
            await context.write(connector_pb2.ConnectResponse(welcome=welcome))
        if self.assigning and self.failing:
            assignment = connector_pb2.Assignment(dataset_id="d", lease=connector_pb2.Lease(token="t"))
            await context.write(connector_pb2.ConnectResponse(assignment=assignment))
            await anext(request_iterator)
        if self.failing:
            failure = self.failing.pop(0)
            if isinstance(failure, status_pb2.Status):
                await error_table.abort(context, failure)
            await context.abort(failure, "as told")
        self.kept.set()
        async for _ in request_iterator:
            pass


@pytest.fixture
async def service() -> AsyncIterator[FailingService]:
    service = FailingService()  # pyright: ignore[reportAbstractUsage] (the other methods are not called)
    server = grpc.aio.server()
    connector_service_pb2_grpc.add_ConnectorServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield service
    await server.stop(None)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_RECONNECT_SECONDS_MAX", 0.01)


def connector_of(
    service: FailingService, on_event: Callable[[str], None] = lambda text: None
) -> ConnectorRuntime:
    return ConnectorRuntime(
        GNUCASH,
        server=service.address,
        connector_name="test",
        connection_ids=("c",),
        on_event=on_event,
    )


@asynccontextmanager
async def online(
    service: FailingService, on_event: Callable[[str], None] = lambda text: None
) -> AsyncIterator[None]:
    """A connector whose stream is kept by the service, for the length of the `with`."""
    running = asyncio.create_task(connector_of(service, on_event).run())
    try:
        async with asyncio.timeout(30):
            kept = asyncio.create_task(service.kept.wait())
            await asyncio.wait([running, kept], return_when=asyncio.FIRST_COMPLETED)
            kept.cancel()
            assert not running.done(), running.exception()
            yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_warning_tells_once_that_coming_back_has_failed_several_times(
    service: FailingService,
) -> None:
    service.failing = [grpc.StatusCode.UNAVAILABLE] * 10
    with capture_logs() as logs:
        async with online(service):
            pass
    assert [(one["failures"], one["log_level"]) for one in logs if one["log_level"] != "info"] == [
        (8, "warning")
    ]
    assert logs[7]["details"] == "as told"


async def test_streams_that_were_online_for_long_are_no_failures_in_a_row(
    service: FailingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_STEADY_SECONDS", 0)
    service.failing = [grpc.StatusCode.UNAVAILABLE] * 10
    service.welcoming = True
    with capture_logs() as logs:
        async with online(service):
            pass
    assert [one["failures"] for one in logs] == [1] * 10


@pytest.mark.parametrize(
    "code",
    [
        *(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL),
        *(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED),
    ],
    ids=lambda code: code.name,
)
async def test_what_may_pass_is_waited_out(service: FailingService, code: grpc.StatusCode) -> None:
    service.failing = [code]
    async with online(service):
        pass


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (
            error_table.to_status(errors.ConnectorSilent("test", 180)),
            "the service ended the stream: no heartbeat for more than 180 s",
        ),
        (error_table.to_status(errors.StoreDown()), "the service cannot reach its database"),
        (error_table.to_status(errors.Draining()), "the service is shutting down"),
        (error_table.internal_status("c0ffee"), "the service failed; its log tells more under c0ffee"),
        (grpc.StatusCode.UNAVAILABLE, "the service cannot be reached (UNAVAILABLE)"),
    ],
    ids=["silent", "store down", "draining", "internal", "no reason"],
)
async def test_a_person_is_told_why_a_stream_has_ended(
    service: FailingService, failure: grpc.StatusCode | status_pb2.Status, told: str
) -> None:
    events: list[str] = []
    service.failing, service.welcoming = [failure], True
    async with online(service, events.append):
        pass
    assert events[1] == f"{told}; trying again"


async def test_a_refusal_ends_the_connector(service: FailingService) -> None:
    service.failing = [grpc.StatusCode.INVALID_ARGUMENT]
    with pytest.raises(ExceptionGroup):
        await connector_of(service).run()


async def test_a_refusal_of_a_connector_inside_the_service_is_logged_and_ends_no_service(
    service: FailingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_RESTART_SECONDS_MAX", 0.01)
    service.failing = [grpc.StatusCode.INVALID_ARGUMENT]
    with capture_logs() as logs:
        async with bootstrap._serving_sources([connector_of(service)]), asyncio.timeout(30):
            await service.kept.wait()
    assert [(one["event"], one["log_level"]) for one in logs] == [("connector_failed", "error")]
    assert "INVALID_ARGUMENT" in str(first_cause(logs[0]["exc_info"]))


async def test_a_connector_that_is_started_again_has_nothing_in_hand(
    service: FailingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_RESTART_SECONDS_MAX", 0.01)
    service.failing = [grpc.StatusCode.INVALID_ARGUMENT]
    service.welcoming = service.assigning = True
    async with bootstrap._serving_sources([connector_of(service)]), asyncio.timeout(30):
        await service.kept.wait()
    assert [len(hello.held_leases) for hello in service.hellos] == [0, 0]


async def test_a_stream_that_is_cut_leaves_nothing_behind(service: FailingService) -> None:
    loop = asyncio.get_running_loop()
    # What other tests have left is none of ours.
    gc.collect()
    await asyncio.sleep(0)
    problems: list[dict[str, Any]] = []
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    try:
        service.failing = [grpc.StatusCode.UNAVAILABLE] * 5
        service.welcoming = True
        async with online(service):
            # What nobody holds any more, and what its end begins.
            gc.collect()
            await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(handler)
    assert problems == []


async def test_a_drain_before_the_welcome_ends_with_it(service: FailingService) -> None:
    service.may_welcome.clear()
    connector = connector_of(service)
    running = asyncio.create_task(connector.run())
    async with asyncio.timeout(30):
        await service.asked.wait()
        await connector.drain(0)
        service.may_welcome.set()
        await running


class OneStream:
    """A service, and its stream: it says so much, and ends it."""

    def __init__(self, *said: connector_pb2.ConnectResponse) -> None:
        self._said = said

    def Connect(self, requests: object) -> OneStream:
        return self

    async def __aiter__(self) -> AsyncIterator[connector_pb2.ConnectResponse]:
        for one in self._said:
            yield one

    def cancel(self) -> None:
        pass


class EndlessFetcher:
    async def fetch(self, *_: object) -> None:
        await asyncio.Event().wait()


async def serve(connector: ConnectorRuntime, *said: connector_pb2.ConnectResponse) -> None:
    stream: Any = OneStream(*said)
    fetcher: Any = EndlessFetcher()
    async with asyncio.TaskGroup() as tasks:
        await connector._serve(tasks, stream, fetcher)
        for work in connector._work.values():
            work.cancel()


@pytest.mark.parametrize(("token", "left"), [("earlier", {"d": "t"}), ("t", {})])
async def test_a_revocation_takes_away_what_is_in_hand_under_its_lease_alone(
    service: FailingService, token: str, left: dict[str, str]
) -> None:
    connector = connector_of(service)
    assignment = connector_pb2.Assignment(dataset_id="d", lease=connector_pb2.Lease(token="t"))
    revoke = connector_pb2.Revocation(dataset_id="d", lease_token=token)
    await serve(
        connector,
        connector_pb2.ConnectResponse(assignment=assignment),
        connector_pb2.ConnectResponse(revoke=revoke),
    )
    assert connector._leases == left


async def test_what_the_stream_before_has_swallowed_is_reported_again(service: FailingService) -> None:
    connector = connector_of(service)
    report = connector_pb2.StatusReport(
        dataset_id="d", lease_token="t", to_status=dataset_pb2.DATASET_STATUS_MAPPING
    )
    connector._unanswered["d"] = report
    await serve(connector, connector_pb2.ConnectResponse(welcome=connector_pb2.ConnectorWelcome()))
    assert connector._reports.get_nowait() == report


async def test_a_drain_ends_a_stream_of_which_the_service_reads_nothing(service: FailingService) -> None:
    connector = connector_of(service)
    outgoing = connector._outgoing = asyncio.Queue(1)
    outgoing.put_nowait(connector_pb2.ConnectRequest())
    await connector.drain(0)
    assert outgoing.get_nowait() is None
