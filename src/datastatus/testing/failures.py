"""What is said of an integration that raises where it should not, or never comes to an end."""

from __future__ import annotations

import traceback
from typing import Any

from pydantic import ValidationError

from datastatus.domain.validation.models import model_findings
from datastatus.integrations.base import Integration


class NotAsPromised(Exception):
    """The source has answered something else than the protocol says; the message is the problem."""


class NotChecked(Exception):
    """The check cannot be made, for a reason that another one tells of."""


def told(integration: Integration[Any], exc: BaseException) -> str:
    """The problem, with the place in the integration's own code where there is one."""
    place = place_of(integration, exc)
    where = f", at {place}" if place else ""
    match exc:
        case NotAsPromised() | NotChecked():
            return str(exc)
        case ValidationError():
            refused = "; ".join(f"{one.field} {one.message}" for one in model_findings("", exc))
            return f"raised ValidationError of {exc.title}: {refused}{where}"
        case _:
            return f"raised {type(exc).__name__}{f': {exc}' if str(exc) else ''}{where}"


def place_of(integration: Integration[Any], exc: BaseException) -> str | None:
    """The innermost place of the integration's own package on the way of an error, or of what led to it."""
    for frame, line in reversed(list(traceback.walk_tb(exc.__traceback__))):
        if _is_of(integration, frame.f_globals.get("__name__", "")):
            return f"{frame.f_code.co_filename}:{line}, in {frame.f_code.co_name}"
    return place_of(integration, exc.__cause__) if exc.__cause__ is not None else None


def _is_of(integration: Integration[Any], module: str) -> bool:
    home = type(integration).__module__
    # Those that come with datastatus have a package each; of all others everything is theirs.
    package = home.rpartition(".")[0] if home.startswith("datastatus.") else home.partition(".")[0]
    return module == package or module.startswith(f"{package}.")
