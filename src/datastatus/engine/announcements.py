"""Tells the other processes of new transitions, and hears of theirs. Hints only: the table is the truth."""

from __future__ import annotations

import asyncio

import structlog

from datastatus import errors
from datastatus.engine.watch_hub import WatchHub
from datastatus.store import journal
from datastatus.store.database import Database
from datastatus.store.journal import Tail

_log = structlog.get_logger(__name__)

_CHANNEL = "datastatus_transitions"
# Announcements of many commits go as one.
_PAUSE_SECONDS = 0.01
# Without commits one goes now and then all the same: a listener that hears nothing for long is deaf.
_IDLE_SECONDS = 2.0
_SILENCE_SECONDS_MAX = 3 * _IDLE_SECONDS
_RECONNECT_SECONDS = 1.0
_ANNOUNCE_SECONDS_MAX = 5.0


class Announcements:
    """Between the hub of this process and those of the others."""

    def __init__(self, database: Database, hub: WatchHub) -> None:
        self._database = database
        self._hub = hub
        self._committed = asyncio.Event()
        # The newest committed here since the last announcement; None where that is not known.
        self._through_seq: int | None = 0

    def committed(self, tail: Tail | None = None) -> None:
        """Transitions were committed here, those of `tail` if it is known: take notice, and tell the others."""
        self._hub.committed(tail)
        if tail is None:
            self._through_seq = None
        elif self._through_seq is not None:
            self._through_seq = max(self._through_seq, tail.transitions[-1].seq)
        self._committed.set()

    async def run(self) -> None:
        """Announce and listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announce())
            tasks.create_task(self._listen())

    async def _announce(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._committed.wait()
            except TimeoutError:
                pass
            self._committed.clear()
            through_seq, self._through_seq = self._through_seq, 0
            try:
                # After the commit and on a connection of its own: it cannot hold up or fail a writer.
                await journal.announce_transitions(
                    self._database, through_seq, timeout_seconds=_ANNOUNCE_SECONDS_MAX
                )
            except errors.StoreDown as exc:
                _log.warning("transitions_not_announced", cause=repr(exc.__cause__))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self) -> None:
        """Meanwhile the tailer polls: all that a lost listener costs is a quarter of a second."""
        lost = False

        def heard(through_seq: str) -> None:
            nonlocal lost
            if lost:
                _log.info("listener_back")
                lost = False
            self._hub.heard(int(through_seq) if through_seq else None)

        while True:
            try:
                await self._database.listen(_CHANNEL, heard, _SILENCE_SECONDS_MAX)
            except errors.StoreDown as exc:
                _log.warning("listener_lost", cause=repr(exc.__cause__), reconnect_seconds=_RECONNECT_SECONDS)
            lost = True
            await asyncio.sleep(_RECONNECT_SECONDS)
