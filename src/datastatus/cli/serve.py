"""`datastatus serve`: the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from datastatus import errors
from datastatus.bootstrap import running_service
from datastatus.cli.exits import EXIT_OK, EXIT_SERVER
from datastatus.cli.logs import configure_logs, log_loop_errors
from datastatus.cli.output import exit_with_usage, print_error, print_note
from datastatus.cli.process import allow_open_files, first_cause, first_of, settle_memory, stop_signals
from datastatus.config import LogLevel, Settings, SettingsInvalid, settings_of, unknown_variables
from datastatus.embedded import EmbeddedPostgresError
from datastatus.engine.credentials import KeyInvalid
from datastatus.integrations.registry import IntegrationUnusable
from datastatus.rpc.server import ListenFailed
from datastatus.store.opening import DatabaseUnusable

_EXPECTED = (
    ListenFailed,
    DatabaseUnusable,
    EmbeddedPostgresError,
    IntegrationUnusable,
    KeyInvalid,
    errors.Unavailable,
    OSError,
)


def serve(
    *,
    listen: str | None = None,
    database_url: str | None = None,
    data_folder: Path | None = None,
    lease_seconds: float | None = None,
    link_url_base: str | None = None,
    credentials_keys_file: Path | None = None,
    log_level: LogLevel | None = None,
) -> int:
    """Run the service until SIGTERM or Ctrl-C.

    Each flag can also be set as DATASTATUS_<FLAG> in the environment; see docs/settings.md for the others.

    Parameters
    ----------
    listen
        HOST:PORT to serve on; default 127.0.0.1:50051, port 0 for any free one.
    database_url
        A Postgres 15 or later, as postgresql://user@host/name; otherwise the embedded one is used.
    data_folder
        Where the embedded Postgres keeps its data; default ~/.local/share/datastatus.
    lease_seconds
        How long a connector or worker may be silent before its datasets go back to QUEUED; default 30.
    link_url_base
        Where end users (re-)authorise a connection: its id is appended.
    credentials_keys_file
        The keys that credentials are sealed under, one a line, newest first; for the embedded Postgres one is
        made.
    log_level
        How much is logged; default info.
    """
    try:
        settings = settings_of(
            listen=listen,
            database_url=database_url,
            data_folder=data_folder,
            lease_seconds=lease_seconds,
            link_url_base=link_url_base,
            credentials_keys_file=credentials_keys_file,
            log_level=log_level,
        )
    except SettingsInvalid as exc:
        exit_with_usage(str(exc))
    for problem in unknown_variables(os.environ):
        print_note(problem)
    configure_logs(settings.log_level)
    return run_service(_serve(settings))


def run_service(work: Coroutine[Any, Any, int]) -> int:
    """Run what runs a service; the exit code. What keeps a service from starting is told in a sentence."""
    allow_open_files()
    try:
        return uvloop.run(work)
    except BaseException as exc:
        cause = first_cause(exc)
        if not isinstance(cause, _EXPECTED):
            raise
        print_error(str(cause) or repr(cause))
        return EXIT_SERVER


async def _serve(settings: Settings) -> int:
    log_loop_errors()
    serving = asyncio.Event()
    with stop_signals() as stopped:
        async with asyncio.TaskGroup() as tasks:
            service = tasks.create_task(_serve_until(stopped, settings, serving))
            await first_of(service, stopped)
            # Once it serves it ends in order by itself; what it waits for before that may take long.
            if stopped.is_set() and not serving.is_set():
                print_note("stopping")
                service.cancel()
    return EXIT_OK


async def _serve_until(stopped: asyncio.Event, settings: Settings, serving: asyncio.Event) -> None:
    if settings.database_url is None:
        print_note("starting the embedded Postgres")
    async with running_service(settings) as service:
        serving.set()
        settle_memory()
        if service.data_place is not None:
            print_note(f"its data lies in {service.data_place}")
        print_note(f"serving on {service.address}; Ctrl-C stops")
        await stopped.wait()
        print_note("stopping")
