"""How large the numbers among the settings of a service may be."""

from __future__ import annotations

from typing import Any

from annotated_types import Le

from datastatus.config import Settings

LARGEST: dict[str, Any] = {
    name: limit.le
    for name, field in Settings.model_fields.items()
    for limit in field.metadata
    if isinstance(limit, Le)
}
