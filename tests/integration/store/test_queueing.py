"""queue_datasets: single flight, repeated requests, and an outcome for each item."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from datastatus.domain.connection import ConnectionStatus
from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.settings import built_in_setting
from datastatus.store import companies, datasets, journal, settings
from datastatus.store.journal import Change, ChangeOutcome, QueueItem, QueueOutcome, QueueResult
from datastatus.store.sql import queries
from stores import QUEUE, Store, an_item


async def queue(store: Store, *items: QueueItem) -> list[QueueResult]:
    return await journal.queue_datasets(store.database, items)


async def test_items_of_one_call_succeed_and_fail_alone(store: Store) -> None:
    link, pending = await store.connection(), await store.connection(linked=False)
    running = await store.queued(link, "bills")
    request_id = uuid7()
    [first] = await queue(
        store, an_item(link, "items", caller="a", request_id=request_id, fingerprint=b"items")
    )

    items = [
        an_item(link, "invoices"),
        an_item(link, "invoices"),
        an_item(link, "bills"),
        an_item(link, "bills", attach=True),
        an_item(link)._replace(connection_id=uuid7()),
        an_item(link)._replace(company_id=uuid7()),
        an_item(pending),
        an_item(link, "items", caller="a", request_id=request_id, fingerprint=b"items"),
        an_item(link, "taxRates", caller="a", request_id=request_id, fingerprint=b"taxRates"),
        an_item(link, "taxRates", caller="b", request_id=request_id, fingerprint=b"taxRates"),
    ]
    results = await queue(store, *items)

    assert [result.outcome for result in results] == [
        QueueOutcome.QUEUED,
        # In one call with the dataset that stands in its way, which might yet be taken back.
        QueueOutcome.RETRY,
        QueueOutcome.ACTIVE,
        QueueOutcome.ATTACHED,
        QueueOutcome.NO_CONNECTION,
        QueueOutcome.NO_CONNECTION,
        QueueOutcome.NOT_LINKED,
        QueueOutcome.REPLAYED,
        QueueOutcome.REUSED,
        QueueOutcome.QUEUED,
    ]
    assert (results[2].dataset_id, results[3].dataset_id) == (running, running)
    assert results[6].link is ConnectionStatus.PENDING_AUTH
    assert (results[7].dataset_id, results[8].dataset_id) == (first.dataset_id, first.dataset_id)
    queued = {items[0].dataset_id, items[9].dataset_id}
    known = {row["id"] for row in await store.sql.fetch("SELECT id FROM dataset")}
    assert known & {item.dataset_id for item in items} == queued


async def test_a_type_that_is_not_supported_is_queued_and_ends_in_one_go(store: Store) -> None:
    link = await store.connection()
    item = an_item(link, "payslips", supported=False)
    [result] = await queue(store, item)

    assert result.outcome is QueueOutcome.QUEUED
    first, last = await store.transitions(item.dataset_id)
    assert (first.to_status, last.to_status) == (DatasetStatus.QUEUED, DatasetStatus.NOT_SUPPORTED)
    assert result.completed == last.occurred
    # Nothing is in the way of the next one.
    [again] = await queue(store, an_item(link, "payslips", supported=False))
    assert again.outcome is QueueOutcome.QUEUED


async def test_a_finished_dataset_is_not_in_the_way(store: Store) -> None:
    link = await store.connection()
    await store.bring_to(await store.queued(link), DatasetStatus.COMPLETE)
    [result] = await queue(store, an_item(link))
    assert result.outcome is QueueOutcome.QUEUED


@pytest.mark.parametrize(
    ("status", "outcome", "is_allowed"),
    [
        (DatasetStatus.QUEUED, QueueOutcome.ATTACHED, True),
        (DatasetStatus.FETCHING, QueueOutcome.ATTACHED, True),
        (DatasetStatus.MAPPING, QueueOutcome.ATTACHED, True),
        # It may have been looked at just before.
        (DatasetStatus.VALIDATING, QueueOutcome.ACTIVE, False),
        # For another attempt.
        (DatasetStatus.PROCESSING, QueueOutcome.ATTACHED, True),
    ],
)
async def test_whoever_attaches_allows_the_running_dataset_what_it_would_be_allowed(
    store: Store, status: DatasetStatus, outcome: QueueOutcome, *, is_allowed: bool
) -> None:
    link = await store.connection()
    running = await store.queued(link)
    if status is not DatasetStatus.QUEUED:
        await store.bring_to(running, status)
    [refused] = await queue(store, an_item(link, allow_mass_deletion=True))
    [plain] = await queue(store, an_item(link, attach=True))
    assert (refused.outcome, plain.outcome) == (QueueOutcome.ACTIVE, QueueOutcome.ATTACHED)
    assert not (await store.dataset(running)).allow_mass_deletion

    [attached] = await queue(store, an_item(link, attach=True, allow_mass_deletion=True))

    assert (attached.outcome, attached.dataset_id) == (outcome, running)
    assert (await store.dataset(running)).allow_mass_deletion is is_allowed


async def test_what_is_allowed_already_can_be_attached_to_at_any_time(store: Store) -> None:
    link = await store.connection()
    item = an_item(link, allow_mass_deletion=True)
    await queue(store, item)
    await store.bring_to(item.dataset_id, DatasetStatus.VALIDATING)
    [attached] = await queue(store, an_item(link, attach=True, allow_mass_deletion=True))
    assert (attached.outcome, attached.dataset_id) == (QueueOutcome.ATTACHED, item.dataset_id)


async def test_whether_a_dataset_that_is_just_changing_may_be_allowed_more_is_not_decided(
    store: Store,
) -> None:
    link = await store.connection()
    running = await store.queued(link)
    async with store.sql.transaction():
        await store.sql.execute("SELECT FROM dataset WHERE id = $1 FOR UPDATE", running)
        results = await queue(
            store,
            an_item(link, attach=True, allow_mass_deletion=True),
            an_item(link, "bills", attach=True, allow_mass_deletion=True),
        )
    assert [one.outcome for one in results] == [QueueOutcome.RETRY, QueueOutcome.QUEUED]
    assert not (await store.dataset(running)).allow_mass_deletion


async def test_of_many_at_once_one_is_queued_and_all_learn_which(store: Store) -> None:
    link = await store.connection()
    results = [
        result
        for [result] in await asyncio.gather(
            *(queue(store, an_item(link, attach=n % 2 == 0)) for n in range(40))
        )
    ]
    [winner] = [result for result in results if result.outcome is QueueOutcome.QUEUED]
    others = [result for result in results if result.outcome is not QueueOutcome.QUEUED]
    assert {result.outcome for result in others} <= {
        QueueOutcome.ACTIVE,
        QueueOutcome.ATTACHED,
        QueueOutcome.RETRY,
    }
    assert {result.dataset_id for result in others if result.outcome is not QueueOutcome.RETRY} == {
        winner.dataset_id
    }


async def test_calls_with_the_same_items_in_opposite_orders_do_not_wait_for_each_other(store: Store) -> None:
    links = [await store.connection() for _ in range(8)]
    for _ in range(10):
        batches = []
        for turn in range(8):
            order = links if turn % 2 else links[::-1]
            request_ids = {link: uuid7() for link in links}
            batches.append(
                [
                    an_item(link, caller="a", request_id=request_ids[link], fingerprint=b"same")
                    for link in order
                ]
            )
        results = await asyncio.gather(*(queue(store, *batch) for batch in batches))
        winners = [r.dataset_id for batch in results for r in batch if r.outcome is QueueOutcome.QUEUED]
        assert len(winners) == len(links)
        cancelled = await store.change(
            *(Change(winner, DatasetStatus.CANCELLED) for winner in winners if winner is not None)
        )
        assert {result.outcome for result in cancelled} == {ChangeOutcome.DONE}


async def test_whoever_waits_for_one_slot_holds_none_that_comes_after_it(store: Store) -> None:
    first, second = await store.connection(), await store.connection()
    transaction = store.sql.transaction()
    await transaction.start()
    await store.sql.execute(
        "INSERT INTO dataset (id, company_id, connection_id, integration_key, data_type, trigger, sync_order)"
        " VALUES ($1, $2, $3, 'gnucash', 'invoices', 'API', 1)",
        uuid7(),
        first.company_id,
        first.connection_id,
    )
    both = asyncio.create_task(queue(store, an_item(second), an_item(first)))
    await store.until_it_blocks()
    # Waiting for it would hang here.
    [taken] = await queue(store, an_item(second))
    await transaction.rollback()
    assert taken.outcome is QueueOutcome.QUEUED
    assert [result.outcome for result in await both] == [QueueOutcome.ACTIVE, QueueOutcome.QUEUED]


async def test_a_connection_that_somebody_else_has_locked_is_left_for_later(store: Store) -> None:
    locked, free = await store.connection(), await store.connection()
    async with store.sql.transaction():
        await store.sql.execute("SELECT FROM connection WHERE id = $1 FOR UPDATE", locked.connection_id)
        # Waiting for it would hang here.
        results = await queue(store, an_item(locked), an_item(free))
    assert [result.outcome for result in results] == [QueueOutcome.RETRY, QueueOutcome.QUEUED]


async def test_of_two_requests_with_one_id_at_once_the_later_changes_nothing(store: Store) -> None:
    link = await store.connection()
    item = an_item(link, "bills", caller="a", request_id=uuid7(), fingerprint=b"later")
    quicker = (uuid7(), link.company_id, link.connection_id, "invoices", item.request_id, b"quicker")
    async with store.uncommitted(QUEUE, *quicker):
        queueing = asyncio.create_task(queue(store, item))
    [undecided] = await queueing
    assert undecided.outcome is QueueOutcome.RETRY
    assert await datasets.datasets_by_id(store.database, [item.dataset_id]) == {}
    [refused] = await queue(store, item)
    assert (refused.outcome, refused.dataset_id) == (QueueOutcome.REUSED, quicker[0])


async def test_of_two_requests_with_one_id_that_attach_in_one_call_the_second_is_refused(
    store: Store,
) -> None:
    link = await store.connection()
    running = await store.queued(link)
    request_id = uuid7()
    first, second = [
        an_item(link, attach=True, caller="a", request_id=request_id, fingerprint=fingerprint)
        for fingerprint in (b"first", b"second")
    ]
    outcomes = [result.outcome for result in await queue(store, first, second)]
    assert outcomes == [QueueOutcome.ATTACHED, QueueOutcome.RETRY]
    [refused] = await queue(store, second)
    assert (refused.outcome, refused.dataset_id) == (QueueOutcome.REUSED, running)


async def test_a_request_sent_twice_at_once_queues_once(store: Store) -> None:
    link = await store.connection()
    for _ in range(10):
        request_id = uuid7()
        twins = [an_item(link, caller="a", request_id=request_id, fingerprint=b"same") for _ in range(6)]
        results = [result for [result] in await asyncio.gather(*(queue(store, twin) for twin in twins))]
        [winner] = {result.dataset_id for result in results if result.outcome is QueueOutcome.QUEUED}
        # None of them may be told that its own dataset is in its way.
        assert {result.outcome for result in results} <= {
            QueueOutcome.QUEUED,
            QueueOutcome.REPLAYED,
            QueueOutcome.RETRY,
        }
        [replay] = await queue(store, twins[0]._replace(dataset_id=uuid7()))
        assert (replay.outcome, replay.dataset_id) == (QueueOutcome.REPLAYED, winner)
        assert winner is not None
        await store.change(Change(winner, DatasetStatus.CANCELLED))


async def test_a_repeated_request_answers_with_its_dataset_even_after_that_has_ended(store: Store) -> None:
    link = await store.connection()
    item = an_item(link, caller="a", request_id=uuid7(), fingerprint=b"x")
    await queue(store, item)
    await store.change(Change(item.dataset_id, DatasetStatus.CANCELLED))
    [replay] = await queue(store, item._replace(dataset_id=uuid7()))
    assert (replay.outcome, replay.dataset_id) == (QueueOutcome.REPLAYED, item.dataset_id)


async def test_a_refused_request_is_not_remembered(store: Store) -> None:
    link = await store.connection()
    running = await store.queued(link)
    item = an_item(link, caller="a", request_id=uuid7(), fingerprint=b"x")
    [refused] = await queue(store, item)
    assert refused.outcome is QueueOutcome.ACTIVE
    await store.change(Change(running, DatasetStatus.CANCELLED))
    [result] = await queue(store, item)
    assert result.outcome is QueueOutcome.QUEUED


async def test_a_request_id_is_forgotten_after_a_day(store: Store) -> None:
    link = await store.connection()
    item = an_item(link, caller="a", request_id=uuid7(), fingerprint=b"x")
    await queue(store, item)
    await store.change(Change(item.dataset_id, DatasetStatus.CANCELLED))
    await store.sql.execute(
        "UPDATE sync_request SET created = created - interval '24 hours 1 second' WHERE request_id = $1",
        item.request_id,
    )

    # Whether or not the row has been swept away meanwhile.
    later = item._replace(dataset_id=uuid7(), fingerprint=b"another")
    [result] = await queue(store, later)
    assert result.outcome is QueueOutcome.QUEUED
    await store.sql.execute(
        "UPDATE sync_request SET created = created - interval '25 hours' WHERE request_id = $1",
        item.request_id,
    )
    await journal.forget_requests(store.database)
    found = await store.sql.fetchval(
        "SELECT count(*) FROM sync_request WHERE request_id = $1", item.request_id
    )
    assert found == 0


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_statuses_do_not_change_under_an_older_snapshot(store: Store, isolation) -> None:
    dataset_id = await store.queued(await store.connection())
    async with store.sql.transaction(isolation=isolation):
        with pytest.raises(asyncpg.PostgresError, match="READ COMMITTED only"):
            await store.sql.execute(
                "SELECT transition_datasets(ARRAY[ROW($1, 'CANCELLED', NULL, false, 'x', NULL, NULL, NULL, NULL,"
                " NULL, NULL, NULL)::requested_change])",
                dataset_id,
            )
    link = await store.connection()
    async with store.sql.transaction(isolation=isolation):
        with pytest.raises(asyncpg.PostgresError, match="READ COMMITTED only"):
            await store.sql.fetch(queries()["queue_datasets"], [an_item(link)], "queued", "not supported", 24)


async def test_an_item_made_by_old_knowledge_of_its_company_is_stale(store: Store) -> None:
    link, other = await store.connection(), await store.connection()
    own = replace(built_in_setting("invoices"), sync_order=7)

    async def revision() -> int:
        state = (await companies.company_states(store.database, [link.company_id]))[link.company_id]
        assert state.revision is not None
        return state.revision

    async def set_order(company_id: UUID | None) -> None:
        await settings.update_settings(store.database, company_id, [own], {"sync_order"}, [])

    def create() -> Awaitable[bool]:
        return companies.create_connection(store.database, uuid7(), link.company_id, "gnucash")

    changes: list[Callable[[], Awaitable[object]]] = [
        create,
        lambda: set_order(link.company_id),
        lambda: settings.update_settings(store.database, link.company_id, [], set(), ["invoices"]),
        lambda: set_order(None),
        lambda: settings.update_settings(store.database, None, [], set(), ["invoices"]),
    ]
    for change in changes:
        known = await revision()
        await change()
        [stale] = await queue(store, an_item(link, company_revision=known))
        assert stale.outcome is QueueOutcome.STALE

    # What happens to others does not matter.
    known = await revision()
    await set_order(other.company_id)
    await companies.unlink_connection(
        store.database, other.connection_id, delete=False, description="Unlinked."
    )
    [queued] = await queue(store, an_item(link, company_revision=known))
    assert queued.outcome is QueueOutcome.QUEUED


async def test_a_repeated_request_is_answered_by_whatever_knowledge(store: Store) -> None:
    link = await store.connection()
    repeated = an_item(link, caller="a", request_id=uuid7(), fingerprint=b"items", company_revision=0)
    [first] = await queue(store, repeated._replace(company_revision=None))
    [again] = await queue(store, repeated)
    assert (again.outcome, again.dataset_id) == (QueueOutcome.REPLAYED, first.dataset_id)
