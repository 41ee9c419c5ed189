"""transition_datasets and the leases: what is legal, whose it is, and an outcome for each item."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from datastatus.domain.connection import ConnectionStatus
from datastatus.domain.dataset import (
    TRANSITIONS,
    DatasetStatus,
    Progress,
    Trigger,
    ValidationCounts,
    WaitReason,
)
from datastatus.store import companies, datasets, journal, validation
from datastatus.store.datasets import ProgressReport
from datastatus.store.journal import Change, ChangeOutcome, Grant, QueueOutcome
from stores import PIPELINE, Store, an_item, claim

NIL = UUID(int=0)


async def test_every_legal_transition_is_carried_out_and_every_other_refused(store: Store) -> None:
    for before in (DatasetStatus.QUEUED, *PIPELINE):
        for after in DatasetStatus:
            dataset_id = await store.queued(await store.connection())
            token = None
            if before is not DatasetStatus.QUEUED:
                token = await store.bring_to(dataset_id, before)
            grant = Grant(uuid7(), uuid7(), 60) if before is DatasetStatus.QUEUED else None
            held = None if before.is_terminal else token
            [result] = await store.change(Change(dataset_id, after, held_token=held, grant=grant))

            now = await store.dataset(dataset_id)
            if after in TRANSITIONS[before]:
                assert (result.outcome, now.status) == (ChangeOutcome.DONE, after)
            else:
                assert (result.outcome, result.status, now.status) == (ChangeOutcome.ILLEGAL, before, before)


async def test_items_of_one_call_succeed_and_fail_alone(store: Store) -> None:
    link = await store.connection()
    fine = await store.queued(link, "bills")
    leased = await store.queued(link, "invoices")
    token = await store.bring_to(leased, DatasetStatus.FETCHING)
    finished = await store.queued(link, "items")
    await store.change(Change(finished, DatasetStatus.CANCELLED))
    waiting = await store.queued(link, "items")
    head_seq = await store.head_seq()

    results = await store.change(
        Change(uuid7(), DatasetStatus.CANCELLED),
        Change(finished, DatasetStatus.CANCELLED),
        Change(leased, DatasetStatus.MAPPING, held_token=uuid7()),
        Change(leased, DatasetStatus.CANCELLED),
        Change(fine, DatasetStatus.CANCELLED),
        Change(fine, DatasetStatus.CANCELLED),
        # Nobody would hold its lease.
        Change(waiting, DatasetStatus.FETCHING),
    )

    assert [result.outcome for result in results] == [
        ChangeOutcome.UNKNOWN,
        ChangeOutcome.ILLEGAL,
        ChangeOutcome.LEASE_LOST,
        # Second of its dataset in this call; it may be asked again.
        ChangeOutcome.RETRY,
        ChangeOutcome.DONE,
        ChangeOutcome.RETRY,
        ChangeOutcome.ILLEGAL,
    ]
    assert [one.seq for one in results[4].transitions] == [head_seq + 1] == [await store.head_seq()]
    assert (await store.dataset(leased)).status is DatasetStatus.FETCHING
    [done] = await store.change(Change(leased, DatasetStatus.MAPPING, held_token=token))
    assert done.outcome is ChangeOutcome.DONE


async def test_a_call_tells_exactly_what_it_has_journaled(store: Store) -> None:
    """The tailer takes it as it is told, without reading it again."""
    link, other = await store.connection(), await store.connection(linked=False)
    before = await store.head_seq()
    items = [
        an_item(link, "items"),
        an_item(link, "bills", supported=False),
        an_item(other, "bills"),
        an_item(link, "items"),
        an_item(link, "invoices", trigger=Trigger.SCHEDULE),
        an_item(link, "journals", supported=False),
    ]
    queued = journal.written(await journal.queue_datasets(store.database, items))
    claimed = journal.written(
        await store.change(
            claim(items[4].dataset_id, uuid7()), claim(uuid7(), uuid7()), claim(items[0].dataset_id, uuid7())
        )
    )
    failed = Change(
        items[0].dataset_id,
        DatasetStatus.CANCELLED,
        description="No.",
        error_message="Why.",
        error_code="WHY",
    )
    ended = journal.written(await store.change(failed, Change(items[1].dataset_id, DatasetStatus.CANCELLED)))
    assert queued is not None
    assert claimed is not None
    assert ended is not None
    present = (await journal.journal_bounds(store.database)).epoch
    assert [queued.epoch, claimed.epoch, ended.epoch] == [present] * 3
    told = [*queued.transitions, *claimed.transitions, *ended.transitions]
    assert told == await journal.read_transitions(store.database, before, 100)
    assert len(told) == 6 + 2 + 1
    assert journal.written(await store.change(Change(items[1].dataset_id, DatasetStatus.CANCELLED))) is None


async def test_a_dataset_that_somebody_else_has_locked_is_left_for_later(store: Store) -> None:
    link = await store.connection()
    locked, free = await store.queued(link, "bills"), await store.queued(link, "invoices")
    async with store.sql.transaction():
        await store.sql.execute("SELECT FROM dataset WHERE id = $1 FOR UPDATE", locked)
        # Waiting for it would hang here.
        results = await store.change(
            Change(locked, DatasetStatus.CANCELLED), Change(free, DatasetStatus.CANCELLED)
        )
    assert [result.outcome for result in results] == [ChangeOutcome.RETRY, ChangeOutcome.DONE]


async def test_of_many_claims_at_once_one_wins(store: Store) -> None:
    dataset_id = await store.queued(await store.connection())
    tokens = [uuid7() for _ in range(30)]
    results = await asyncio.gather(*(store.change(claim(dataset_id, token)) for token in tokens))
    winners = [
        token for token, [result] in zip(tokens, results, strict=True) if result.outcome is ChangeOutcome.DONE
    ]
    [assignment] = await datasets.claimed_datasets(store.database, [dataset_id])
    assert winners == [assignment.lease_token]


async def test_a_lease_is_given_back_only_once_it_has_run_out(store: Store) -> None:
    dataset_id = await store.queued(await store.connection())
    token = uuid7()
    await store.change(claim(dataset_id, token, seconds=3600))
    back = Change(dataset_id, DatasetStatus.QUEUED, only_expired=True)
    [refused] = await store.change(back)
    assert refused.outcome is ChangeOutcome.NOT_EXPIRED

    assert await datasets.renew_leases(store.database, [(dataset_id, token)], -1) == {dataset_id}
    assert (dataset_id, 1) in await datasets.expired_leases(store.database, 1000)
    [done] = await store.change(back)
    assert done.outcome is ChangeOutcome.DONE
    # Another reaper that has seen it expired too.
    [late] = await store.change(Change(dataset_id, DatasetStatus.INTERNAL_ERROR, only_expired=True))
    assert late.outcome is ChangeOutcome.NOT_EXPIRED

    now = await store.dataset(dataset_id)
    assert (now.status, now.attempt) == (DatasetStatus.QUEUED, 2)
    # The old worker may still be at it.
    assert await datasets.renew_leases(store.database, [(dataset_id, token)], 60) == set()
    [late] = await store.change(Change(dataset_id, DatasetStatus.MAPPING, held_token=token))
    assert late.outcome is ChangeOutcome.LEASE_LOST


async def test_the_nil_token_is_of_those_who_hold_none(store: Store) -> None:
    dataset_id = await store.queued(await store.connection())
    fetching = Change(dataset_id, DatasetStatus.FETCHING, held_token=NIL, grant=Grant(NIL, NIL, 60))
    [begun] = await store.change(fetching)
    [on] = await store.change(Change(dataset_id, DatasetStatus.MAPPING, held_token=NIL))
    assert (begun.outcome, on.outcome) == (ChangeOutcome.DONE, ChangeOutcome.DONE)

    leased = await store.queued(await store.connection())
    await store.bring_to(leased, DatasetStatus.FETCHING)
    [refused] = await store.change(Change(leased, DatasetStatus.MAPPING, held_token=NIL))
    assert refused.outcome is ChangeOutcome.LEASE_LOST


async def test_progress_is_kept_under_its_lease_and_begins_anew_with_an_attempt(store: Store) -> None:
    dataset_id = await store.queued(await store.connection())
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    await datasets.record_progress(
        store.database,
        [ProgressReport(dataset_id, token, fetched=7, total=9), ProgressReport(uuid7(), token, fetched=1)],
    )
    await datasets.record_progress(store.database, [ProgressReport(dataset_id, uuid7(), fetched=8)])
    # A report that comes late does not turn it back.
    await datasets.record_progress(store.database, [ProgressReport(dataset_id, token, fetched=3)])
    now = await store.dataset(dataset_id)
    assert (now.progress.fetched, now.progress.total) == (7, 9)

    await store.change(Change(dataset_id, DatasetStatus.QUEUED))
    assert (await store.dataset(dataset_id)).progress.fetched == 0


async def test_a_change_ends_a_wait_and_keeps_the_counts_until_another_attempt(store: Store) -> None:
    dataset_id = await store.queued(await store.connection())
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    soon = await journal.store_time(store.database)
    told = ProgressReport(
        dataset_id, token, fetched=9, total=9, wait_reason=WaitReason.RATE_LIMITED, retry_time=soon
    )
    await datasets.record_progress(store.database, [told])
    assert (await store.dataset(dataset_id)).wait_reason is WaitReason.RATE_LIMITED

    for step in (DatasetStatus.MAPPING, DatasetStatus.VALIDATING):
        await store.change(Change(dataset_id, step, held_token=token))
    moving = await store.dataset(dataset_id)
    assert (moving.wait_reason, moving.retry_time) == (None, None)
    assert moving.progress == Progress(fetched=9, total=9)

    await datasets.record_progress(store.database, [ProgressReport(dataset_id, token, mapped=8, validated=7)])
    await validation.note_validation(store.database, dataset_id, token, 2, 1)
    await store.change(Change(dataset_id, DatasetStatus.PROCESSING, held_token=token))
    stored = await store.dataset(dataset_id)
    assert stored.progress == Progress(fetched=9, mapped=8, validated=7, total=9)
    assert stored.validation == ValidationCounts(errors=2, warnings=1)

    await store.change(Change(dataset_id, DatasetStatus.QUEUED, held_token=token))
    again = await store.dataset(dataset_id)
    assert (replace(again.progress, total=None), again.validation) == (Progress(), None)


async def test_a_refused_connection_ends_what_waits_and_nothing_else(store: Store) -> None:
    link = await store.connection()
    refused, working, waiting = [await store.queued(link, one) for one in ("bills", "invoices", "items")]
    other = await store.queued(await store.connection())
    token = await store.bring_to(refused, DatasetStatus.FETCHING)
    await store.bring_to(working, DatasetStatus.MAPPING)
    report = Change(
        refused,
        DatasetStatus.AUTH_ERROR,
        held_token=token,
        error_message="expired",
        error_code="E1",
        records_fetched=7,
    )
    wrong = await journal.deauthorize_connection(
        store.database, Change(refused, DatasetStatus.AUTH_ERROR, held_token=uuid7())
    )
    assert wrong.outcome is ChangeOutcome.LEASE_LOST

    result = await journal.deauthorize_connection(store.database, report)

    assert result.outcome is ChangeOutcome.DONE
    statuses = [(await store.dataset(one)).status for one in (refused, working, waiting, other)]
    assert statuses == [
        DatasetStatus.AUTH_ERROR,
        DatasetStatus.MAPPING,
        DatasetStatus.AUTH_ERROR,
        DatasetStatus.QUEUED,
    ]
    assert (await store.dataset(waiting)).error_message == "expired"
    fetched = [(await store.dataset(one)).progress.fetched for one in (refused, waiting)]
    assert fetched == [7, 0]
    connection = await companies.get_connection(store.database, link.connection_id)
    assert connection is not None
    assert connection.status is ConnectionStatus.DEAUTHORIZED
    assert [(one.code, one.message, one.resolved) for one in connection.errors] == [("E1", "expired", None)]

    await store.link(link.connection_id)
    connection = await companies.get_connection(store.database, link.connection_id)
    assert connection is not None
    assert connection.errors[0].resolved is not None


async def test_nothing_slips_onto_a_connection_that_is_being_refused(store: Store) -> None:
    for _ in range(15):
        link = await store.connection()
        failing = await store.queued(link, "bills")
        token = await store.bring_to(failing, DatasetStatus.FETCHING)
        queued, refused = await asyncio.gather(
            journal.queue_datasets(store.database, [an_item(link, one) for one in ("a", "b", "c")]),
            journal.deauthorize_connection(
                store.database, Change(failing, DatasetStatus.AUTH_ERROR, held_token=token)
            ),
        )
        assert refused.outcome is ChangeOutcome.DONE
        assert {result.outcome for result in queued} <= {
            QueueOutcome.QUEUED,
            QueueOutcome.NOT_LINKED,
            QueueOutcome.RETRY,
        }
        left = await store.sql.fetchval(
            "SELECT count(*) FROM dataset WHERE connection_id = $1 AND completed IS NULL", link.connection_id
        )
        assert left == 0


async def test_unlinking_cancels_what_is_active(store: Store) -> None:
    link = await store.connection()
    waiting, working = await store.queued(link, "bills"), await store.queued(link, "invoices")
    await store.bring_to(working, DatasetStatus.VALIDATING)
    assert await companies.unlink_connection(
        store.database, link.connection_id, delete=False, description="Unlinked."
    )
    assert [(await store.dataset(one)).status for one in (waiting, working)] == [DatasetStatus.CANCELLED] * 2
    assert [(await store.transitions(waiting))[-1].description] == ["Unlinked."]
    assert not await companies.unlink_connection(
        store.database, uuid7(), delete=False, description="Unlinked."
    )


async def test_a_connection_is_linked_once_together_with_its_first_datasets(store: Store) -> None:
    link = await store.connection(linked=False)
    pending = await companies.get_connection(store.database, link.connection_id)
    assert pending is not None

    def first():
        return [(uuid7(), "bills", 2), (uuid7(), "company", 1)]

    results = await asyncio.gather(
        *(
            companies.link_connection(store.database, pending, journal.Trigger.FIRST_LINK, first())
            for _ in range(6)
        )
    )
    [queued] = [result for result in results if result is not None]
    assert len(queued) == 2
    linked = await companies.get_connection(store.database, link.connection_id)
    assert linked is not None
    assert (linked.status, linked.first_linked is not None) == (ConnectionStatus.LINKED, True)


async def test_a_change_of_what_is_not_there_leaves_no_gap(store: Store) -> None:
    with pytest.raises(asyncpg.CardinalityViolationError):
        await store.sql.execute(
            "SELECT FROM append_transitions(ARRAY[ROW($1, 'QUEUED', 'CANCELLED', '', NULL, NULL, NULL, NULL, NULL,"
            " NULL, NULL)::change])",
            uuid7(),
        )


async def test_a_killed_backend_leaves_all_of_its_call_or_nothing(store: Store) -> None:
    ids = [await store.queued(await store.connection()) for _ in range(50)]
    blocker = await asyncpg.connect(store.dsn)
    watcher = await asyncpg.connect(store.dsn)
    victim = await asyncpg.connect(store.dsn)
    try:
        async with blocker.transaction():
            # The call gets as far as the journal lock, its rows changed or about to be, and waits there.
            await blocker.execute("SELECT lock_journal()")
            call = asyncio.create_task(
                victim.execute(
                    "SELECT transition_datasets(array_agg(ROW(id, 'CANCELLED', NULL, false, 'x', NULL, NULL, NULL,"
                    " NULL, NULL, NULL, NULL)::requested_change)) FROM unnest($1::uuid[]) id",
                    ids,
                )
            )
            pid = victim.get_server_pid()
            while not await watcher.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND NOT granted)",
                pid,
            ):
                pass
            await watcher.execute("SELECT pg_terminate_backend($1, 5000)", pid)
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await call
    finally:
        for one in (blocker, watcher, victim):
            await one.close()

    found = await datasets.datasets_by_id(store.database, ids)
    assert {one.status for one in found.values()} == {DatasetStatus.QUEUED}
    results = await store.change(*(Change(one, DatasetStatus.CANCELLED) for one in ids))
    assert {result.outcome for result in results} == {ChangeOutcome.DONE}
