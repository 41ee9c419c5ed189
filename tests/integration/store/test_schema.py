"""The schema, and that it refuses what the code should never ask of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from datastatus.domain.connection import ConnectionStatus
from datastatus.domain.dataset import TRANSITIONS, DatasetStatus, Trigger
from datastatus.store.migrate import _LOCK, SchemaUnusable, check_schema, migrate
from datastatus.store.opening import DatabaseUnusable
from datastatus.store.sql import migrations, queries
from datastatus.v1 import connection_pb2, dataset_pb2
from postgres import PostgresServer
from stores import Store, an_item


async def test_every_query_prepares(store: Store) -> None:
    for name, text in queries().items():
        try:
            await store.sql.prepare(text)
        except asyncpg.PostgresError as exc:
            pytest.fail(f"{name}: {exc}")


async def test_the_domain_the_database_and_the_protos_have_one_table_of_transitions(store: Store) -> None:
    pairs = await store.sql.fetch(
        """
        SELECT from_status, to_status
        FROM unnest(array_append(enum_range(NULL::dataset_status), NULL)) AS from_status,
            unnest(enum_range(NULL::dataset_status)) AS to_status
        WHERE is_legal_transition(from_status, to_status)
        """
    )
    known = {(None, "QUEUED")} | {
        (str(before), str(after)) for before, followers in TRANSITIONS.items() for after in followers
    }
    assert {(row["from_status"], row["to_status"]) for row in pairs} == known

    terminal = await store.sql.fetch(
        "SELECT s FROM unnest(enum_range(NULL::dataset_status)) s WHERE is_terminal_status(s)"
    )
    assert {row[0] for row in terminal} == {str(one) for one in DatasetStatus if one.is_terminal}

    names = {name.removeprefix("DATASET_STATUS_") for name in dict(dataset_pb2.DatasetStatus.items())}
    assert names - {"UNSPECIFIED"} == {str(one) for one in DatasetStatus}


@pytest.mark.parametrize(
    ("name", "domain", "proto", "prefix"),
    [
        ("sync_trigger", Trigger, dataset_pb2.Trigger, "TRIGGER_"),
        ("connection_status", ConnectionStatus, connection_pb2.ConnectionStatus, "CONNECTION_STATUS_"),
    ],
)
async def test_enumerations_are_the_same_everywhere(store: Store, name, domain, proto, prefix) -> None:
    in_database = {row[0] for row in await store.sql.fetch(f"SELECT unnest(enum_range(NULL::{name}))")}
    assert in_database == {str(one) for one in domain}
    assert {key.removeprefix(prefix) for key in dict(proto.items())} - {"UNSPECIFIED"} == in_database


async def test_of_several_servers_that_start_at_once_one_migrates(server: PostgresServer) -> None:
    await server.execute("CREATE DATABASE race")
    applied = await asyncio.gather(*(migrate(server.dsn_of("race")) for _ in range(8)))
    await server.execute("DROP DATABASE race")

    everything = [f"{number:04}_{name}" for number, name, _ in migrations()]
    assert sorted(applied, key=len) == [[]] * 7 + [everything]


async def test_a_schema_of_a_later_release_is_left_alone(own_store: Store) -> None:
    await own_store.sql.execute(
        "INSERT INTO migration (number, name, digest) VALUES (9999, 'of_the_future', '')"
    )
    with pytest.raises(SchemaUnusable, match="run the newer release"):
        await migrate(own_store.dsn)


@pytest.mark.parametrize(
    "older",
    ["ALTER TABLE migration DROP COLUMN digest", "UPDATE migration SET digest = 'another' WHERE number = 2"],
    ids=["without digests", "another text"],
)
async def test_a_schema_that_was_never_released_is_left_alone(own_store: Store, older: str) -> None:
    await own_store.sql.execute(older)
    with pytest.raises(SchemaUnusable, match=r"than this release.* use a new database"):
        await migrate(own_store.dsn)


async def test_a_migration_that_fails_leaves_nothing(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*migrations(), (9998, "fine", "CREATE TABLE fine ()"), (9999, "broken", "SELECT 1 / 0")]
    monkeypatch.setattr("datastatus.store.migrate.migrations", lambda: broken)
    await server.execute("CREATE DATABASE broken")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(server.dsn_of("broken"))
    monkeypatch.undo()
    assert await migrate(server.dsn_of("broken")) == [f"{n:04}_{name}" for n, name, _ in migrations()]
    await server.execute("DROP DATABASE broken")


REFUSED = {
    "an illegal status": "UPDATE dataset SET status = 'COMPLETE', version = 2, completed = now()",
    "a version left out": "UPDATE dataset SET status = 'CANCELLED', version = 3, completed = now()",
    "a version alone": "UPDATE dataset SET version = 2",
    "terminal without a time": "UPDATE dataset SET status = 'CANCELLED', version = 2",
    "a time without terminal": "UPDATE dataset SET completed = now()",
    "fetching without a lease": "UPDATE dataset SET status = 'FETCHING', version = 2, started = now()",
    "a lease while queued": """
        UPDATE dataset SET lease_token = gen_random_uuid(), lease_holder = gen_random_uuid(), lease_expires = now()
    """,
    "half a lease": """
        UPDATE dataset SET status = 'FETCHING', version = 2, started = now(), lease_token = gen_random_uuid()
    """,
    "an error before the end": "UPDATE dataset SET error_message = 'no'",
    "history rewritten": "UPDATE transition SET description = 'it never was'",
    "history removed": "DELETE FROM transition",
    "history truncated": "TRUNCATE transition",
    "history rewritten in its partition": "UPDATE transition_1 SET description = 'it never was'",
    "an illegal transition": """
        INSERT INTO transition SELECT seq + 1000, dataset_id, company_id, connection_id, data_type, 2, 'QUEUED',
            'COMPLETE', occurred, trigger, description FROM transition
    """,
    "a birth that is not the first": """
        INSERT INTO transition SELECT seq + 1000, dataset_id, company_id, connection_id, data_type, 2, NULL,
            'QUEUED', occurred, trigger, description FROM transition
    """,
    "linked without a first time": "UPDATE connection SET first_linked = NULL",
    "linked though deleted": "UPDATE connection SET deleted = now()",
    "a nameless company": "UPDATE company SET name = ''",
    "half a success": "UPDATE data_status SET last_successful_sync = now()",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
async def test_the_database_refuses(store: Store, statement: str) -> None:
    await store.queued(await store.connection())
    with pytest.raises(asyncpg.CheckViolationError):
        await store.sql.execute(statement)


async def test_the_database_refuses_an_error_of_what_is_complete(store: Store) -> None:
    dataset_id = await store.queued(await store.connection())
    await store.bring_to(dataset_id, DatasetStatus.COMPLETE)
    with pytest.raises(asyncpg.CheckViolationError):
        await store.sql.execute("UPDATE dataset SET error_message = 'no' WHERE id = $1", dataset_id)


async def test_two_active_datasets_of_one_data_type_cannot_be(store: Store) -> None:
    link = await store.connection()
    await store.queued(link)
    item = an_item(link)
    with pytest.raises(asyncpg.UniqueViolationError):
        await store.sql.execute(
            "INSERT INTO dataset (id, company_id, connection_id, integration_key, data_type, trigger, sync_order)"
            " VALUES ($1, $2, $3, 'gnucash', 'invoices', 'API', 1)",
            item.dataset_id,
            item.company_id,
            item.connection_id,
        )


async def test_a_dataset_belongs_to_a_connection_of_its_company(store: Store) -> None:
    link, other = await store.connection(), await store.connection()
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await store.sql.execute(
            "INSERT INTO dataset (id, company_id, connection_id, integration_key, data_type, trigger, sync_order)"
            " VALUES ($1, $2, $3, 'gnucash', 'invoices', 'API', 1)",
            uuid7(),
            other.company_id,
            link.connection_id,
        )


async def test_a_dump_can_be_restored(store: Store, server: PostgresServer) -> None:
    """Restoring has no search_path, and checks every row."""
    link = await store.connection()
    await store.bring_to(await store.queued(link), DatasetStatus.FETCHING)
    await store.bring_to(await store.queued(link, "bills"), DatasetStatus.COMPLETE)
    programs = Path(await store.sql.fetchval("SELECT setting FROM pg_config WHERE name = 'BINDIR'"))
    restored = f"restored_{uuid7().hex}"
    await server.execute(f"CREATE DATABASE {restored}")
    dsn = server.dsn_of(restored)
    await _run(
        f"{programs}/pg_dump --dbname='{store.dsn}'"
        f" | {programs}/psql --quiet --set=ON_ERROR_STOP=1 --dbname='{dsn}'"
    )
    copy = await asyncpg.connect(dsn)
    try:
        for table in ("dataset", "transition", "data_status", "connection"):
            query = f"SELECT * FROM {table} ORDER BY 1, 2"
            assert await copy.fetch(query) == await store.sql.fetch(query)
    finally:
        await copy.close()


async def _run(command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-o", "pipefail", "-c", command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_where_nothing_may_be_changed_it_is_said(own_store: Store) -> None:
    name = await own_store.sql.fetchval("SELECT current_database()")
    await own_store.sql.execute("DROP TABLE migration")
    await own_store.sql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnusable, match=r"cannot be migrated: .*read-only transaction; use a role"):
        await migrate(own_store.dsn)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "search_path=absent",
            r"no schema has been selected to create in; create the schema that search_path",
        ),
        ("statement_timeout=50", r"canceling statement due to statement timeout; start again, with no"),
        ("lock_timeout=50", r"canceling statement due to lock timeout; start again, with no"),
    ],
)
async def test_what_a_setting_makes_of_migrating_is_said(own_store: Store, setting: str, says: str) -> None:
    if "timeout" in setting:
        await own_store.sql.execute("SELECT pg_advisory_lock($1, $2)", *_LOCK)
    with pytest.raises(DatabaseUnusable, match=f"cannot be migrated: {says}"):
        await migrate(f"{own_store.dsn}&{setting}")


async def test_a_connection_that_is_lost_while_it_waits_to_migrate_is_said(own_store: Store) -> None:
    await own_store.sql.execute("SELECT pg_advisory_lock($1, $2)", *_LOCK)
    migrating = asyncio.create_task(migrate(own_store.dsn))
    await own_store.until_it_blocks()
    await own_store.sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    )
    with pytest.raises(DatabaseUnusable, match="cannot be migrated: the connection to it was lost"):
        await migrating


async def test_a_database_of_another_encoding_can_be_migrated(server: PostgresServer) -> None:
    # Its collations are few: words are found whatever the case of their ASCII letters, and that is all.
    name = f"ascii_{uuid7().hex}"
    await server.execute(
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    assert await migrate(server.dsn_of(name))
    await server.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP"])
async def test_a_database_that_cannot_keep_every_text_is_refused_with_the_command_for_one_that_can(
    server: PostgresServer, encoding: str
) -> None:
    name, other = f"narrow_{uuid7().hex}", f"wide_{uuid7().hex}"
    await server.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    for check in (migrate, check_schema):
        with pytest.raises(DatabaseUnusable, match=f"{name} .*has the encoding {encoding}") as refused:
            await check(server.dsn_of(name))
    [command] = re.findall("CREATE DATABASE .* template0", str(refused.value))
    await server.execute(command.replace("datastatus", other))
    assert await migrate(server.dsn_of(other))
    for one in (name, other):
        await server.execute(f"DROP DATABASE {one}")
