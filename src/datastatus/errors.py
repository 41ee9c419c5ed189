"""Every failure that a caller or a source can meet, as one tree.

    DatastatusError                      reason, metadata, message
    ├── InvalidRequest                   the request cannot be right whatever the state
    │   ├── InvalidFields                INVALID_FIELD       every wrong field at once
    │   ├── DataTypeUnknown              DATA_TYPE_UNKNOWN
    │   ├── ConnectionRequired           CONNECTION_REQUIRED
    │   ├── RequestIdReused              REQUEST_ID_REUSED
    │   ├── CredentialsRefused           CREDENTIALS_REFUSED
    │   ├── BadToken                     BAD_TOKEN
    │   └── BadFilter                    BAD_FILTER
    ├── NotFound
    │   ├── CompanyNotFound              COMPANY_NOT_FOUND
    │   ├── ConnectionNotFound           CONNECTION_NOT_FOUND
    │   ├── DatasetNotFound              DATASET_NOT_FOUND
    │   ├── IntegrationNotFound          INTEGRATION_NOT_FOUND
    │   └── RecordNotFound               RECORD_NOT_FOUND
    ├── Conflict
    │   ├── DatasetAlreadyInProgress     DATASET_ALREADY_IN_PROGRESS
    │   └── ExternalIdTaken              EXTERNAL_ID_TAKEN
    ├── WrongState                       right in itself, but not now
    │   ├── ConnectionNotLinked          CONNECTION_NOT_LINKED
    │   ├── ConnectionDeauthorized       CONNECTION_DEAUTHORIZED
    │   ├── CredentialsKeyMissing        CREDENTIALS_KEY_MISSING
    │   ├── SettingLocked                SETTING_LOCKED
    │   ├── IllegalTransition            ILLEGAL_TRANSITION
    │   └── ClientClosed                 CLIENT_CLOSED       said by the client itself
    ├── Overtaken                        somebody else has moved on
    │   ├── LeaseLost                    LEASE_LOST
    │   ├── ConnectorSilent              CONNECTOR_SILENT
    │   └── HistoryForked                HISTORY_FORKED
    ├── Expired
    │   ├── ResumeExpired                RESUME_EXPIRED
    │   └── PageTokenExpired             PAGE_TOKEN_EXPIRED
    ├── Exhausted
    │   ├── TooManyWatchers              TOO_MANY_WATCHERS
    │   └── SlowWatcher                  SLOW_WATCHER
    ├── Unavailable
    │   ├── Draining                     DRAINING
    │   ├── SourceNotAsked               SOURCE_UNAVAILABLE
    │   └── StoreDown                    STORE_DOWN
    │       ├── StoreFull                the same to callers
    │       └── SnapshotNotSpooled       the same to callers
    └── SourceError                      what a connector or a mapping met; becomes a dataset's terminal status
        ├── SourceUnavailable            FETCH_ERROR
        │   ├── SourceLocked             worth another try, and so is the next
        │   └── SourceOutOfReach
        ├── SourceAuthFailed             AUTH_ERROR
        ├── SourcePermissionDenied       PERMISSIONS_ERROR
        ├── SourceRateLimited            RATE_LIMIT_ERROR, worth another try too
        ├── SourceUnsupported            NOT_SUPPORTED
        └── MappingFailed                MAP_ERROR

A message says what is wrong and what to do; `rpc.error_table` alone turns these into gRPC status codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class DatastatusError(Exception):
    """A failure that we foresaw. `reason` is stable and for programs; `str(error)` is for people."""

    reason: ClassVar[str]

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


class InvalidRequest(DatastatusError):
    """The request cannot be right whatever the state of the service."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: its path in the request (`start.resume_token`), and what it should be."""

    field: str
    description: str


class InvalidFields(InvalidRequest):
    """One or more fields are wrong; `left_out` counts what is wrong beside the violations named.

    A client is told of as many as an answer has room for, the last of them with the field `*`: how many more.
    """

    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[FieldViolation], left_out: int = 0) -> None:
        problems = [f"{v.field}: {v.description}" for v in violations]
        super().__init__("; ".join([*problems, f"and {left_out} more"] if left_out else problems))
        self.violations: tuple[FieldViolation, ...] = tuple(violations)
        self.left_out = left_out

    @classmethod
    def of(cls, field: str, description: str) -> InvalidFields:
        """Of a single field."""
        return cls([FieldViolation(field, description)])


class DataTypeUnknown(InvalidRequest):
    reason = "DATA_TYPE_UNKNOWN"

    def __init__(self, data_type: str, advice: str) -> None:
        super().__init__(f"there is no data type {data_type!r}; {advice}", data_type=data_type)


_NAMED_CONNECTIONS_MAX = 50


class ConnectionRequired(InvalidRequest):
    reason = "CONNECTION_REQUIRED"

    def __init__(self, company_id: str, connection_ids: Sequence[str]) -> None:
        super().__init__(
            f"company {company_id} has {len(connection_ids)} connections that could answer; "
            "name one of them in connection_id",
            connection_ids=",".join(connection_ids[:_NAMED_CONNECTIONS_MAX]),
        )


class RequestIdReused(InvalidRequest):
    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id {request_id} was used within the last 24 hours for another request; "
            "make a new id for each new request",
            request_id=request_id,
        )


class CredentialsRefused(InvalidRequest):
    """The source was asked, and does not accept them."""

    reason = "CREDENTIALS_REFUSED"

    def __init__(self, integration_key: str, source_error: str, code: str) -> None:
        super().__init__(
            f"{integration_key} does not accept these credentials: {source_error}; nothing was changed",
            code=code,
        )


class BadToken(InvalidRequest):
    reason = "BAD_TOKEN"


class BadFilter(InvalidRequest):
    reason = "BAD_FILTER"


class NotFound(DatastatusError):
    """An id or a key names nothing."""

    noun: ClassVar[str]
    named_by: ClassVar[str] = "id"

    def __init__(self, name: str, advice: str = "") -> None:
        message = f"there is no {self.noun} {name}"
        super().__init__(
            f"{message}; {advice}" if advice else message, **{f"{self.noun}_{self.named_by}": name}
        )


class CompanyNotFound(NotFound):
    reason, noun = "COMPANY_NOT_FOUND", "company"


class ConnectionNotFound(NotFound):
    reason, noun = "CONNECTION_NOT_FOUND", "connection"


class DatasetNotFound(NotFound):
    reason, noun = "DATASET_NOT_FOUND", "dataset"


class IntegrationNotFound(NotFound):
    reason, noun, named_by = "INTEGRATION_NOT_FOUND", "integration", "key"

    def __init__(self, key: str, advice: str) -> None:
        super().__init__(key, advice)


class RecordNotFound(NotFound):
    reason, noun = "RECORD_NOT_FOUND", "record"


class Conflict(DatastatusError):
    """There is one already."""


class DatasetAlreadyInProgress(Conflict):
    reason = "DATASET_ALREADY_IN_PROGRESS"

    def __init__(self, dataset_id: str, *, is_being_validated: bool = False) -> None:
        advice = (
            "it is being validated and cannot be allowed a mass deletion just now; ask again when it has gone on"
            if is_being_validated
            else "watch it, cancel it, or ask with on_active ATTACH"
        )
        super().__init__(
            f"dataset {dataset_id} of this data type is still running on this connection; {advice}",
            dataset_id=dataset_id,
        )


class ExternalIdTaken(Conflict):
    reason = "EXTERNAL_ID_TAKEN"

    def __init__(self, external_id: str) -> None:
        super().__init__(f"another company has the external_id {external_id!r}", external_id=external_id)


class WrongState(DatastatusError):
    """Right in itself, but not in the present state."""


class ConnectionNotLinked(WrongState):
    reason = "CONNECTION_NOT_LINKED"

    def __init__(self, subject: str, link_url: str) -> None:
        """`link_url` is empty where there is no connection that could be linked."""
        advice = "the end user links it at its link_url" if link_url else "create a connection first"
        super().__init__(f"{subject} is not linked; {advice}", link_url=link_url)


class ConnectionDeauthorized(WrongState):
    reason = "CONNECTION_DEAUTHORIZED"

    def __init__(self, connection_id: str, link_url: str) -> None:
        super().__init__(
            f"the source no longer accepts connection {connection_id}; "
            "the end user re-authorises it at its link_url",
            link_url=link_url,
        )


class CredentialsKeyMissing(WrongState):
    reason = "CREDENTIALS_KEY_MISSING"

    def __init__(self) -> None:
        super().__init__(
            "this service has no key to keep credentials under; its operator sets "
            "DATASTATUS_CREDENTIALS_KEYS_FILE or DATASTATUS_CREDENTIALS_KEYS"
        )


class SettingLocked(WrongState):
    reason = "SETTING_LOCKED"

    def __init__(self, data_type: str) -> None:
        super().__init__(
            f"the default setting of {data_type} is locked: companies cannot have another; nothing was changed",
            data_type=data_type,
        )


class IllegalTransition(WrongState):
    reason = "ILLEGAL_TRANSITION"

    def __init__(self, dataset_id: str, from_status: str, to_status: str) -> None:
        super().__init__(
            f"dataset {dataset_id} is {from_status} and cannot become {to_status}; nothing was changed",
            **{"from": from_status, "to": to_status},
        )


class ClientClosed(WrongState):
    """No service was asked, or its answer is no longer waited for."""

    reason = "CLIENT_CLOSED"

    def __init__(self) -> None:
        super().__init__("this client is closed; close it only after its calls and watches, or make another")


class Overtaken(DatastatusError):
    """Somebody else has moved on meanwhile."""


class LeaseLost(Overtaken):
    reason = "LEASE_LOST"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(
            f"the lease on dataset {dataset_id} is no longer yours: it expired, or the dataset was cancelled "
            "or given to another worker; drop this work",
            dataset_id=dataset_id,
        )


class ConnectorSilent(Overtaken):
    reason = "CONNECTOR_SILENT"

    def __init__(self, connector_name: str, lease_seconds: float) -> None:
        super().__init__(
            f"connector {connector_name!r} was silent for longer than a lease lasts ({lease_seconds:g} s); "
            "dial again, and send heartbeats"
        )


class HistoryForked(Overtaken):
    """A restore or a failover has lost transitions that a watcher may have seen."""

    reason = "HISTORY_FORKED"

    def __init__(self, fork_seq: int) -> None:
        super().__init__(
            f"the history that you have seen goes on differently after seq {fork_seq}; start with a snapshot",
            fork_seq=str(fork_seq),
        )


class Expired(DatastatusError):
    """What was asked for is no longer kept."""


class ResumeExpired(Expired):
    reason = "RESUME_EXPIRED"

    def __init__(self, oldest_seq: int) -> None:
        super().__init__(
            f"transitions before seq {oldest_seq} are no longer kept; start with a snapshot",
            oldest_seq=str(oldest_seq),
        )


class PageTokenExpired(Expired):
    reason = "PAGE_TOKEN_EXPIRED"

    def __init__(self) -> None:
        super().__init__("what this page_token reads from is no longer kept; start again")


class Exhausted(DatastatusError):
    """A limit is reached."""


class TooManyWatchers(Exhausted):
    reason = "TOO_MANY_WATCHERS"

    def __init__(self, watchers_max: int) -> None:
        super().__init__(
            f"this server serves {watchers_max} watchers at most and does; try again later, or another server"
        )


class SlowWatcher(Exhausted):
    reason = "SLOW_WATCHER"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"nothing was taken from this stream for {seconds:g} s; read faster, and resume with the last token"
        )


class Unavailable(DatastatusError):
    """Not now; the same call may succeed in a moment."""


class Draining(Unavailable):
    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("this server is shutting down; call again, on another server if there is one")


class SourceNotAsked(Unavailable):
    """The source could not be asked whether it accepts credentials."""

    reason = "SOURCE_UNAVAILABLE"

    def __init__(self, integration_key: str, source_error: str, code: str) -> None:
        super().__init__(
            f"{integration_key} could not be asked whether it accepts these credentials: {source_error}; "
            "nothing was changed, so try again later",
            code=code,
        )


class StoreDown(Unavailable):
    reason = "STORE_DOWN"

    def __init__(self) -> None:
        super().__init__(
            "the database cannot be reached; call again, with the same request_id where one was given, "
            "as the request may have been carried out"
        )


class StoreFull(StoreDown):
    """The disk of the database is full. Unlike where it cannot be reached, it is known that nothing was changed."""

    def __init__(self) -> None:
        Unavailable.__init__(self, "nothing was changed, as the disk of the database is full")


class SnapshotNotSpooled(StoreDown):
    """There is no room, in the folder for temporary files, for a snapshot that is too large for memory."""

    def __init__(self) -> None:
        Unavailable.__init__(
            self,
            "this server has no room for the snapshot just now; call again, on another server if there is one",
        )


class SourceError(DatastatusError):
    """What a connector met at its source, or a mapping in its data.

    `code` is stable and for programs (`BOOK_LOCKED`); the message tells the end user what to do.
    `terminal_status` names the status in which the dataset ends.
    """

    reason = "SOURCE_ERROR"
    terminal_status: ClassVar[str]

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code)
        self.code = code


class SourceUnavailable(SourceError):
    """The source could not be read: missing, locked, foreign, broken, or out of reach."""

    terminal_status = "FETCH_ERROR"


class SourceLocked(SourceUnavailable):
    """Somebody else works on the source just now and has locked it."""


class SourceOutOfReach(SourceUnavailable):
    """The source is down, or the way to it is; it did not answer, or said that it cannot for the moment."""


class SourceAuthFailed(SourceError):
    """The source no longer accepts the connection's credentials."""

    terminal_status = "AUTH_ERROR"


class SourcePermissionDenied(SourceError):
    """The credentials are accepted but may not read this data type."""

    terminal_status = "PERMISSIONS_ERROR"


class SourceRateLimited(SourceError):
    """The source refuses for too many requests; `retry_after_seconds` is what it asks for, or None."""

    terminal_status = "RATE_LIMIT_ERROR"

    def __init__(self, message: str, *, code: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class SourceUnsupported(SourceError):
    """This source has no such data, found while fetching."""

    terminal_status = "NOT_SUPPORTED"


class MappingFailed(SourceError):
    """One raw record cannot be expressed in the standard model."""

    terminal_status = "MAP_ERROR"

    def __init__(self, record_id: str, field: str, problem: str) -> None:
        super().__init__(f"record {record_id}, field {field}: {problem}", code="RECORD_NOT_MAPPABLE")
        self.record_id = record_id
        self.field = field
        self.problem = problem


def from_reason(
    reason: str, message: str, metadata: Mapping[str, str], violations: Sequence[FieldViolation] = ()
) -> DatastatusError | None:
    """The error that a service has sent, as the class that it was there; None for a reason not known here.

    `violations` are those of InvalidFields.
    """
    kind = _by_reason(DatastatusError).get(reason)
    if kind is None:
        return None
    # Its constructor makes the message from values; here the message is what there is.
    error = kind.__new__(kind)
    DatastatusError.__init__(error, message, **metadata)
    if isinstance(error, InvalidFields):
        error.violations, error.left_out = tuple(violations), 0
    return error


def _by_reason(branch: type[DatastatusError]) -> dict[str, type[DatastatusError]]:
    found = {branch.reason: branch} if "reason" in vars(branch) else {}
    for kind in branch.__subclasses__():
        found |= _by_reason(kind)
    return found
