"""Pages are mapped alike in a thread and in a process; what dies or hangs is told of and replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from datastatus import errors
from datastatus.domain.validation import Books
from datastatus.engine.mapping import (
    MapPage,
    MapperDied,
    Mappers,
    MappingJob,
    MappingProcess,
    MappingTimedOut,
    MapRaised,
)
from datastatus.integrations.registry import load_registry
from datastatus.tasks import in_daemon_thread
from running_service import PLUGINS

JOB = MappingJob("gnucash", "taxRates", Books())
SCRIPTED = MappingJob("scripted", "suppliers", Books())
MANY = 1_000_000


def tax_rate(key: str, kind: int = 2, name: str = "VAT") -> bytes:
    entry = {"account": "vat", "account_name": "VAT", "type": kind, "amount": [1900, 100]}
    return json.dumps({"id": key, "name": name, "invisible": 0, "entries": [entry]}).encode()


async def test_pages_are_mapped_alike_wherever_it_is_done() -> None:
    pages = [[tax_rate(f"t{n}") for n in range(start, start + 50)] for start in (0, 50)]
    pages[1].append(tax_rate("nul", name="a\0b"))
    mappers = Mappers(load_registry(), processes=1, page_seconds_max=60)
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
    mappers = Mappers(load_registry(), processes=1, page_seconds_max=60)
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


async def test_a_process_that_died_while_it_was_idle_fails_no_page() -> None:
    mappers = Mappers(load_registry(), processes=1, page_seconds_max=60)
    async with mappers.mapper(JOB, MANY) as mapper:
        before = await mapper([tax_rate("t1")])
        [dead] = mappers.process_ids
        os.kill(dead, signal.SIGKILL)
        # Until it is dead; who started it has yet to find out.
        await asyncio.to_thread(os.waitid, os.P_PID, dead, os.WEXITED | os.WNOWAIT)
        assert await mapper([tax_rate("t1")]) == before
        assert mappers.process_ids != [dead]
    mappers.end()


async def test_a_ctrl_c_that_every_process_of_a_terminal_gets_fails_no_page() -> None:
    mappers = Mappers(load_registry(), processes=1, page_seconds_max=60)
    async with mappers.mapper(JOB, MANY) as mapper:
        before = await mapper([tax_rate("t1")])
        for process_id in mappers.process_ids:
            os.kill(process_id, signal.SIGINT)
        assert await mapper([tax_rate("t1")]) == before
    mappers.end()


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scripted source, which is installed."""
    monkeypatch.syspath_prepend(PLUGINS)
    monkeypatch.setenv("SCRIPTED_SOURCE_FOLDER", str(tmp_path))
    return tmp_path


def supplier(key: str, **says: Any) -> bytes:
    return json.dumps({"id": key, "supplierName": key, "status": "Active", **says}).encode()


async def test_a_process_whose_page_is_late_is_replaced(scripts: Path) -> None:
    mappers = Mappers(load_registry(), processes=1, page_seconds_max=3)
    try:
        async with mappers.mapper(SCRIPTED, MANY) as mapper:
            await mapper([supplier("s1")])
            before = mappers.process_ids
            with pytest.raises(MappingTimedOut) as late:
                await mapper([supplier("s2"), supplier("s3", map="hangs")])
            assert (late.value.record_id, late.value.records) == ("s2", 2)
            assert (await mapper([supplier("s4")])).columns.record_ids == ["s4"]
            assert len(before) == len(mappers.process_ids) == 1
            assert before != mappers.process_ids
    finally:
        mappers.end()


async def test_only_what_comes_with_datastatus_is_mapped_in_the_server(scripts: Path) -> None:
    mappers = Mappers(load_registry(), processes=1, page_seconds_max=60)
    try:
        async with mappers.mapper(JOB, 1) as ours, mappers.mapper(SCRIPTED, 1) as of_plug_in:
            await ours([tax_rate("t1")])
            assert not mappers.process_ids
            await of_plug_in([supplier("s1")])
            assert mappers.process_ids
    finally:
        mappers.end()


async def test_a_process_whose_server_cannot_end_it_ends_by_itself(
    scripts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = MappingProcess(page_seconds_max=1)
    await process.ready()
    page = [supplier("s1", map="seizes the interpreter")]
    mapping = in_daemon_thread(partial(process.outcome, SCRIPTED, page))
    with pytest.raises(MapperDied):
        await asyncio.wait_for(mapping, timeout=30)
    assert "in map" in capfd.readouterr().err


async def test_a_thread_whose_page_is_late_is_told_of(scripts: Path) -> None:
    mappers = Mappers(load_registry(), processes=0, page_seconds_max=0.5)
    try:
        async with mappers.mapper(SCRIPTED, 1) as mapper:
            with capture_logs() as logged, pytest.raises(MappingTimedOut):
                await mapper([supplier("s1", map="hangs")])
        assert [one["event"] for one in logged] == ["mapping_thread_hangs"]
    finally:
        # It hangs until then.
        (scripts / "go").touch()


async def test_a_record_whose_id_mapping_takes_away_is_named_all_the_same(scripts: Path) -> None:
    mappers = Mappers(load_registry(), processes=0, page_seconds_max=60)
    async with mappers.mapper(SCRIPTED, 1) as mapper:
        mapped = await mapper([supplier("s1", map="takes the id")])
    assert ("s1", "id") in {(one.record_id, one.field) for one in mapped.findings}
    assert mapped.refused == 1


@pytest.mark.parametrize("processes", [0, 1])
async def test_an_error_that_is_wrong_in_itself_is_the_integrations_failure(
    scripts: Path, processes: int
) -> None:
    mappers = Mappers(load_registry(), processes, page_seconds_max=60)
    async with mappers.mapper(SCRIPTED, 1) as mapper:
        with pytest.raises(errors.MappingFailed) as named:
            await mapper([supplier("s1", map="fails oddly")])
        assert (named.value.record_id, named.value.field, named.value.problem) == ("7", "None", "3.5")
        with pytest.raises(MapRaised, match="SystemExit: it cannot be mapped") as raised:
            await mapper([supplier("s1"), supplier("s2", map="exits")])
        assert raised.value.record_id == "s2"
        assert (await mapper([supplier("s1")])).columns.record_ids == ["s1"]
    mappers.end()
