"""Reads a Tryton server as the service does."""

from __future__ import annotations

import json
from typing import Any

from datastatus.domain.fetching import EVERYTHING, FetchScope
from datastatus.domain.records import StandardRecord
from datastatus.integrations.base import Retrying
from datastatus.integrations.retrying import try_once
from datastatus.integrations.tryton import TRYTON, TrytonCredentials


async def read(
    credentials: dict[str, Any],
    data_type: str,
    scope: FetchScope = EVERYTHING,
    retrying: Retrying = try_once,
) -> dict[str, Any]:
    """Every record of the type by its id, through JSON as on the way from a connector to the service."""
    records: dict[str, StandardRecord] = {}
    async with TRYTON.open({}, TrytonCredentials.model_validate(credentials), retrying) as source:
        counted = await source.count(data_type, scope)
        async for page in source.fetch(data_type, scope):
            for raw in page:
                record = TRYTON.map(data_type, json.loads(json.dumps(raw, allow_nan=False)))
                assert record.id not in records
                records[record.id] = record
    assert counted in (None, len(records))
    return records
