"""A source with a pipeline of its own that wants only the status engine.

Its connector, or a person with grpcurl, reports every status; the service keeps them and tells the watchers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from datastatus import errors
from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.records import StandardRecord
from datastatus.integrations.base import Integration, IntegrationInfo, RawRecord, Retrying, Source


class ExternalIntegration:
    info = IntegrationInfo(
        key="external",
        name="External pipeline",
        source_type="Other",
        data_types=frozenset(DATA_TYPES),
        online=False,
        self_driven=True,
    )

    async def verify(self, credentials: None) -> None: ...

    def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AbstractAsyncContextManager[Source]:
        raise errors.SourceUnsupported(
            "an external pipeline reads its own source; nothing of it is to be fetched here",
            code="SELF_DRIVEN",
        )

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        raise errors.MappingFailed(str(raw.get("id")), "id", "an external pipeline maps its own records")


EXTERNAL: Integration[None] = ExternalIntegration()
