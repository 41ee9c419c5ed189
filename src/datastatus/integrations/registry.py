"""The integrations that are installed: found by entry point, so that a plug-in needs no change here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from datastatus import errors
from datastatus.domain.spelling import did_you_mean
from datastatus.integrations.base import Integration, IntegrationInfo

ENTRY_POINT_GROUP = "datastatus.integrations"

Registry = Mapping[str, Integration[Any]]


class IntegrationUnusable(Exception):
    """What is installed under an entry point is no integration. The message says which, and why not."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What one entry point offers: an integration, or why it is none. `source` names its distribution."""

    name: str
    source: str
    integration: Integration[Any] | None
    problem: str | None = None


def installed_integrations() -> Iterator[Installed]:
    """Everything under the entry point group, by name, whether or not it can be used."""
    for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda found: found.name):
        source = f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "(unknown)"
        try:
            yield Installed(entry_point.name, source, _load(entry_point))
        except IntegrationUnusable as exc:
            yield Installed(entry_point.name, source, None, str(exc))


def load_registry() -> Registry:
    """Every installed integration by its key. Raises IntegrationUnusable."""
    registry: dict[str, Integration[Any]] = {}
    for found in installed_integrations():
        if found.integration is None:
            raise IntegrationUnusable(f"{found.problem}; repair or uninstall {found.source}")
        if found.name in registry:
            raise IntegrationUnusable(
                f"the integration {found.name} is installed twice; uninstall one of both"
            )
        registry[found.name] = found.integration
    return registry


def find_integration(registry: Registry, key: str) -> Integration[Any]:
    """Raises IntegrationNotFound."""
    try:
        return registry[key]
    except KeyError as exc:
        installed = f"installed are {', '.join(sorted(registry))}; others are found at the next start"
        raise errors.IntegrationNotFound(key, did_you_mean(key, registry, installed)) from exc


def plug_ins(registry: Registry) -> Collection[str]:
    """The keys of those that do not come with datastatus itself."""
    return {key for key, one in registry.items() if type(one).__module__.split(".")[0] != "datastatus"}


def data_types_of(registry: Registry, *keys: str) -> Collection[str]:
    """What any of these integrations can read; nothing of one that is not installed here."""
    found = [registry[key].info.data_types for key in keys if key in registry]
    return found[0] if len(found) == 1 else frozenset().union(*found)


def _load(entry_point: EntryPoint) -> Integration[Any]:
    where = f"entry point {entry_point.name} = {entry_point.value}"
    try:
        integration = entry_point.load()
    except (Exception, SystemExit) as exc:
        # Anything can go wrong in somebody else's module.
        raise IntegrationUnusable(f"{where} cannot be loaded: {type(exc).__name__}: {exc}") from exc
    info = getattr(integration, "info", None)
    if not isinstance(info, IntegrationInfo):
        raise IntegrationUnusable(f"{where} is no integration: it has no `info` of type IntegrationInfo")
    if info.key != entry_point.name:
        raise IntegrationUnusable(f"{where} offers the integration {info.key!r}; name and key must be equal")
    return integration
