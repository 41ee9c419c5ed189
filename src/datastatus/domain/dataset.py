"""A dataset's statuses and the one table of its transitions. Everything that decides legality lives here.

The database holds the same table (`is_legal_transition` in the first migration) and refuses what it does not
name; one test holds this module, the proto enum and the database equal. `docs/statuses.md` is drawn from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID


class DatasetStatus(StrEnum):
    """Where one synchronisation stands."""

    QUEUED = "QUEUED"
    FETCHING = "FETCHING"
    MAPPING = "MAPPING"
    VALIDATING = "VALIDATING"
    PROCESSING = "PROCESSING"
    COMPLETE = "COMPLETE"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    FETCH_ERROR = "FETCH_ERROR"
    MAP_ERROR = "MAP_ERROR"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    PROCESSING_ERROR = "PROCESSING_ERROR"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    PERMISSIONS_ERROR = "PERMISSIONS_ERROR"
    AUTH_ERROR = "AUTH_ERROR"
    RATE_LIMIT_ERROR = "RATE_LIMIT_ERROR"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows: a new sync is a new dataset."""
        return not TRANSITIONS[self]

    @property
    def may_have_error(self) -> bool:
        """Whether a change to it may say what went wrong: an end without success, or another attempt."""
        return self is DatasetStatus.QUEUED or (self.is_terminal and self is not DatasetStatus.COMPLETE)


_S = DatasetStatus

TRANSITIONS: Mapping[DatasetStatus, frozenset[DatasetStatus]] = MappingProxyType(
    {
        # A worker takes it; or it is known beforehand, or the connection fails, before anybody does.
        _S.QUEUED: frozenset({_S.FETCHING, _S.NOT_SUPPORTED, _S.AUTH_ERROR, _S.CANCELLED, _S.INTERNAL_ERROR}),
        # A connector reads the source; back to QUEUED when its lease ran out and attempts remain, when it has given
        # the dataset back, or was refused for credentials that were replaced meanwhile.
        _S.FETCHING: frozenset(
            {
                _S.MAPPING,
                _S.FETCH_ERROR,
                _S.AUTH_ERROR,
                _S.PERMISSIONS_ERROR,
                _S.RATE_LIMIT_ERROR,
                _S.NOT_SUPPORTED,
                _S.QUEUED,
                _S.CANCELLED,
                _S.INTERNAL_ERROR,
            }
        ),
        # The service's pipeline; back to QUEUED when the worker or the staged records were lost.
        _S.MAPPING: frozenset({_S.VALIDATING, _S.MAP_ERROR, _S.QUEUED, _S.CANCELLED, _S.INTERNAL_ERROR}),
        _S.VALIDATING: frozenset(
            {_S.PROCESSING, _S.VALIDATION_ERROR, _S.QUEUED, _S.CANCELLED, _S.INTERNAL_ERROR}
        ),
        _S.PROCESSING: frozenset(
            {_S.COMPLETE, _S.PROCESSING_ERROR, _S.QUEUED, _S.CANCELLED, _S.INTERNAL_ERROR}
        ),
        _S.COMPLETE: frozenset(),
        _S.NOT_SUPPORTED: frozenset(),
        _S.FETCH_ERROR: frozenset(),
        _S.MAP_ERROR: frozenset(),
        _S.VALIDATION_ERROR: frozenset(),
        _S.PROCESSING_ERROR: frozenset(),
        _S.INTERNAL_ERROR: frozenset(),
        _S.PERMISSIONS_ERROR: frozenset(),
        _S.AUTH_ERROR: frozenset(),
        _S.RATE_LIMIT_ERROR: frozenset(),
        _S.CANCELLED: frozenset(),
    }
)

DESCRIPTIONS: Mapping[DatasetStatus, str] = MappingProxyType(
    {
        _S.QUEUED: "Waiting to be fetched.",
        _S.FETCHING: "Data is being read from the source.",
        _S.MAPPING: "The records are being converted into the standard model.",
        _S.VALIDATING: "The records are being checked for consistency and correctness.",
        _S.PROCESSING: "The records are being stored in the cache.",
        _S.COMPLETE: "The records can be read from the cache.",
        _S.NOT_SUPPORTED: "The source has no such data type.",
        _S.FETCH_ERROR: "The source could not be read.",
        _S.MAP_ERROR: "A record could not be converted into the standard model.",
        _S.VALIDATION_ERROR: "The records are not consistent; the cache keeps the previous ones.",
        _S.PROCESSING_ERROR: "The records could not be stored; the cache keeps the previous ones.",
        _S.INTERNAL_ERROR: "The service failed; a new sync may succeed.",
        _S.PERMISSIONS_ERROR: "The connection may not read this data type at the source.",
        _S.AUTH_ERROR: "The source no longer accepts the connection; the end user must re-authorise it.",
        _S.RATE_LIMIT_ERROR: "The source kept refusing for too many requests.",
        _S.CANCELLED: "The sync was cancelled.",
    }
)

# What a connector may report when the service's own pipeline does the rest; QUEUED gives it back.
FETCH_OUTCOMES = TRANSITIONS[_S.FETCHING] - {_S.CANCELLED}


def is_legal(from_status: DatasetStatus, to_status: DatasetStatus) -> bool:
    return to_status in TRANSITIONS[from_status]


class Trigger(StrEnum):
    """Why a dataset was queued."""

    API = "API"
    FIRST_LINK = "FIRST_LINK"
    RELINK = "RELINK"
    SCHEDULE = "SCHEDULE"
    PORTAL = "PORTAL"


# By name. Looking one up is a tenth of the price of calling the enum, and is done for every row that is read.
STATUSES: Mapping[str, DatasetStatus] = {str(status): status for status in DatasetStatus}
TRIGGERS: Mapping[str, Trigger] = {str(trigger): trigger for trigger in Trigger}


class WaitReason(StrEnum):
    """Why an active dataset is not moving just now."""

    WAITING_FOR_CONNECTOR = "WAITING_FOR_CONNECTOR"
    RATE_LIMITED = "RATE_LIMITED"
    SOURCE_UNAVAILABLE = "SOURCE_UNAVAILABLE"
    BOOK_LOCKED = "BOOK_LOCKED"
    WAITING_FOR_SYNC = "WAITING_FOR_SYNC"


class OnActive(StrEnum):
    """What QueueSync does when a dataset of that data type is already running on that connection."""

    REJECT = "REJECT"
    ATTACH = "ATTACH"


@dataclass(frozen=True, slots=True)
class Progress:
    """Records through each stage in this attempt; `total` is None where the source could not tell."""

    fetched: int = 0
    mapped: int = 0
    validated: int = 0
    stored: int = 0
    total: int | None = None

    @property
    def percent(self) -> int | None:
        """How far the attempt is, 0 to 100, each of the four stages counting a quarter."""
        if self.total is None:
            return None
        if self.total == 0:
            return 100
        done = self.fetched + self.mapped + self.validated + self.stored
        return min(100, 100 * done // (4 * self.total))


NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class ValidationCounts:
    """How much validation found, also of what is not kept."""

    errors: int
    warnings: int


class Dataset(NamedTuple):
    """One synchronisation of one data type over one connection.

    `version` counts its transitions from 1; `attempt` its claims, from 1. `started` is the first FETCHING.
    `validation` is None until it has been validated. `allow_mass_deletion`: it may delete most of the cache.
    `last_successful_sync` and `latest_successful_dataset_id` are of its (connection, data type), and are set
    only where the dataset was read together with its data status.
    """

    id: UUID
    company_id: UUID
    connection_id: UUID
    data_type: str
    status: DatasetStatus
    version: int
    attempt: int
    trigger: Trigger
    requested: datetime
    started: datetime | None = None
    completed: datetime | None = None
    error_message: str | None = None
    error_code: str | None = None
    wait_reason: WaitReason | None = None
    retry_time: datetime | None = None
    progress: Progress = NO_PROGRESS
    validation: ValidationCounts | None = None
    allow_mass_deletion: bool = False
    last_successful_sync: datetime | None = None
    latest_successful_dataset_id: UUID | None = None


class Transition(NamedTuple):
    """One change of one dataset's status: immutable, numbered by `seq` over the whole store."""

    seq: int
    dataset_id: UUID
    company_id: UUID
    connection_id: UUID
    data_type: str
    version: int
    from_status: DatasetStatus | None
    to_status: DatasetStatus
    occurred: datetime
    trigger: Trigger
    description: str
    error_message: str | None
    error_code: str | None
