"""Tells the other processes of new transitions, and hears of theirs. Hints only: the table is the truth."""

from __future__ import annotations

import asyncio
import math
from uuid import UUID

import structlog

from datastatus import errors
from datastatus.engine.watch_hub import WatchHub
from datastatus.store.announcements import Announcement, announce_transitions
from datastatus.store.database import Database
from datastatus.store.ids import new_token
from datastatus.store.journal import Tail
from datastatus.tasks import is_set_within

_log = structlog.get_logger(__name__)

_CHANNEL = "datastatus_transitions"
# Announcements of many commits go as one.
_PAUSE_SECONDS = 0.01
# Without commits one goes now and then all the same: a listener that hears nothing for long is deaf.
_IDLE_SECONDS = 2.0
_SILENCE_SECONDS_MAX = 3 * _IDLE_SECONDS
# Nor is anybody there who has not been heard for long.
_COMPANY_SECONDS = 3 * _IDLE_SECONDS
_RECONNECT_SECONDS = 1.0
_ANNOUNCE_SECONDS_MAX = 5.0


class Announcements:
    """Between the hub of this process and those of the others.

    As long as there are no others, commits are not announced, merely the process itself now and then.
    """

    def __init__(self, database: Database, hub: WatchHub) -> None:
        self._database = database
        self._hub = hub
        self._id = new_token()
        self._due = asyncio.Event()
        # The newest committed here since the last announcement; None where that is not known.
        self._through_seq: int | None = 0
        # Whoever hears nobody, not even himself, does not know whether he is alone.
        self._is_deaf = True
        # When another process was heard last, by the loop's clock.
        self._heard_others_time = -math.inf
        # Those that have announced commits since we did.
        self._announcing: set[UUID] = set()

    def committed(self, tail: Tail | None = None) -> None:
        """Transitions were committed here, those of `tail` if it is known: take notice, and tell the others."""
        self._hub.committed(tail)
        if tail is None:
            self._through_seq = None
        elif self._through_seq is not None:
            self._through_seq = max(self._through_seq, tail.transitions[-1].seq)
        if not self._is_alone():
            self._due.set()

    def _is_alone(self) -> bool:
        silent_seconds = asyncio.get_running_loop().time() - self._heard_others_time
        return not self._is_deaf and silent_seconds > _COMPANY_SECONDS

    async def run(self) -> None:
        """Announce and listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announce())
            tasks.create_task(self._listen())

    async def _announce(self) -> None:
        while True:
            self._due.clear()
            self._announcing.clear()
            through_seq, self._through_seq = self._through_seq, 0
            try:
                # After the commit and on a connection of its own: it cannot hold up or fail a writer.
                await announce_transitions(
                    self._database,
                    Announcement(self._id, through_seq),
                    timeout_seconds=_ANNOUNCE_SECONDS_MAX,
                )
            except errors.StoreDown as exc:
                _log.warning("transitions_not_announced", cause=repr(exc.__cause__))
            await asyncio.sleep(_PAUSE_SECONDS)
            # Whoever hears one of us reads what all have committed: together we speak as often as one alone.
            await asyncio.sleep(_PAUSE_SECONDS * len(self._announcing))
            await is_set_within(self._due, _IDLE_SECONDS)

    async def _listen(self) -> None:
        """Meanwhile the tailer polls: all that a lost listener costs is a quarter of a second."""
        lost = False

        def heard(payload: str) -> None:
            nonlocal lost
            if lost:
                _log.info("listener_back")
                lost = False
            self._heard(Announcement.parse(payload))

        while True:
            try:
                await self._database.listen(_CHANNEL, heard, _SILENCE_SECONDS_MAX)
            except errors.StoreDown as exc:
                _log.warning("listener_lost", cause=repr(exc.__cause__), reconnect_seconds=_RECONNECT_SECONDS)
            lost = self._is_deaf = True
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _heard(self, announcement: Announcement) -> None:
        is_other = announcement.process_id != self._id
        if is_other and self._is_alone():
            # It has not been told of what was committed since.
            self._due.set()
        if is_other or self._is_deaf:
            # Whoever can hear again will have heard the others before the silence is over.
            self._heard_others_time = asyncio.get_running_loop().time()
        self._is_deaf = False
        if is_other:
            if announcement.through_seq != 0:
                self._announcing.add(announcement.process_id)
            self._hub.heard(announcement.through_seq)
