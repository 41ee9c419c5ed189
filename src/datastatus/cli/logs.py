"""Logging of the long-running commands: to standard error, for people on a terminal, else JSON lines."""

from __future__ import annotations

import logging
from typing import Literal

import structlog

from datastatus.cli.standard_error import standard_error

LogLevel = Literal["debug", "info", "warning", "error"]


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
