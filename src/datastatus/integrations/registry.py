"""The integrations that are installed: found by entry point, so that a plug-in needs no change here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from datastatus import errors
from datastatus.integrations.base import Integration

ENTRY_POINT_GROUP = "datastatus.integrations"

Registry = Mapping[str, Integration[Any]]


def load_registry() -> Registry:
    """Every installed integration by its key. Two with one key, or one under another name, is a ValueError."""
    registry: dict[str, Integration[Any]] = {}
    for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda found: found.name):
        integration: Integration[Any] = entry_point.load()
        key = integration.info.key
        if key in registry or key != entry_point.name:
            raise ValueError(
                f"entry point {entry_point.name} = {entry_point.value} offers the integration {key!r}; "
                "names and keys must be equal and each stand once"
            )
        registry[key] = integration
    return registry


def find_integration(registry: Registry, key: str) -> Integration[Any]:
    """Raises IntegrationNotFound."""
    try:
        return registry[key]
    except KeyError as exc:
        raise errors.IntegrationNotFound(key) from exc
