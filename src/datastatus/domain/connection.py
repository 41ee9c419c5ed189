"""Companies and their connections: the states of a link, and how a sync finds its connection."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from datastatus import errors


class ConnectionStatus(StrEnum):
    """`PENDING_AUTH → LINKED → DEAUTHORIZED | UNLINKED → LINKED`."""

    PENDING_AUTH = "PENDING_AUTH"
    LINKED = "LINKED"
    DEAUTHORIZED = "DEAUTHORIZED"
    UNLINKED = "UNLINKED"


@dataclass(frozen=True, slots=True)
class Company:
    id: UUID
    name: str
    external_id: str | None
    created: datetime


@dataclass(frozen=True, slots=True)
class ConnectorPresence:
    """A connector that serves this connection now, one of `connectors`: that which has been online longest."""

    connector_name: str
    version: str
    address: str
    online_since: datetime
    connectors: int


@dataclass(frozen=True, slots=True)
class ConnectionProblem:
    """Something that went wrong with a connection; `resolved` is None while it still stands."""

    code: str
    message: str
    occurred: datetime
    resolved: datetime | None


@dataclass(frozen=True, slots=True)
class Connection:
    """One company's link to one integration. `last_sync` is the newest COMPLETE of any data type."""

    id: UUID
    company_id: UUID
    integration_key: str
    status: ConnectionStatus
    created: datetime
    first_linked: datetime | None = None
    last_sync: datetime | None = None
    errors: tuple[ConnectionProblem, ...] = ()
    connector: ConnectorPresence | None = None


class Candidate(NamedTuple):
    """A connection that may answer a sync, with the data types that its integration can read."""

    id: UUID
    status: ConnectionStatus
    integration_key: str
    data_types: Collection[str]


def choose_connection(
    company_id: UUID, data_type: str, candidates: Collection[Candidate], link_url: Callable[[UUID], str]
) -> Candidate:
    """The connection that answers a sync which names none.

    The one linked connection that supports the type; where none supports it, the one linked connection (its
    dataset ends NOT_SUPPORTED). Raises ConnectionRequired where several could answer, ConnectionNotLinked
    where none is linked, with the link_url of one that would answer if it were.
    """
    linked = [c for c in candidates if c.status is ConnectionStatus.LINKED]
    supporting = [c for c in linked if data_type in c.data_types]
    match supporting or linked:
        case []:
            able = [c for c in candidates if data_type in c.data_types] or list(candidates)
            raise errors.ConnectionNotLinked(f"company {company_id}", link_url(able[0].id) if able else "")
        case [only]:
            return only
        case several:
            raise errors.ConnectionRequired(str(company_id), [str(c.id) for c in several])
