"""Logging of the long-running commands: to standard error, for people on a terminal, else JSON lines."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import structlog

from datastatus.cli.standard_error import standard_error
from datastatus.config import LogLevel

_log = structlog.get_logger(__name__)


def configure_logs(level: LogLevel) -> None:
    for_people = standard_error.isatty()
    renderer = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not for_people:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(standard_error),
        cache_logger_on_first_use=True,
    )


def log_loop_errors() -> None:
    """Log what fails in the running event loop where nobody waits for it, instead of having asyncio print it."""
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    about = {key: repr(context[key]) for key in ("task", "future", "handle", "asyncgen") if key in context}
    _log.error("loop_error", message=context["message"], **about, exc_info=context.get("exception"))
