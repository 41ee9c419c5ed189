"""What a watch selects is said in one way."""

from __future__ import annotations

import pytest

from datastatus.client import DatastatusClient
from datastatus.v1 import watch_pb2


async def test_filters_and_lists_together_are_refused() -> None:
    # As one more alternative the lists would widen what the filters select.
    company_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    async with DatastatusClient("127.0.0.1:1") as client:
        watch = client.watch_status(
            company_ids=[company_id], any_of=[watch_pb2.StatusFilter(data_types=["bills"])]
        )
        with pytest.raises(ValueError, match="put the lists into a filter of any_of"):
            await anext(watch)
