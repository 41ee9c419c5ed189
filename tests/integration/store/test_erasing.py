"""What is left of a deleted connection: its datasets and their transitions, and nothing that it had brought."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.validation import Finding, Severity
from datastatus.engine import retention
from datastatus.engine.retention import Eraser
from datastatus.store import companies, datasets, records, staging, validation
from datastatus.store.journal import Change
from datastatus.store.staging import MappedColumns
from stores import Link, Store

DELETED_SECONDS = 3600


async def processing(store: Store, link: Link, record_ids: Sequence[str], name: str) -> tuple[UUID, UUID]:
    """A dataset in PROCESSING with these records staged, and a finding of each: (its id, its lease token)."""
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    await staging.stage_page(store.database, dataset_id, token, 0, [b"{}"])
    await staging.seal_staging(store.database, dataset_id, 1, token, whole=True)
    count = len(record_ids)
    mapped = MappedColumns(
        record_ids=list(record_ids),
        bodies=[f'{{"name": "{name}"}}'] * count,
        content_hashes=[name.encode()] * count,
        source_modified=[None] * count,
        days=[None] * count,
        party_ids=[None] * count,
    )
    await staging.add_mapped(store.database, dataset_id, 1, 0, mapped)
    findings = [Finding("RULE", Severity.WARNING, one, "name", "is odd", None, name) for one in record_ids]
    await validation.add_validation_issues(store.database, dataset_id, 1, 0, findings)
    for status in (DatasetStatus.MAPPING, DatasetStatus.VALIDATING, DatasetStatus.PROCESSING):
        await store.change(Change(dataset_id, status, held_token=token))
    return dataset_id, token


async def publish(store: Store, link: Link, record_ids: Sequence[str], name: str) -> UUID:
    dataset_id, token = await processing(store, link, record_ids, name)
    await staging.publish_dataset(store.database, dataset_id, token, "done")
    await staging.discard_staging(store.database, dataset_id, 1)
    return dataset_id


async def fail(store: Store, link: Link, message: str) -> UUID:
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    change = Change(dataset_id, DatasetStatus.FETCH_ERROR, held_token=token, error_message=message)
    await store.change(change)
    return dataset_id


async def unlink(store: Store, link: Link) -> None:
    assert await companies.unlink_connection(
        store.database, link.connection_id, delete=True, description="deleted"
    )


async def delete(store: Store, link: Link, *, minutes_ago: int = 61) -> None:
    await unlink(store, link)
    await store.sql.execute(
        "UPDATE connection SET deleted = deleted - make_interval(mins => $2) WHERE id = $1",
        link.connection_id,
        minutes_ago,
    )


LEFT = {
    "record_set": "SELECT count(*) FROM record_set WHERE connection_id = $1",
    "publication": """
        SELECT count(*) FROM publication p JOIN record_set s ON s.id = p.record_set_id WHERE s.connection_id = $1
    """,
    "record": "SELECT count(*) FROM record r JOIN record_set s ON r.record_set_id = s.id AND s.connection_id = $1",
    "validation_issue": """
        SELECT count(*) FROM validation_issue i JOIN dataset d ON d.id = i.dataset_id WHERE d.connection_id = $1
    """,
    "connection_error": "SELECT count(*) FROM connection_error WHERE connection_id = $1",
    "connection_credentials": "SELECT count(*) FROM connection_credentials WHERE connection_id = $1",
}
NOTHING = dict.fromkeys(LEFT, 0)


async def left(store: Store, link: Link) -> dict[str, int]:
    """How many rows each table still has of a connection."""
    return {table: await store.sql.fetchval(query, link.connection_id) for table, query in LEFT.items()}


async def is_erased(store: Store, link: Link) -> bool:
    return await store.sql.fetchval(
        "SELECT erased IS NOT NULL FROM connection WHERE id = $1", link.connection_id
    )


async def test_of_a_deleted_connection_only_its_history_is_left(store: Store) -> None:
    link, other = await store.connection(), await store.connection()
    for one in (link, other):
        await publish(store, one, ["a", "b", "c"], "before")
        await publish(store, one, ["a", "b"], "after")
    failed = await fail(store, link, "record a, field name: found after")
    await store.sql.execute("INSERT INTO connection_error VALUES ($1, now(), 'X', 'a@b')", link.connection_id)
    kept = await left(store, other)
    eraser = Eraser(store.database, DELETED_SECONDS)

    await delete(store, link, minutes_ago=59)
    await eraser.erase()
    assert await left(store, link) == kept
    await store.sql.execute(
        "UPDATE connection SET deleted = deleted - interval '2 minutes' WHERE id = $1", link.connection_id
    )
    await eraser.erase()

    assert await left(store, link) == NOTHING
    assert await is_erased(store, link)
    assert await left(store, other) == kept
    assert not await is_erased(store, other)
    history = await datasets.list_datasets(
        store.database, datasets.DatasetFilter(connection_id=link.connection_id), None, 10
    )
    assert [one.status for one in history] == [
        DatasetStatus.FETCH_ERROR,
        DatasetStatus.COMPLETE,
        DatasetStatus.COMPLETE,
    ]
    message = (await store.dataset(failed)).error_message
    assert message == "What went wrong was erased with the connection."


async def test_of_a_connection_that_is_not_deleted_nothing_is_erased(store: Store) -> None:
    link = await store.connection()
    await publish(store, link, ["a"], "one")
    kept = await left(store, link)
    assert not await records.erase_records(store.database, link.connection_id, 10)
    assert not await companies.note_erased(store.database, link.connection_id)
    assert await left(store, link) == kept


async def test_what_a_killed_server_has_left_the_next_one_erases(store: Store) -> None:
    link = await store.connection()
    await publish(store, link, [f"r{n}" for n in range(7)], "one")
    await delete(store, link)
    for rest in (5, 3):
        assert await records.erase_records(store.database, link.connection_id, 2)
        assert (await left(store, link))["record"] == rest
    # It is not erased while there is something.
    assert not await companies.note_erased(store.database, link.connection_id)
    await Eraser(store.database, DELETED_SECONDS).erase()
    assert await left(store, link) == NOTHING
    assert await is_erased(store, link)


async def test_servers_that_erase_at_once_leave_nothing_either(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_VERSIONS_AT_ONCE", 3)
    monkeypatch.setattr(retention, "_DATASETS_AT_ONCE", 1)
    links = [await store.connection() for _ in range(3)]
    for link in links:
        for name in ("one", "two"):
            await publish(store, link, [f"r{n}" for n in range(20)], name)
        await fail(store, link, "it failed")
        await delete(store, link)
    erasers = [Eraser(store.database, DELETED_SECONDS) for _ in range(4)]
    await asyncio.gather(*(one.erase() for one in erasers))
    # What one of them passed over, as another had it in hand, the next round finds.
    await erasers[0].erase()
    for link in links:
        assert await left(store, link) == NOTHING
        assert await is_erased(store, link)


async def test_a_publication_into_a_connection_that_is_deleted_leaves_nothing_for_ever(store: Store) -> None:
    link, waiting = await store.connection(), await store.connection()
    for one in (link, waiting):
        await publish(store, one, ["a", "b"], "one")
    dataset_id, token = await processing(store, link, ["a", "b"], "two")
    eraser = Eraser(store.database, 0)
    async with store.sql.transaction():
        await store.sql.execute(
            "SELECT FROM record r JOIN record_set s ON s.id = r.record_set_id"
            " WHERE s.connection_id = $1 FOR UPDATE OF r",
            link.connection_id,
        )
        publishing = asyncio.create_task(staging.publish_dataset(store.database, dataset_id, token, "done"))
        await store.until_it_blocks()
        await unlink(store, link)
        await unlink(store, waiting)
        # Nobody waits for the publication.
        await eraser.erase()
        assert await left(store, waiting) == NOTHING
        assert not await is_erased(store, link)
    with pytest.raises(errors.LeaseLost):
        await publishing
    await eraser.erase()
    assert await left(store, link) == NOTHING
    assert await is_erased(store, link)
    with pytest.raises(errors.LeaseLost):
        await staging.publish_dataset(store.database, dataset_id, token, "done")
    await eraser.erase()
    assert await left(store, link) == NOTHING


async def test_records_are_erased_by_an_index(store: Store) -> None:
    link, other = await store.connection(), await store.connection()
    for one in (link, other):
        await publish(store, one, ["a"], "one")
    await store.sql.execute(
        """
        INSERT INTO record (record_set_id, record_id, valid_from, body, content_hash, modified)
        SELECT id, 'x' || n, 1, '{}', '', now() FROM record_set CROSS JOIN generate_series(1, 20000) n
        WHERE connection_id = $1
        """,
        other.connection_id,
    )
    await delete(store, link)
    scans = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE relname = 'record'"
    async with store.sql.transaction():
        before = await store.sql.fetchval(scans)
        assert await store.sql.fetchval("SELECT erase_records($1, 10)", link.connection_id)
        assert await store.sql.fetchval(scans) == before
    assert await left(store, link) == NOTHING | {"validation_issue": 1}
