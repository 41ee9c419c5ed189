"""Tells the other processes of new transitions, and hears of theirs. Hints only: the table is the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from datastatus import errors
from datastatus.store import journal
from datastatus.store.database import Database

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
    """`heard` is called when any process, this one too, has announced transitions."""

    def __init__(self, database: Database, heard: Callable[[], None]) -> None:
        self._database = database
        self._heard = heard
        self._committed = asyncio.Event()

    def committed(self) -> None:
        """Transitions were committed here: look at once, and tell the others."""
        self._heard()
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
            try:
                # After the commit and on a connection of its own: it cannot hold up or fail a writer.
                await journal.announce_transitions(self._database, timeout_seconds=_ANNOUNCE_SECONDS_MAX)
            except errors.StoreDown as exc:
                _log.warning("transitions_not_announced", cause=repr(exc.__cause__))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self) -> None:
        """Meanwhile the tailer polls: all that a lost listener costs is a quarter of a second."""
        lost = False

        def heard() -> None:
            nonlocal lost
            if lost:
                _log.info("listener_back")
                lost = False
            self._heard()

        while True:
            try:
                await self._database.listen(_CHANNEL, heard, _SILENCE_SECONDS_MAX)
            except errors.StoreDown as exc:
                _log.warning("listener_lost", cause=repr(exc.__cause__), reconnect_seconds=_RECONNECT_SECONDS)
            lost = True
            await asyncio.sleep(_RECONNECT_SECONDS)
