"""Pages are mapped alike in a thread and in a process; a process that dies is told of and replaced."""

from __future__ import annotations

import json
import os
import signal

import pytest

from datastatus import errors
from datastatus.domain.validation import Books
from datastatus.engine.mapping import MapPage, MapperDied, Mappers, MappingJob
from datastatus.integrations.registry import load_registry

JOB = MappingJob("gnucash", "taxRates", Books())
MANY = 1_000_000


def tax_rate(key: str, kind: int = 2, name: str = "VAT") -> bytes:
    entry = {"account": "vat", "account_name": "VAT", "type": kind, "amount": [1900, 100]}
    return json.dumps({"id": key, "name": name, "invisible": 0, "entries": [entry]}).encode()


async def test_pages_are_mapped_alike_wherever_it_is_done() -> None:
    pages = [[tax_rate(f"t{n}") for n in range(start, start + 50)] for start in (0, 50)]
    pages[1].append(tax_rate("nul", name="a\0b"))
    mappers = Mappers(load_registry(), processes=1)
    async with mappers.mapper(JOB, 100) as in_thread, mappers.mapper(JOB, MANY) as in_process:
        for page in pages:
            assert await in_thread(page) == await in_process(page)
        refused = await in_process(pages[1])
        assert (refused.refused, len(refused.columns.record_ids)) == (1, 50)
        assert [(one.rule_id, one.record_id, one.field) for one in refused.findings] == [
            ("FIELD_VALUE", "nul", "name")
        ]
        for wrong, field in ((tax_rate("t1", kind=3), "entries[0].type"), (b"{", "(whole record)")):
            for mapper in (in_thread, in_process):
                with pytest.raises(errors.MappingFailed) as caught:
                    await mapper([wrong])
                assert caught.value.field == field
    mappers.end()


async def pages_until_it_fails(mapper: MapPage) -> None:
    """A death may be noticed a moment after the next page was given away."""
    for _ in range(1000):
        await mapper([tax_rate("t1")])


async def test_a_process_that_is_killed_is_told_of_and_replaced() -> None:
    mappers = Mappers(load_registry(), processes=1)
    async with mappers.mapper(JOB, MANY) as mapper:
        before = await mapper([tax_rate("t1")])
        assert mappers.process_ids
        for process_id in mappers.process_ids:
            os.kill(process_id, signal.SIGKILL)
        with pytest.raises(MapperDied):
            await pages_until_it_fails(mapper)
        assert await mapper([tax_rate("t1")]) == before
    mappers.end()
    assert not mappers.process_ids
