"""Queueing datasets and changing their statuses, in batches; and reading the journal."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from datastatus.domain.connection import ConnectionStatus
from datastatus.domain.dataset import DESCRIPTIONS, STATUSES, TRIGGERS, DatasetStatus, Transition, Trigger
from datastatus.store.database import Executor, Row

REQUEST_ID_HOURS = 24


class QueueOutcome(StrEnum):
    """See type queue_decision in migration 0002."""

    QUEUED = "QUEUED"
    ATTACHED = "ATTACHED"
    REPLAYED = "REPLAYED"
    ACTIVE = "ACTIVE"
    REUSED = "REUSED"
    STALE = "STALE"
    NO_CONNECTION = "NO_CONNECTION"
    NOT_LINKED = "NOT_LINKED"
    RETRY = "RETRY"


# Tuples, as thousands of each are made every second.
class QueueItem(NamedTuple):
    """A dataset to be queued under `dataset_id`, which nobody else has used. As type queue_item of the database.

    `supported` false: it ends NOT_SUPPORTED at once. `caller` scopes `request_id`; `fingerprint` is of the
    request as sent, and both are None where the caller gave no request_id. `company_revision` is that of the
    CompanyState that the item was made from; where there is another by now it is STALE. None: it is all the same.
    """

    dataset_id: UUID
    company_id: UUID
    connection_id: UUID
    data_type: str
    trigger: Trigger
    sync_order: int
    supported: bool
    attach: bool = False
    allow_mass_deletion: bool = False
    caller: str = ""
    request_id: UUID | None = None
    fingerprint: bytes | None = None
    company_revision: int | None = None


class QueueResult(NamedTuple):
    """`dataset_id` is the item's own where QUEUED, else the dataset that answers or stands in the way.

    `link` is the connection's status, of what is not QUEUED.

    `transitions` is what was journaled in `epoch`, in order.
    """

    outcome: QueueOutcome
    dataset_id: UUID | None
    link: ConnectionStatus | None
    requested: datetime | None
    completed: datetime | None
    epoch: int | None = None
    transitions: tuple[Transition, ...] = ()


async def queue_datasets(executor: Executor, items: Sequence[QueueItem]) -> list[QueueResult]:
    """One result an item, in order; items fail alone."""
    [row] = await executor.rows(
        "queue_datasets",
        items,
        DESCRIPTIONS[DatasetStatus.QUEUED],
        DESCRIPTIONS[DatasetStatus.NOT_SUPPORTED],
        REQUEST_ID_HOURS,
    )
    if row["decisions"] is None:
        return [_queued(item, row, place) for place, item in enumerate(items)]
    return [
        _queue_result(item, row, decision) for item, decision in zip(items, row["decisions"], strict=True)
    ]


def _queue_result(item: QueueItem, row: Row, decision: Row) -> QueueResult:
    if decision["outcome"] is None:
        queued = _queued(item, row, decision["queued_place"] - 1)
        place = decision["ended_place"]
        return queued if place is None else _ended(queued, row, place - 1)
    return QueueResult(
        _QUEUE_OUTCOMES[decision["outcome"]],
        decision["answer"],
        ConnectionStatus(decision["link"]) if decision["link"] else None,
        None,
        None,
    )


def _queued(item: QueueItem, row: Row, place: int) -> QueueResult:
    transition = Transition(
        row["first_seq"] + place,
        item.dataset_id,
        item.company_id,
        item.connection_id,
        item.data_type,
        1,
        None,
        DatasetStatus.QUEUED,
        row["queued"],
        item.trigger,
        DESCRIPTIONS[DatasetStatus.QUEUED],
        None,
        None,
    )
    return QueueResult(
        QueueOutcome.QUEUED, item.dataset_id, None, row["called"], None, row["epoch"], (transition,)
    )


def _ended(queued: QueueResult, row: Row, place: int) -> QueueResult:
    """The same dataset, which has ended NOT_SUPPORTED at once."""
    [transition] = queued.transitions
    ended = transition._replace(
        seq=row["first_ended_seq"] + place,
        version=2,
        from_status=DatasetStatus.QUEUED,
        to_status=DatasetStatus.NOT_SUPPORTED,
        occurred=row["ended"],
        description=DESCRIPTIONS[DatasetStatus.NOT_SUPPORTED],
    )
    return queued._replace(completed=row["ended"], transitions=(transition, ended))


class ChangeOutcome(StrEnum):
    """See type judged_change in migration 0002."""

    DONE = "DONE"
    UNKNOWN = "UNKNOWN"
    ILLEGAL = "ILLEGAL"
    LEASE_LOST = "LEASE_LOST"
    NOT_EXPIRED = "NOT_EXPIRED"
    RETRY = "RETRY"


class Grant(NamedTuple):
    """A lease to be given with a change: to `holder`, for `seconds` from the change."""

    token: UUID
    holder: UUID
    seconds: float


_NO_GRANT = (None, None, None)


class Change(NamedTuple):
    """A change of one dataset's status.

    `held_token` is the lease that the caller must still hold, None for what needs none (claiming, cancelling,
    reaping). `only_expired`: only where the present lease has run out. The counts are what is told of the dataset's
    progress together with the change; None keeps what it has.
    """

    dataset_id: UUID
    to_status: DatasetStatus
    held_token: UUID | None = None
    only_expired: bool = False
    description: str | None = None
    error_message: str | None = None
    error_code: str | None = None
    grant: Grant | None = None
    records_fetched: int | None = None
    records_total: int | None = None


class ChangeResult(NamedTuple):
    """`status` is the dataset's after the call, None where it was not looked at.

    `transitions` is what was journaled in `epoch` where DONE; of a deauthorisation it is not told.
    """

    outcome: ChangeOutcome
    status: DatasetStatus | None
    epoch: int | None = None
    transitions: tuple[Transition, ...] = ()


async def transition_datasets(executor: Executor, changes: Sequence[Change]) -> list[ChangeResult]:
    """One result a change, in order; changes fail alone."""
    [row] = await executor.rows("transition_datasets", [_requested(change) for change in changes])
    done = itertools.count()
    return [
        _changed(change, row, next(done), judged) if judged["outcome"] == "DONE" else _untold(judged)
        for change, judged in zip(changes, row["judged"] or (), strict=True)
    ]


def _requested(change: Change) -> tuple[Any, ...]:
    """As type requested_change of the database."""
    return (
        change.dataset_id,
        change.to_status,
        change.held_token,
        change.only_expired,
        describe(change),
        change.error_message,
        change.error_code,
        *(change.grant or _NO_GRANT),
        change.records_fetched,
        change.records_total,
    )


def _changed(change: Change, row: Row, place: int, judged: Row) -> ChangeResult:
    _, from_status, version, company_id, connection_id, data_type, trigger = judged
    transition = Transition(
        row["first_seq"] + place,
        change.dataset_id,
        company_id,
        connection_id,
        data_type,
        version + 1,
        STATUSES[from_status],
        change.to_status,
        row["occurred"],
        TRIGGERS[trigger],
        describe(change),
        change.error_message,
        change.error_code,
    )
    return ChangeResult(ChangeOutcome.DONE, transition.to_status, row["epoch"], (transition,))


def _untold(row: Row) -> ChangeResult:
    """What became of a change, without what was journaled."""
    status = STATUSES[row["status"]] if row["status"] else None
    return ChangeResult(_CHANGE_OUTCOMES[row["outcome"]], status)


async def deauthorize_connection(executor: Executor, change: Change) -> ChangeResult:
    """End the dataset AUTH_ERROR, deauthorise its connection and end the datasets queued on it.

    Where the connection was authorised since the dataset's attempt began, the dataset goes back to QUEUED instead.
    """
    [row] = await executor.rows(
        "deauthorize_connection",
        change.dataset_id,
        change.held_token,
        describe(change),
        change.error_message,
        change.error_code,
        change.records_fetched,
        change.records_total,
        f"{DESCRIPTIONS[DatasetStatus.AUTH_ERROR]} Found by dataset {change.dataset_id}.",
        "The connection was authorised since this attempt began: it is fetched again.",
    )
    return _untold(row)


def describe(change: Change) -> str:
    """The description that the journal keeps for the change; of one back to QUEUED, what went wrong."""
    if change.description:
        return change.description
    if change.to_status is DatasetStatus.QUEUED and change.error_message:
        return change.error_message
    return DESCRIPTIONS[change.to_status]


_QUEUE_OUTCOMES = {str(outcome): outcome for outcome in QueueOutcome}
_CHANGE_OUTCOMES = {str(outcome): outcome for outcome in ChangeOutcome}


@dataclass(frozen=True, slots=True)
class Tail:
    """Transitions that follow each other, and the epoch of the same moment."""

    epoch: int
    transitions: Sequence[Transition]


def written(results: Sequence[QueueResult] | Sequence[ChangeResult]) -> Tail | None:
    """What a call has journaled, of which these are all results; None where that is nothing."""
    transitions = [transition for result in results for transition in result.transitions]
    if not transitions:
        return None
    # By seq, which is the first.
    transitions.sort(key=itemgetter(0))
    epoch = max(result.epoch for result in results if result.epoch is not None)
    return Tail(epoch, transitions)


@dataclass(frozen=True, slots=True)
class JournalBounds:
    """The present history: its epoch, its newest seq (0 where there is none), and the oldest still told of."""

    epoch: int
    head_seq: int
    oldest_seq: int


async def journal_bounds(executor: Executor) -> JournalBounds:
    [row] = await executor.rows("journal_bounds")
    return JournalBounds(**dict(row))


async def store_time(executor: Executor) -> datetime:
    """The database's clock, by which transitions are dated."""
    [row] = await executor.rows("store_time")
    return row[0]


async def read_transitions(executor: Executor, after_seq: int, count_max: int) -> list[Transition]:
    """The transitions that follow `after_seq`, in order and without a gap, at most `count_max`.

    The first is not `after_seq` + 1 where retention has given that up.
    """
    rows = await executor.rows("read_transitions", after_seq, count_max)
    return _unbroken(_transitions(rows))


async def read_tail(
    executor: Executor, after_seq: int, count_max: int, *, timeout_seconds: float
) -> Tail | None:
    """As `read_transitions`, with the epoch; None where nothing follows."""
    rows = await executor.rows("read_tail", after_seq, count_max, timeout_seconds=timeout_seconds)
    return Tail(rows[0]["epoch"], _unbroken(_transitions(row[1:] for row in rows))) if rows else None


def _unbroken(transitions: list[Transition]) -> list[Transition]:
    """Up to the first gap: retention may be taking partitions away at this moment."""
    if transitions and transitions[-1].seq - transitions[0].seq != len(transitions) - 1:
        first_seq = transitions[0].seq
        for place, one in enumerate(transitions):
            if one.seq != first_seq + place:
                return transitions[:place]
    return transitions


def _transitions(rows: Iterable[Row | tuple[Any, ...]]) -> list[Transition]:
    # All at once and unpacked by place, in the order of the queries: a call for each, looking up each column, takes
    # twice as long.
    return [
        Transition(
            seq,
            dataset_id,
            company_id,
            connection_id,
            data_type,
            version,
            STATUSES[from_status] if from_status else None,
            STATUSES[to_status],
            occurred,
            TRIGGERS[trigger],
            description,
            error_message,
            error_code,
        )
        for (
            seq,
            dataset_id,
            company_id,
            connection_id,
            data_type,
            version,
            from_status,
            to_status,
            occurred,
            trigger,
            description,
            error_message,
            error_code,
        ) in rows
    ]


async def forget_requests(executor: Executor) -> None:
    """Drop the request ids that are too old to be recalled."""
    await executor.rows("forget_requests", REQUEST_ID_HOURS)


async def recall_request(
    executor: Executor, caller: str, request_id: UUID, fingerprint: bytes
) -> tuple[QueueOutcome, UUID] | None:
    """(REPLAYED, its dataset) or (REUSED, that of another request), or None where the id is new."""
    rows = await executor.rows("recall_request", caller, request_id, fingerprint, REQUEST_ID_HOURS)
    return (QueueOutcome(rows[0]["outcome"]), rows[0]["dataset_id"]) if rows else None
