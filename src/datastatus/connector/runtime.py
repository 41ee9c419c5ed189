"""A connector: dials the service, takes assignments, reads its source, uploads, reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import structlog
from google.rpc import code_pb2

from datastatus import __version__, errors
from datastatus.channel import MAY_PASS, full_jitter, open_channel
from datastatus.connector.fetching import CredentialsOf, Fetcher
from datastatus.connector.presence import Presence
from datastatus.failed_calls import CallFailed, translate
from datastatus.integrations.base import Integration
from datastatus.v1 import connector_pb2, connector_service_pb2_grpc, dataset_pb2

_log = structlog.get_logger(__name__)

_RECONNECT_SECONDS_FIRST = 0.2
_RECONNECT_SECONDS_MAX = 10.0
# A stream that was online for so long makes good for the failures before it.
_STEADY_SECONDS = 10.0
# A restart of the service is over by then.
_FAILURES_UNTIL_WARNING = 8
# ABORTED: the service has not heard us for long, and gave our work to others.
_RECONNECT = (*MAY_PASS, grpc.StatusCode.ABORTED)
_REPORTS_MAX = 100

Item = TypeVar("Item")


class ConnectorRuntime:
    """One connector of one integration; `on_event` is told what a person at its terminal wants to see.

    `credentials_of` gives what a connection was authorised with. Only a connector inside the service has it: no
    API message carries credentials. Without `through_proxy` the environment's proxy is not used.

    Work in hand survives a broken stream: uploads and reports are sent again on the next one while the lease
    lasts.
    """

    def __init__(
        self,
        integration: Integration[Any],
        *,
        server: str,
        connector_name: str,
        integration_keys: Sequence[str] = (),
        connection_ids: Sequence[str] = (),
        capacity: int = 4,
        options: Mapping[str, str] | None = None,
        credentials_of: CredentialsOf | None = None,
        through_proxy: bool = True,
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._integration = integration
        self._server = server
        self._through_proxy = through_proxy
        self._hello = connector_pb2.ConnectorHello(
            connector_name=connector_name,
            version=__version__,
            integration_keys=integration_keys,
            connection_ids=connection_ids,
            capacity=capacity,
            max_batch_assignments=capacity,
            readable_integration_keys=(integration.info.key,),
        )
        self._options = dict(options or {})
        self._credentials_of = credentials_of
        self._on_event = on_event
        self._work: dict[str, asyncio.Task[None]] = {}
        self._leases: dict[str, str] = {}
        self._reports: asyncio.Queue[connector_pb2.StatusReport] = asyncio.Queue()
        # Final reports that the service has not answered: a broken stream may have swallowed them.
        self._unanswered: dict[str, connector_pb2.StatusReport] = {}
        # What goes out on the present stream; None ends it.
        self._outgoing: asyncio.Queue[connector_pb2.ConnectRequest | None] | None = None
        self._presence = Presence()
        # Of the last stream that was welcomed.
        self._lease_seconds = 0.0
        self._draining = False
        self._leaving = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def name(self) -> str:
        """What it is called in the service."""
        return self._hello.connector_name

    async def run(self) -> None:
        """Serve until cancelled or drained; reconnects by itself.

        Raises an ExceptionGroup of the grpc.aio.AioRpcError where the service refuses us.
        """
        failures = 0
        async with (
            asyncio.TaskGroup() as tasks,
            open_channel(self._server, through_proxy=self._through_proxy) as channel,
        ):
            stub = connector_service_pb2_grpc.ConnectorServiceStub(channel)
            fetcher = Fetcher(
                self._integration,
                self._options,
                self._credentials_of,
                stub,
                report=self._reports.put,
                presence=self._presence,
            )
            try:
                while not self._leaving:
                    try:
                        await self._serve(tasks, stub, fetcher)
                        failures = 0
                    except grpc.aio.AioRpcError as exc:
                        if exc.code() not in _RECONNECT:
                            raise
                        was_steady = self._presence.online_seconds > _STEADY_SECONDS
                        failures = 1 if was_steady else failures + 1
                        failure = translate(exc)
                        self._on_event(f"{self._told(failure)}; trying again")
                        log = _log.warning if failures == _FAILURES_UNTIL_WARNING else _log.info
                        log(
                            "connector_reconnects",
                            connector=self.name,
                            server=self._server,
                            failures=failures,
                            code=exc.code().name,
                            reason=failure.reason,
                            details=exc.details(),
                        )
                    if not self._leaving:
                        await asyncio.sleep(
                            full_jitter(failures, _RECONNECT_SECONDS_FIRST, _RECONNECT_SECONDS_MAX)
                        )
            finally:
                # Who runs it again begins with nothing in hand: what is left goes on elsewhere.
                for dataset_id in list(self._leases):
                    self._drop(dataset_id)
                while not self._reports.empty():
                    self._reports.get_nowait()

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing more, finish what is in hand where that takes no longer, and have `run` return.

        What is left is given back to the service.
        """
        self._draining = True
        try:
            async with asyncio.timeout(grace_seconds):
                if self._outgoing is not None:
                    # It waits where the service reads nothing.
                    await self._outgoing.put(_DRAINING)
                await self._idle.wait()
        except TimeoutError:
            _log.warning("connector_leaves_work", datasets=len(self._leases))
        self._leaving = True
        for work in self._work.values():
            work.cancel()
        if self._outgoing is not None:
            try:
                self._outgoing.put_nowait(None)
            except asyncio.QueueFull:
                # The service reads nothing: what waits to be told is told by whoever has it next.
                _end(self._outgoing)

    async def _serve(
        self,
        tasks: asyncio.TaskGroup,
        stub: connector_service_pb2_grpc.ConnectorServiceAsyncStub,
        fetcher: Fetcher,
    ) -> None:
        """One stream, until it ends."""
        outgoing: asyncio.Queue[connector_pb2.ConnectRequest | None] = asyncio.Queue(64)
        hello = connector_pb2.ConnectorHello()
        hello.CopyFrom(self._hello)
        for dataset_id, token in self._leases.items():
            hello.held_leases.add(dataset_id=dataset_id, lease_token=token)
        await outgoing.put(connector_pb2.ConnectRequest(hello=hello))
        call = stub.Connect(_until_none(outgoing))
        senders: list[asyncio.Task[None]] = []
        try:
            async for response in call:
                match response.WhichOneof("message"):
                    case "welcome":
                        senders += await self._come_online(tasks, outgoing, response.welcome)
                    case "assignment" | "assignment_batch":
                        # An older service sends each by itself all the same.
                        self._take(
                            tasks, fetcher, response.assignment_batch.assignments or [response.assignment]
                        )
                    case "revoke" if (
                        self._leases.get(response.revoke.dataset_id) == response.revoke.lease_token
                    ):
                        self._drop(response.revoke.dataset_id)
                    case "report_results":
                        for result in response.report_results.results:
                            self._settle(result)
                    case "closing":
                        await asyncio.sleep(response.closing.retry_after.ToTimedelta().total_seconds())
        finally:
            self._outgoing = None
            self._presence.went_offline()
            for sender in senders:
                sender.cancel()
            # The requests of a call that was cut off would be waited for until it is collected as garbage.
            _end(outgoing)
            call.cancel()

    def _told(self, failure: errors.DatastatusError) -> str:
        """Why a stream has ended, for a person who sees the connector only."""
        match failure:
            case errors.ConnectorSilent():
                return f"the service ended the stream: no heartbeat for more than {self._lease_seconds:g} s"
            case errors.StoreDown():
                return "the service cannot reach its database"
            case errors.Draining():
                return "the service is shutting down"
            case CallFailed(metadata={"correlation_id": correlation_id}):
                return f"the service failed; its log tells more under {correlation_id}"
            case CallFailed():
                return f"the service cannot be reached ({failure.code.name})"
            case _:
                return f"the service ended the stream: {failure}"

    async def _come_online(
        self,
        tasks: asyncio.TaskGroup,
        outgoing: asyncio.Queue[connector_pb2.ConnectRequest | None],
        welcome: connector_pb2.ConnectorWelcome,
    ) -> list[asyncio.Task[None]]:
        """Send heartbeats and reports from now on: the tasks that do."""
        senders = [
            tasks.create_task(_beat(outgoing, welcome.heartbeat_interval.ToTimedelta().total_seconds())),
            tasks.create_task(self._send_reports(outgoing)),
        ]
        for report in self._unanswered.values():
            await self._reports.put(report)
        self._outgoing = outgoing
        self._lease_seconds = welcome.lease_ttl.ToTimedelta().total_seconds()
        self._presence.came_online()
        if self._leaving:
            # `drain` has come to its end before there was a stream to end.
            _end(outgoing)
        elif self._draining:
            await outgoing.put(_DRAINING)
        self._on_event(f"online at {self._server}")
        return senders

    async def _send_reports(self, outgoing: asyncio.Queue[connector_pb2.ConnectRequest | None]) -> None:
        """Reports gather while one message is on its way, so many go in one."""
        while True:
            reports = [await self._reports.get()]
            while not self._reports.empty() and len(reports) < _REPORTS_MAX:
                reports.append(self._reports.get_nowait())
            message = connector_pb2.ConnectorReports(reports=reports)
            await outgoing.put(connector_pb2.ConnectRequest(reports=message))

    def _take(
        self, tasks: asyncio.TaskGroup, fetcher: Fetcher, assignments: Iterable[connector_pb2.Assignment]
    ) -> None:
        for assignment in assignments:
            # It may have been ours before, under a lease that is lost by now.
            self._drop(assignment.dataset_id)
            self._leases[assignment.dataset_id] = assignment.lease.token
            self._idle.clear()
            self._work[assignment.dataset_id] = tasks.create_task(self._fetch(fetcher, assignment))
            self._on_event(f"fetching {assignment.data_type}")

    def _drop(self, dataset_id: str) -> None:
        self._leases.pop(dataset_id, None)
        self._unanswered.pop(dataset_id, None)
        work = self._work.pop(dataset_id, None)
        if work is not None:
            work.cancel()
        if not self._leases:
            self._idle.set()

    def _settle(self, result: connector_pb2.ReportResult) -> None:
        if self._leases.get(result.dataset_id) != result.lease_token:
            # Of a lease that is lost: what we have under another one goes on.
            return
        if result.HasField("error"):
            self._refused(result)
        elif result.status not in (
            dataset_pb2.DATASET_STATUS_UNSPECIFIED,
            dataset_pb2.DATASET_STATUS_FETCHING,
        ):
            self._drop(result.dataset_id)

    def _refused(self, result: connector_pb2.ReportResult) -> None:
        """Drop what is lost. Give back what is not: as long as we are online our lease never runs out."""
        _log.warning("report_refused", dataset_id=result.dataset_id, message=result.error.message)
        last = self._unanswered.get(result.dataset_id)
        if result.error.code == code_pb2.ABORTED:
            self._drop(result.dataset_id)
            return
        if last is None or result.error.code == code_pb2.UNAVAILABLE:
            # Of mere progress: the last report is still to come. Or nobody could decide it: the service ends this
            # stream, and on the next one it is made again.
            return
        if last.to_status == dataset_pb2.DATASET_STATUS_QUEUED:
            # Nothing is left to say of it.
            self._drop(result.dataset_id)
            return
        report = connector_pb2.StatusReport(
            dataset_id=result.dataset_id,
            lease_token=result.lease_token,
            to_status=dataset_pb2.DATASET_STATUS_QUEUED,
            error_message=f"The service refused its connector's report: {result.error.message}",
        )
        self._unanswered[result.dataset_id] = report
        self._reports.put_nowait(report)

    async def _fetch(self, fetcher: Fetcher, assignment: connector_pb2.Assignment) -> None:
        def is_given_up() -> bool:
            return self._leaving or self._leases.get(assignment.dataset_id) != assignment.lease.token

        report = await fetcher.fetch(assignment, is_given_up)
        if is_given_up():
            # Its source has made something else of that.
            return
        if report.HasField("error_message"):
            self._on_event(f"{assignment.data_type}: {report.error_message}")
        else:
            self._on_event(f"fetched {report.records_fetched} {assignment.data_type}")
        self._unanswered[assignment.dataset_id] = report
        await self._reports.put(report)


_DRAINING = connector_pb2.ConnectRequest(draining=connector_pb2.ConnectorDraining())


async def _beat(outgoing: asyncio.Queue[connector_pb2.ConnectRequest | None], seconds: float) -> None:
    while True:
        due = time.monotonic() + seconds
        await asyncio.sleep(seconds)
        late_seconds = time.monotonic() - due
        if late_seconds > seconds:
            _log.warning(
                "heartbeat_late",
                late_seconds=round(late_seconds, 1),
                hint="an integration has blocked the event loop, or the machine stood still; what blocks belongs "
                "into asyncio.to_thread",
            )
        await outgoing.put(connector_pb2.ConnectRequest(heartbeat=connector_pb2.ConnectorHeartbeat()))


def _end(queue: asyncio.Queue[Item | None]) -> None:
    """Have `_until_none` end, with nothing more."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


async def _until_none(queue: asyncio.Queue[Item | None]) -> AsyncIterator[Item]:
    while (item := await queue.get()) is not None:
        yield item
