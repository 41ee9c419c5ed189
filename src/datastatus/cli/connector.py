"""`datastatus connector`: read an on-premise source for connections, from wherever the source is."""

from __future__ import annotations

import asyncio
import os
import platform
from typing import Annotated

import grpc
from cyclopts import Parameter, validators

from datastatus import errors
from datastatus.cli.client import DEFAULT_SERVER, Server, explain
from datastatus.cli.exits import EXIT_OK, EXIT_SERVER
from datastatus.cli.logs import configure_logs, log_loop_errors
from datastatus.cli.output import exit_with_usage, print_error, print_note
from datastatus.cli.process import first_cause, first_of, stop_signals
from datastatus.client import translate
from datastatus.config import LogLevel
from datastatus.connector.runtime import ConnectorRuntime
from datastatus.integrations.base import IntegrationInfo
from datastatus.integrations.registry import IntegrationUnusable, find_integration, load_registry

# How long a stop waits for fetches to end; what is left then goes to other connectors.
_DRAIN_SECONDS = 20.0
# What the service takes.
_CAPACITY_MAX = 1000


def connector(
    integration: str,
    /,
    *,
    connection: tuple[str, ...],
    name: str | None = None,
    capacity: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=_CAPACITY_MAX))] = 4,
    log_level: Annotated[LogLevel, Parameter(env_var="DATASTATUS_LOG_LEVEL")] = "warning",
    server: Server = DEFAULT_SERVER,
    **options: str,
) -> int:
    """Read an on-premise source for one or more connections, until SIGTERM or Ctrl-C.

    It dials the service, so it can run behind a firewall, and reconnects by itself. Example:
    datastatus connector gnucash --book accounts.gnucash --connection ID

    Parameters
    ----------
    integration
        The kind of source, such as `gnucash`.
    connection
        The connection that it serves; may be given several times.
    name
        What it is called in the service; default INTEGRATION@HOST.
    capacity
        How many data types it reads at once.
    options
        What the integration needs to know, such as --book FILE for gnucash.
    """
    configure_logs(log_level)
    try:
        found = find_integration(load_registry(), integration)
    except (errors.IntegrationNotFound, IntegrationUnusable) as exc:
        exit_with_usage(f"{exc}\n  `datastatus integrations list` tells what is installed here")
    if problem := _problem(found.info, options):
        exit_with_usage(problem)
    for path in _absent_files(found.info, options):
        print_note(f"the file {path} cannot be found; nothing can be read until it is there")
    runtime = ConnectorRuntime(
        found,
        server=server,
        connector_name=name or f"{integration}@{platform.node()}",
        connection_ids=connection,
        capacity=capacity,
        options=options,
        on_event=print_note,
    )
    try:
        asyncio.run(_run(runtime))
    except BaseException as exc:
        cause = first_cause(exc)
        if not isinstance(cause, grpc.aio.AioRpcError):
            raise
        print_error(explain(translate(cause), server))
        return EXIT_SERVER
    return EXIT_OK


def _problem(info: IntegrationInfo, options: dict[str, str]) -> str | None:
    """What is wrong with the options, or None."""
    if info.self_driven:
        return f"{info.key} is self-driven: its own program reports over ConnectorService"
    known = {option.name: option for option in info.connector_options}
    if unknown := sorted(options.keys() - known.keys()):
        return f"{info.key} has no option --{unknown[0]}; it has {', '.join(f'--{one}' for one in known) or 'none'}"
    missing = [option for option in info.connector_options if option.required and option.name not in options]
    if missing:
        return f"{info.key} needs --{missing[0].name}: {missing[0].help}"
    return None


def _absent_files(info: IntegrationInfo, options: dict[str, str]) -> list[str]:
    named = [options[one.name] for one in info.connector_options if one.is_file and one.name in options]
    # Not Path: it raises where somebody may not look, or has no home.
    paths = [os.path.abspath(os.path.expanduser(one)) for one in named]
    return [one for one in paths if not os.path.exists(one)]


async def _run(runtime: ConnectorRuntime) -> None:
    """Run until told to stop, then finish what is in hand; told once more, leave at once."""
    log_loop_errors()
    with stop_signals() as stopped:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(runtime.run())
            await first_of(running, stopped)
            if not running.done():
                stopped.clear()
                print_note("finishing what is in hand; Ctrl-C leaves at once")
                draining = tasks.create_task(runtime.drain(_DRAIN_SECONDS))
                await first_of(running, stopped)
                draining.cancel()
            running.cancel()
