"""Writes the table of settings in docs/settings.md from config.py; --check only compares."""

from __future__ import annotations

import inspect
from pathlib import Path

from annotated_types import Ge, Gt, Le
from pages import bring_up_to_date, with_table
from pydantic.fields import FieldInfo

from datastatus.cli.serve import serve
from datastatus.config import Settings, environment_name, flag

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = "| in the environment | as a flag | default | limits | meaning |\n|---|---|---|---|---|\n"


def row(name: str, field: FieldInfo) -> str:
    cells = (
        f"`{environment_name(name)}`",
        f"`{flag(name)}`" if name in inspect.signature(serve).parameters else "",
        "" if field.default_factory or field.default is None else f"`{field.default}`",
        ", ".join(filter(None, map(limit, field.metadata))),
        (field.description or "").rstrip("."),
    )
    return f"| {' | '.join(cells)} |\n"


def limit(one: object) -> str | None:
    match one:
        case Ge(ge=least):
            return f"at least {least}"
        case Gt(gt=bound):
            return f"more than {bound}"
        case Le(le=most):
            return f"at most {most}"
        case _:
            return None


if __name__ == "__main__":
    rows = [row(name, field) for name, field in Settings.model_fields.items()]
    bring_up_to_date(PAGE, with_table(PAGE, HEAD, rows))
