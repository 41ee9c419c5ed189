"""Random operations of several clients at once, against a model that knows only the domain's table.

Every batch mixes items that are fine with illegal, repeated, unknown and conflicting ones. After each step the
results are replayed, in the order of the `seq` that they were given, into a model; the store must agree with it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.data_status import roll_up
from datastatus.domain.dataset import Dataset, DatasetStatus, Trigger, is_legal
from datastatus.store import companies, datasets, journal
from datastatus.store.journal import Change, ChangeOutcome, Grant, QueueItem, QueueOutcome
from postgres import PostgresServer
from stores import PIPELINE, Link, Store, an_item, claim, fresh_store, violations

CLIENTS = 4
CONNECTIONS = 3
DATA_TYPES = ("bills", "invoices")

seeds = st.integers(0, 2**32)


class StatusMachine(RuleBasedStateMachine):
    """One store, a few connections, and clients that do not know of each other."""

    runner: asyncio.Runner
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.links = [self.run(self.store.connection()) for _ in range(CONNECTIONS)]
        self.tokens: dict[UUID, UUID] = {}
        self.requests: list[QueueItem] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @property
    def known(self) -> list[UUID]:
        return list(self.tokens)

    @initialize()
    def end_in_every_way(self) -> None:
        """What follows is tried on data types that have succeeded, failed, been refused and been cancelled."""
        first, second, third = self.links
        unsupported = an_item(first, "invoices", supported=False)
        self.run(journal.queue_datasets(self.store.database, [unsupported]))
        complete, cancelled, refused = (
            self.run(self.store.queued(link, "bills")) for link in (first, second, third)
        )
        for dataset_id in (unsupported.dataset_id, complete, cancelled, refused):
            self.tokens[dataset_id] = UUID(int=0)
        self.tokens[complete] = self.run(self.store.bring_to(complete, DatasetStatus.COMPLETE))
        self.run(self.store.change(Change(cancelled, DatasetStatus.CANCELLED)))
        self.run(
            journal.deauthorize_connection(self.store.database, Change(refused, DatasetStatus.AUTH_ERROR))
        )
        self.run(self.store.link(third.connection_id))
        reached = self.run(datasets.datasets_by_id(self.store.database, self.known))
        assert {one.status for one in reached.values()} == {
            DatasetStatus.NOT_SUPPORTED,
            DatasetStatus.COMPLETE,
            DatasetStatus.CANCELLED,
            DatasetStatus.AUTH_ERROR,
        }

    @rule(seed=seeds)
    def queue(self, seed: int) -> None:
        chance = random.Random(seed)
        batches = [[self.a_queue_item(chance) for _ in range(chance.randint(1, 8))] for _ in range(CLIENTS)]
        for one in (item for batch in batches for item in batch):
            self.tokens[one.dataset_id] = UUID(int=0)
        results = self.run(together(journal.queue_datasets(self.store.database, batch) for batch in batches))
        for batch, answers in zip(batches, results, strict=True):
            for item, answer in zip(batch, answers, strict=True):
                self.check_queued(item, answer)

    def a_queue_item(self, chance: random.Random) -> QueueItem:
        if self.requests and chance.random() < 0.2:
            # The same request again, or another one under its id.
            before = chance.choice(self.requests)
            link = Link(before.company_id, before.connection_id)
            return an_item(
                link,
                before.data_type,
                caller="a",
                request_id=before.request_id,
                fingerprint=chance.choice([before.fingerprint, b"another"]),
            )
        link = chance.choice(self.links)
        if chance.random() < 0.1:
            link = Link(link.company_id, uuid7())
        item = an_item(
            link,
            chance.choice(DATA_TYPES),
            attach=chance.random() < 0.3,
            supported=chance.random() < 0.8,
            caller="a",
            request_id=uuid7() if chance.random() < 0.5 else None,
            fingerprint=b"x",
        )
        if item.request_id is not None:
            self.requests.append(item)
        return item

    def check_queued(self, item: QueueItem, answer: journal.QueueResult) -> None:
        if answer.outcome is QueueOutcome.QUEUED:
            assert answer.dataset_id == item.dataset_id
        else:
            del self.tokens[item.dataset_id]
        if answer.outcome in (QueueOutcome.ATTACHED, QueueOutcome.REPLAYED, QueueOutcome.ACTIVE):
            # Whoever is pointed at a dataset finds it: it was not taken back.
            assert answer.dataset_id is not None
            assert self.run(datasets.datasets_by_id(self.store.database, [answer.dataset_id]))

    @rule(seed=seeds)
    def change(self, seed: int) -> None:
        chance = random.Random(seed)
        batches = [[self.a_change(chance) for _ in range(chance.randint(1, 10))] for _ in range(CLIENTS)]
        results = self.run(together(self.store.change(*batch) for batch in batches))
        for batch, answers in zip(batches, results, strict=True):
            for change, answer in zip(batch, answers, strict=True):
                if answer.outcome is ChangeOutcome.UNKNOWN:
                    assert change.dataset_id not in self.tokens
                elif answer.outcome is ChangeOutcome.ILLEGAL:
                    assert answer.status is not None
                    assert not is_legal(answer.status, change.to_status)
                elif answer.outcome is ChangeOutcome.DONE and change.grant:
                    self.tokens[change.dataset_id] = change.grant.token

    def a_change(self, chance: random.Random) -> Change:
        if not self.tokens or chance.random() < 0.1:
            return Change(uuid7(), DatasetStatus.CANCELLED)
        dataset_id = chance.choice(self.known)
        to_status = chance.choice([*DatasetStatus, DatasetStatus.FETCHING, DatasetStatus.MAPPING])
        token = self.tokens[dataset_id] if chance.random() < 0.8 else uuid7()
        if to_status is DatasetStatus.FETCHING:
            return Change(dataset_id, to_status, grant=Grant(uuid7(), uuid7(), chance.choice([-1, 60])))
        return Change(
            dataset_id,
            to_status,
            held_token=None if to_status in (DatasetStatus.CANCELLED, DatasetStatus.QUEUED) else token,
            only_expired=to_status is DatasetStatus.QUEUED,
            error_message="it failed" if to_status.may_have_error else None,
        )

    @rule(seed=seeds, contested=st.booleans())
    def advance(self, seed: int, contested: bool) -> None:
        """Work as workers do, each active dataset to its end; contested, one is cancelled at each step."""
        chance = random.Random(seed)
        for _ in PIPELINE:
            found = self.run(datasets.datasets_by_id(self.store.database, self.known))
            steps = [self.a_step(one) for one in found.values() if not one.status.is_terminal]
            rivals = (
                [Change(chance.choice(steps).dataset_id, DatasetStatus.CANCELLED)]
                if steps and contested
                else []
            )
            self.run(together(self.store.change(*changes) for changes in (steps, rivals) if changes))

    def a_step(self, dataset: Dataset) -> Change:
        if dataset.status is DatasetStatus.QUEUED:
            token = self.tokens[dataset.id] = uuid7()
            return claim(dataset.id, token)
        following = PIPELINE[PIPELINE.index(dataset.status) + 1]
        return Change(dataset.id, following, held_token=self.tokens[dataset.id])

    @rule(seed=seeds)
    def refuse_a_connection(self, seed: int) -> None:
        chance = random.Random(seed)
        if self.tokens:
            dataset_id = chance.choice(self.known)
            refused = Change(dataset_id, DatasetStatus.AUTH_ERROR, held_token=self.tokens[dataset_id])
            items = [self.a_queue_item(chance) for _ in range(5)]
            for one in items:
                self.tokens[one.dataset_id] = UUID(int=0)
            _, answers = self.run(
                together(
                    (
                        journal.deauthorize_connection(self.store.database, refused),
                        journal.queue_datasets(self.store.database, items),
                    )
                )
            )
            for item, answer in zip(items, answers, strict=True):
                self.check_queued(item, answer)

    @rule(seed=seeds)
    def unlink_or_link(self, seed: int) -> None:
        chance = random.Random(seed)
        link = chance.choice(self.links)
        connection = self.run(companies.get_connection(self.store.database, link.connection_id))
        first = [(uuid7(), data_type, 1) for data_type in DATA_TYPES]
        _, queued = self.run(
            together(
                (
                    companies.unlink_connection(
                        self.store.database, link.connection_id, delete=False, description="Unlinked."
                    ),
                    companies.link_connection(self.store.database, connection, Trigger.RELINK, first),
                )
            )
        )
        for dataset_id in queued or ():
            self.tokens[dataset_id] = UUID(int=0)
        connection = self.run(companies.get_connection(self.store.database, link.connection_id))
        if connection.status != "LINKED":
            self.run(self.store.link(link.connection_id))

    @rule(seed=seeds)
    def lose_a_backend(self, seed: int) -> None:
        """A call whose connection is ended somewhere on its way: nobody knows whether it was carried out."""
        chance = random.Random(seed)
        changes = [self.a_change(chance) for _ in range(10)]

        async def attempt() -> None:
            call = asyncio.create_task(self.store.change(*changes))
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            await self.store.sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()"
            )
            await asyncio.gather(call, return_exceptions=True)
            assert call.exception() is None or isinstance(call.exception(), errors.StoreDown)
            while not await self.is_up():
                pass

        self.run(attempt())
        for change in changes:
            if change.grant and change.dataset_id in self.tokens:
                # Perhaps it was granted: the store itself knows.
                for held in self.run(datasets.claimed_datasets(self.store.database, [change.dataset_id])):
                    self.tokens[change.dataset_id] = held.lease_token

    async def is_up(self) -> bool:
        """False while the pool has not noticed yet that it lost a connection."""
        try:
            await self.store.head_seq()
        except errors.StoreDown:
            return False
        return True

    @invariant()
    def the_store_breaks_no_rule(self) -> None:
        assert self.run(violations(self.store.sql)) == {}

    @invariant()
    def the_journal_leads_to_the_present(self) -> None:
        status: dict[UUID, DatasetStatus] = {}
        for one in self.run(self.store.transitions()):
            if one.from_status is None:
                assert one.dataset_id not in status
            else:
                assert status[one.dataset_id] is one.from_status
                assert is_legal(one.from_status, one.to_status)
            status[one.dataset_id] = one.to_status
        present = self.run(datasets.datasets_by_id(self.store.database, status))
        assert {one.id: one.status for one in present.values()} == status

    @invariant()
    def the_data_status_is_that_of_the_last_datasets(self) -> None:
        transitions = self.run(self.store.transitions())
        for link in self.links:
            own = [one for one in transitions if one.connection_id == link.connection_id]
            found = self.run(datasets.data_status_pointers(self.store.database, [link.company_id]))
            told = roll_up(
                DATA_TYPES, [pointer for one in found[link.company_id] for pointer in one.pointers]
            )
            for data_type in DATA_TYPES:
                of_type = [one for one in own if one.data_type == data_type]
                queued = [one.dataset_id for one in of_type if one.from_status is None]
                complete = [one for one in of_type if one.to_status is DatasetStatus.COMPLETE]
                latest = [one.to_status for one in of_type if queued and one.dataset_id == queued[-1]]
                assert told[data_type].latest_sync_id == (queued[-1] if queued else None)
                assert told[data_type].current_status == (latest[-1] if latest else None)
                assert told[data_type].latest_successful_sync_id == (
                    complete[-1].dataset_id if complete else None
                )
                assert told[data_type].last_successful_sync == (complete[-1].occurred if complete else None)


async def together(calls) -> list[Any]:
    return await asyncio.gather(*calls)


def test_random_operations_of_several_clients(server: PostgresServer, template: str) -> None:
    with asyncio.Runner() as runner:
        opened = fresh_store(server, template)
        store = runner.run(opened.__aenter__())
        machine = type("StatusMachineOnStore", (StatusMachine,), {"runner": runner, "store": store})
        try:
            # A failure is printed with the steps, and their seeds, that lead to it.
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=12,
                    stateful_step_count=15,
                    deadline=None,
                    derandomize=False,
                    print_blob=True,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
