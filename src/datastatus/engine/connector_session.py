"""One open stream of one connector: what it serves, what it has in hand, and whether it is still heard."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from datastatus.store.datasets import Assignment
from datastatus.store.ids import new_token

# Whoever leaves so many unread gets nothing new; with what it has in hand that bounds what waits for it.
_UNREAD_MESSAGES_MAX = 100
# A lease lasts three beats. One that is late gets nothing new; one whose leases have all run out is lost.
_LATE_BEATS = 2
_SILENT_BEATS_MAX = 4


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a connector is and what it serves.

    `batch_assignments_max`: how many assignments it takes in one message; None: each by itself.
    `readable_integration_keys`: whose sources it can read; empty: whatever it serves.
    """

    connector_name: str
    version: str
    address: str
    integration_keys: frozenset[str]
    connection_ids: frozenset[UUID]
    capacity: int
    held_leases: tuple[tuple[UUID, UUID], ...] = ()
    batch_assignments_max: int | None = None
    readable_integration_keys: frozenset[str] = frozenset()

    @property
    def company_capacity(self) -> int:
        """How many of one company it takes: where it serves everybody's, one less, so that others find room."""
        return max(1, self.capacity - 1) if self.integration_keys else self.capacity


@dataclass(frozen=True, slots=True)
class Assigned:
    """What was claimed together goes to the connector together."""

    assignments: Sequence[Assignment]


class RevokeReason(StrEnum):
    CANCELLED = "CANCELLED"
    LEASE_LOST = "LEASE_LOST"


@dataclass(frozen=True, slots=True)
class Revocation:
    """The connector must drop this dataset, if it has it under this lease."""

    dataset_id: UUID
    lease_token: UUID
    reason: RevokeReason


@dataclass(frozen=True, slots=True)
class ConnectorClosing:
    """The stream is about to end; come back after `retry_after`."""

    retry_after: timedelta


@dataclass(eq=False)
class ConnectorSession:
    """The state of a stream. It gets nothing new once it is `draining`, because the connector is about to leave, or
    `closing`, because the server is.
    """

    hello: Hello
    id: UUID = field(default_factory=new_token)
    in_hand: dict[UUID, Assignment] = field(default_factory=dict)
    draining: bool = False
    closing: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    outbox: asyncio.Queue[Assigned | Revocation | ConnectorClosing] = field(default_factory=asyncio.Queue)
    # The company that was served last; the next ones have their turn. Begins anywhere.
    last_company: UUID = field(default_factory=new_token)
    _missed_beats: int = 0

    def hear(self) -> None:
        """The connector is alive."""
        if self._missed_beats >= _LATE_BEATS:
            self.wake.set()
        self._missed_beats = 0

    def miss_beat(self) -> bool:
        """A beat has passed: whether the connector has been silent for so many that it is lost."""
        # Counted, not timed: a server that was stopped for a while has heard nobody, and blames nobody.
        self._missed_beats += 1
        return self._missed_beats > _SILENT_BEATS_MAX

    @property
    def room(self) -> int:
        """How many datasets more it may be given now."""
        if self.draining or self.closing or self._missed_beats >= _LATE_BEATS:
            return 0
        if self.outbox.qsize() >= _UNREAD_MESSAGES_MAX:
            return 0
        return self.hello.capacity - len(self.in_hand)

    def full_companies(self) -> list[UUID]:
        """Those of which it has as many in hand as it takes of one."""
        in_hand = Counter(assignment.company_id for assignment in self.in_hand.values())
        return [company for company, count in in_hand.items() if count >= self.hello.company_capacity]

    def choose(self, candidates: Sequence[tuple[UUID, UUID]]) -> list[UUID]:
        """Of (dataset id, company id), in order, the datasets that it has room for."""
        in_hand = Counter(assignment.company_id for assignment in self.in_hand.values())
        chosen = []
        for dataset_id, company_id in candidates[: self.room]:
            in_hand[company_id] += 1
            if in_hand[company_id] <= self.hello.company_capacity:
                chosen.append(dataset_id)
                self.last_company = company_id
        return chosen

    def close(self, retry_after: timedelta) -> None:
        """The server is about to end the stream: the connector gets nothing new, and is told to come back."""
        self.closing = True
        self.outbox.put_nowait(ConnectorClosing(retry_after))

    def take(self, claimed: Sequence[Assignment]) -> None:
        """Put claimed datasets into its hand."""
        self.in_hand.update({assignment.dataset_id: assignment for assignment in claimed})
        self.outbox.put_nowait(Assigned(claimed))

    def drop(self, dataset_id: UUID, lease_token: UUID) -> bool:
        """The dataset is no longer in hand under this lease, and there is room for another one; whether it was."""
        assignment = self.in_hand.get(dataset_id)
        if assignment is None or assignment.lease_token != lease_token:
            return False
        del self.in_hand[dataset_id]
        self.wake.set()
        return True

    def revoke(self, dataset_id: UUID, reason: RevokeReason, lease_token: UUID | None = None) -> None:
        """Take the dataset away, if it is in hand, under this lease or any."""
        assignment = self.in_hand.get(dataset_id)
        if assignment is not None and self.drop(dataset_id, lease_token or assignment.lease_token):
            self.outbox.put_nowait(Revocation(dataset_id, assignment.lease_token, reason))
