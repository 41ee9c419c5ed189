"""The service's side of connectors: who is online, what they may claim, what they report."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import structlog

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus, Transition
from datastatus.domain.fetching import FetchScope, modified_since
from datastatus.domain.settings import SyncSetting
from datastatus.engine.connector_session import (
    ConnectorSession,
    Hello,
    Revocation,
    RevokeReason,
)
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Answer, Report, Reporter
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import Registry, find_integration
from datastatus.store import companies, datasets, settings, staging
from datastatus.store.database import Database
from datastatus.store.datasets import Assignment, ProgressReport
from datastatus.store.ids import new_token
from datastatus.store.journal import Change, ChangeOutcome, Grant
from datastatus.tasks import is_set_within

_log = structlog.get_logger(__name__)

# Datasets queued through other servers are heard of at once; this is for what slips through, such as a lease
# that ran out while nobody was online.
_CLAIM_AGAIN_SECONDS = 5.0
# Within this time a connector that is sent elsewhere dials again.
_RETRY_AFTER_SECONDS = (0.1, 2.0)
# Of how many connections it is remembered whose they are; past that it is asked anew.
_KNOWN_CONNECTIONS_MAX = 50_000


class ConnectorHub:
    """All connectors whose streams end in this process."""

    def __init__(
        self,
        database: Database,
        writer: JournalWriter,
        hub: WatchHub,
        reporter: Reporter,
        progress: ProgressBoard,
        registry: Registry,
        lease_seconds: float,
    ) -> None:
        self._database = database
        self._writer = writer
        self._hub = hub
        self._reporter = reporter
        self._progress = progress
        self._registry = registry
        self.lease_seconds = lease_seconds
        self._sessions: set[ConnectorSession] = set()
        # The integration of a connection, which never changes.
        self._integration_keys: dict[UUID, str] = {}

    @property
    def heartbeat_seconds(self) -> float:
        """How often a connector must be heard: three times within a lease."""
        return self.lease_seconds / 3

    async def run(self) -> None:
        """Tell sessions of new work and of work to drop, until cancelled."""
        await self._hub.opened()
        with self._hub.subscribed(None) as subscription:
            seq = self._hub.head_seq
            while True:
                await subscription.wait(_CLAIM_AGAIN_SECONDS)
                # Whoever has queued something is answered first.
                await asyncio.sleep(0)
                try:
                    while seq < self._hub.head_seq:
                        entries, through_seq = await self._hub.read(subscription, seq, 1000)
                        await self._notice([entry.transition for entry in entries])
                        seq = through_seq
                except errors.ResumeExpired:
                    seq = self._hub.head_seq
                except errors.StoreDown as exc:
                    _log.warning("connectors_wait_for_store", cause=repr(exc.__cause__))
                seq = min(seq, self._hub.head_seq)

    def drain(self) -> None:
        """Send every connector elsewhere; its leases stay."""
        for session in self._sessions:
            session.close(_retry_after())

    @asynccontextmanager
    async def session(self, hello: Hello) -> AsyncIterator[ConnectorSession]:
        """A connector's stream while it is open.

        Raises IntegrationNotFound, ConnectionNotFound, InvalidFields, Draining; and ConnectorSilent into the
        `with`, where the connector is not heard any more.
        """
        if self._hub.draining:
            raise errors.Draining
        await self._check(hello)
        session = ConnectorSession(hello)
        await companies.open_connector_session(self._database, _row(session), self.lease_seconds)
        log = _log.bind(connector=hello.connector_name, session_id=str(session.id))
        log.info("connector_online", address=hello.address)
        try:
            await self._adopt(session)
            self._sessions.add(session)
            if self._hub.draining:
                # Since it was let in.
                session.close(_retry_after())
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._claim_until_cancelled(session)),
                    tasks.create_task(self._end_when_silent(session)),
                ]
                try:
                    yield session
                finally:
                    for one in running:
                        one.cancel()
        finally:
            self._sessions.discard(session)
            log.info("connector_offline", in_hand=len(session.in_hand))
            await companies.close_connector_session(self._database, session.id)
            if session.draining:
                await self._give_back(session)

    async def drain_session(self, session: ConnectorSession) -> None:
        """The connector is about to leave: it gets nothing new."""
        session.draining = True
        session.hear()
        await companies.drain_connector_session(self._database, session.id)

    async def heartbeat(self, session: ConnectorSession, being_reported: Container[UUID]) -> None:
        """The connector is alive: renew its presence and its leases; revoke what it has lost.

        What is `being_reported` is told of with the result, whether it is lost or has just been completed.
        """
        session.hear()
        if not await companies.renew_connector_session(self._database, session.id, self.lease_seconds):
            # Forgotten: it was silent for an hour by the store's clock, which somebody has moved.
            await companies.open_connector_session(self._database, _row(session), self.lease_seconds)
        held = [(one.dataset_id, one.lease_token) for one in session.in_hand.values()]
        if held:
            renewed = await datasets.renew_leases(self._database, held, self.lease_seconds)
            lost = [lease for lease in held if lease[0] not in renewed and lease[0] not in being_reported]
            if lost:
                await self._revoke_lost(session, lost)

    async def _revoke_lost(self, session: ConnectorSession, lost: Sequence[tuple[UUID, UUID]]) -> None:
        """A cancel may be found out here before its transition is heard of."""
        found = await datasets.datasets_by_id(self._database, [dataset_id for dataset_id, _ in lost])
        for dataset_id, lease_token in lost:
            is_cancelled = dataset_id in found and found[dataset_id].status is DatasetStatus.CANCELLED
            reason = RevokeReason.CANCELLED if is_cancelled else RevokeReason.LEASE_LOST
            session.revoke(dataset_id, reason, lease_token)

    async def report(self, session: ConnectorSession, reports: Sequence[Report]) -> list[Answer]:
        """One answer a report, in order."""
        session.hear()
        assignments = [session.in_hand.get(report.dataset_id) for report in reports]
        answers = await self._reporter.report(reports, assignments)
        for report, assignment, answer in zip(reports, assignments, answers, strict=True):
            match answer:
                case DatasetStatus() if assignment and not self._reporter.stays(assignment, answer):
                    session.drop(report.dataset_id, report.lease_token)
                case errors.LeaseLost():
                    session.drop(report.dataset_id, report.lease_token)
                case errors.StoreDown():
                    # Whoever dials again reports it again. Of whoever does not, the lease runs out.
                    session.close(_retry_after())
                case _:
                    pass
        return answers

    async def stage_page(
        self, dataset_id: UUID, lease_token: UUID, page: int, raw_records: Sequence[bytes]
    ) -> tuple[int, int]:
        """Stage one page under a lease; (pages, records) of the attempt so far. Raises LeaseLost."""
        pages, staged = await staging.stage_page(self._database, dataset_id, lease_token, page, raw_records)
        self._progress.note(ProgressReport(dataset_id, lease_token, fetched=staged))
        return pages, staged

    async def _check(self, hello: Hello) -> None:
        for key in hello.integration_keys:
            find_integration(self._registry, key)
        found = await companies.connections_by_id(self._database, hello.connection_ids)
        if missing := sorted(hello.connection_ids - found.keys()):
            raise errors.ConnectionNotFound(str(missing[0]))
        # Before anything is claimed: what cannot be read would spend its attempts, or worse, its credentials.
        for one in found.values():
            key = one.integration_key
            find_integration(self._registry, key)
            if hello.readable_integration_keys and key not in hello.readable_integration_keys:
                readable = ", ".join(sorted(hello.readable_integration_keys))
                problem = f"must be connections of {readable}, and {one.id} is one of {key}"
                raise errors.InvalidFields.of("hello.connection_ids", problem)

    async def _adopt(self, session: ConnectorSession) -> None:
        """Go on with what the connector still holds from an earlier stream; revoke the rest."""
        held = dict(session.hello.held_leases)
        if not held:
            return
        renewed = await datasets.adopt_leases(
            self._database, list(held.items()), self.lease_seconds, session.id
        )
        for assignment in await self._assignments(renewed):
            if held[assignment.dataset_id] == assignment.lease_token:
                session.in_hand[assignment.dataset_id] = assignment
        for dataset_id in held.keys() - session.in_hand.keys():
            session.outbox.put_nowait(Revocation(dataset_id, held[dataset_id], RevokeReason.LEASE_LOST))

    async def _notice(self, transitions: Collection[Transition]) -> None:
        if not self._sessions:
            # Whoever comes looks for what there is.
            return
        for transition in transitions:
            if transition.to_status is DatasetStatus.CANCELLED:
                for session in self._sessions:
                    session.revoke(transition.dataset_id, RevokeReason.CANCELLED)
        queued_on = {one.connection_id for one in transitions if one.to_status is DatasetStatus.QUEUED}
        queued_under = await self._integrations_of(queued_on)
        for session in self._sessions:
            hello = session.hello
            if not (
                hello.connection_ids.isdisjoint(queued_on) and hello.integration_keys.isdisjoint(queued_under)
            ):
                session.wake.set()

    async def _integrations_of(self, connection_ids: set[UUID]) -> set[str]:
        """The integrations of these connections, except of those that were deleted meanwhile."""
        known = self._integration_keys
        # Not `-`, which looks at each of those known.
        if unknown := connection_ids.difference(known):
            if len(known) > _KNOWN_CONNECTIONS_MAX:
                known.clear()
                unknown = connection_ids
            found = await companies.connections_by_id(self._database, unknown)
            known.update({one.id: one.integration_key for one in found.values()})
        return {known[one] for one in connection_ids if one in known}

    async def _claim_until_cancelled(self, session: ConnectorSession) -> None:
        while True:
            try:
                while await self._claim(session):
                    pass
                await is_set_within(session.wake, _CLAIM_AGAIN_SECONDS)
            except errors.Unavailable as exc:
                _log.warning("claiming_waits_for_store", cause=repr(exc.__cause__))
                await asyncio.sleep(1)
            session.wake.clear()

    async def _claim(self, session: ConnectorSession) -> bool:
        """Claim as much as there is room for; whether it is worth looking again at once."""
        if session.room <= 0:
            return False
        candidates = await datasets.claimable_datasets(
            self._database,
            session.hello.integration_keys,
            session.hello.connection_ids,
            barred_companies=session.full_companies(),
            after_company=session.last_company,
            count_max=session.room,
        )
        chosen = session.choose(candidates)
        if not chosen:
            return False
        results = await self._writer.change(
            [
                Change(
                    dataset_id,
                    DatasetStatus.FETCHING,
                    grant=Grant(new_token(), session.id, self.lease_seconds),
                )
                for dataset_id in chosen
            ]
        )
        # Those that another connector was quicker to claim drop out here.
        won = [
            dataset_id
            for dataset_id, result in zip(chosen, results, strict=True)
            if result.outcome is ChangeOutcome.DONE
        ]
        if won:
            session.take(await self._assignments(won))
        return True

    async def _end_when_silent(self, session: ConnectorSession) -> None:
        while True:
            await asyncio.sleep(self.heartbeat_seconds)
            if session.miss_beat():
                raise errors.ConnectorSilent(session.hello.connector_name, self.lease_seconds)

    async def _give_back(self, session: ConnectorSession) -> None:
        """What a connector has left unfinished is anybody's at once, without waiting for its leases to run out."""
        left = await datasets.leases_of(self._database, session.id)
        if left:
            await self._writer.change(
                [
                    Change(
                        dataset_id,
                        DatasetStatus.QUEUED,
                        held_token=token,
                        description="Its connector has left and given it back.",
                    )
                    for dataset_id, token in left
                ]
            )

    async def _assignments(self, dataset_ids: Collection[UUID]) -> list[Assignment]:
        """What is claimed, in order, each with how much of it to fetch."""
        found = {one.dataset_id: one for one in await datasets.claimed_datasets(self._database, dataset_ids)}
        claimed = [found[dataset_id] for dataset_id in dataset_ids if dataset_id in found]
        in_force = await settings.settings_of_companies(self._database, {one.company_id for one in claimed})
        return [
            replace(one, scope=self._scope(one, in_force[one.company_id][one.data_type])) for one in claimed
        ]

    def _scope(self, assignment: Assignment, setting: SyncSetting) -> FetchScope:
        # By the store's clock, which is everybody's.
        now = assignment.history.now
        assert now is not None
        scope = setting.scope(now.date())
        incremental = find_integration(self._registry, assignment.integration_key).info.incremental
        if assignment.data_type not in incremental:
            return scope
        return replace(scope, modified_since=modified_since(assignment.history, scope.sync_from))


def _retry_after() -> timedelta:
    return timedelta(seconds=random.uniform(*_RETRY_AFTER_SECONDS))


def _row(session: ConnectorSession) -> companies.ConnectorSessionRow:
    hello = session.hello
    return companies.ConnectorSessionRow(
        session.id,
        hello.connector_name,
        hello.version,
        hello.address,
        hello.integration_keys,
        hello.connection_ids,
        hello.capacity,
        hello.company_capacity,
    )
