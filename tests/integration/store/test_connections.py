"""What happens to a connection happens to its credentials, its errors and its datasets, all in one call."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.connection import Connection, ConnectionStatus
from datastatus.domain.dataset import DatasetStatus, Trigger
from datastatus.engine.credentials import CredentialsVault, KeyRing, Rotation, generate_key
from datastatus.store import companies, credentials, datasets, journal
from datastatus.store.credentials import SealedCredentials
from datastatus.store.ids import NIL
from datastatus.store.journal import Change, ChangeOutcome
from stores import CHANGE, QUEUE, Link, Store


async def connection_of(store: Store, link: Link) -> Connection:
    connection = await companies.get_connection(store.database, link.connection_id)
    assert connection is not None
    return connection


async def authorized(store: Store, link: Link, token: bytes = b"sealed") -> None:
    sealed = SealedCredentials(link.connection_id, token, "key")
    connection = await connection_of(store, link)
    assert await companies.link_connection(store.database, connection, Trigger.RELINK, [], sealed) is not None


async def kept(store: Store, link: Link) -> bytes | None:
    found = await credentials.sealed_credentials(store.database, link.connection_id)
    return found and found.token


async def auth_error(store: Store, dataset_id: UUID, token: UUID) -> ChangeOutcome:
    change = Change(
        dataset_id, DatasetStatus.AUTH_ERROR, held_token=token, error_message="no", error_code="REVOKED"
    )
    return (await journal.deauthorize_connection(store.database, change)).outcome


async def test_credentials_are_kept_while_the_source_accepts_them(store: Store) -> None:
    link = await store.connection(linked=False)
    await authorized(store, link, b"first")
    assert await kept(store, link) == b"first"
    await authorized(store, link, b"second")
    assert await kept(store, link) == b"second"

    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    assert await auth_error(store, dataset_id, token) is ChangeOutcome.DONE

    assert (await connection_of(store, link)).status is ConnectionStatus.DEAUTHORIZED
    assert await kept(store, link) is None


async def test_what_a_later_attempt_is_refused_for_are_the_credentials_that_it_had(store: Store) -> None:
    link = await store.connection(linked=False)
    await authorized(store, link, b"first")
    dataset_id = await store.queued(link)
    lost = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    await store.change(Change(dataset_id, DatasetStatus.QUEUED, held_token=lost))
    await authorized(store, link, b"second")
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    assert await auth_error(store, dataset_id, token) is ChangeOutcome.DONE
    assert (await connection_of(store, link)).status is ConnectionStatus.DEAUTHORIZED
    assert await kept(store, link) is None


async def test_connections_of_one_company_are_created_at_once(store: Store) -> None:
    link = await store.connection()
    ids = [uuid7() for _ in range(8)]
    async with asyncio.timeout(20):
        created = await asyncio.gather(
            *(companies.create_connection(store.database, one, link.company_id, "gnucash") for one in ids)
        )
    assert created == [True] * 8
    deadlocks = await store.sql.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0


async def test_linking_tells_what_it_has_queued_and_leaves_out_what_is_running(store: Store) -> None:
    link = await store.connection()
    await store.queued(link, "bills")
    first = [(uuid7(), data_type, order) for order, data_type in enumerate(("items", "bills", "journals"))]
    connection = await connection_of(store, link)
    queued = await companies.link_connection(store.database, connection, Trigger.RELINK, first)
    assert queued == [first[0][0], first[2][0]]
    assert await companies.link_connection(store.database, connection, Trigger.RELINK, first) == []


@pytest.mark.parametrize("delete", [True, False])
async def test_an_unlinked_or_deleted_connection_has_no_credentials(store: Store, delete: bool) -> None:
    link = await store.connection(linked=False)
    await authorized(store, link)
    await companies.unlink_connection(store.database, link.connection_id, delete=delete, description="gone")
    assert await kept(store, link) is None


async def test_an_error_is_kept_once_and_is_resolved_by_the_next_link(store: Store) -> None:
    link = await store.connection()
    running = [await store.queued(link, data_type) for data_type in ("bills", "invoices")]
    tokens = [await store.bring_to(one, DatasetStatus.FETCHING) for one in running]
    waiting = await store.queued(link, "items")
    for dataset_id, token in zip(running, tokens, strict=True):
        assert await auth_error(store, dataset_id, token) is ChangeOutcome.DONE

    [active] = (await connection_of(store, link)).errors
    assert (active.code, active.message, active.resolved) == ("REVOKED", "no", None)
    assert (await store.dataset(waiting)).status is DatasetStatus.AUTH_ERROR

    await authorized(store, link)
    [resolved] = (await connection_of(store, link)).errors
    assert resolved.resolved is not None
    await authorized(store, link)
    assert (await connection_of(store, link)).errors == (resolved,)


async def test_of_many_errors_the_newest_are_shown(store: Store) -> None:
    link = await store.connection()
    await store.sql.execute(
        "INSERT INTO connection_error (connection_id, occurred, code, message)"
        " SELECT $1, clock_timestamp() + make_interval(secs => n), 'E' || n, '' FROM generate_series(1, 12) n",
        link.connection_id,
    )
    shown = [one.code for one in (await connection_of(store, link)).errors]
    assert shown == [f"E{number}" for number in range(12, 2, -1)]


async def test_a_refusal_of_earlier_credentials_says_nothing_of_the_present_ones(store: Store) -> None:
    link = await store.connection()
    fetching = await store.queued(link, "invoices")
    token = await store.bring_to(fetching, DatasetStatus.FETCHING)
    waiting = await store.queued(link, "bills")

    await authorized(store, link, b"new")
    assert await auth_error(store, fetching, token) is ChangeOutcome.DONE

    connection = await connection_of(store, link)
    assert (connection.status, connection.errors) == (ConnectionStatus.LINKED, ())
    assert await kept(store, link) == b"new"
    for dataset_id, attempt in ((fetching, 2), (waiting, 1)):
        dataset = await store.dataset(dataset_id)
        assert (dataset.status, dataset.attempt) == (DatasetStatus.QUEUED, attempt)
    # With the present ones, this time.
    token = await store.bring_to(fetching, DatasetStatus.FETCHING)
    assert await auth_error(store, fetching, token) is ChangeOutcome.DONE
    assert (await store.dataset(fetching)).status is DatasetStatus.AUTH_ERROR


async def test_where_the_present_credentials_were_refused_too_an_earlier_refusal_stands(store: Store) -> None:
    link = await store.connection()
    fetching, later = [await store.queued(link, data_type) for data_type in ("invoices", "bills")]
    token = await store.bring_to(fetching, DatasetStatus.FETCHING)
    await authorized(store, link, b"new")
    later_token = await store.bring_to(later, DatasetStatus.FETCHING)
    assert await auth_error(store, later, later_token) is ChangeOutcome.DONE
    assert await auth_error(store, fetching, token) is ChangeOutcome.DONE
    dataset = await store.dataset(fetching)
    assert (dataset.status, dataset.error_code) == (DatasetStatus.AUTH_ERROR, "REVOKED")


async def test_what_waits_for_another_attempt_is_refused_by_whoever_reports_without_a_lease(
    store: Store,
) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    await store.change(Change(dataset_id, DatasetStatus.QUEUED, held_token=token))
    # Its last attempt had the credentials of before; the one that is refused has not begun.
    await authorized(store, link, b"new")

    assert await auth_error(store, dataset_id, NIL) is ChangeOutcome.DONE
    assert (await store.dataset(dataset_id)).status is DatasetStatus.AUTH_ERROR
    assert (await connection_of(store, link)).status is ConnectionStatus.DEAUTHORIZED


async def test_a_refusal_waits_for_the_link_that_replaces_what_was_refused(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    relink = "SELECT link_connection($1, $2, 'LINKED', $3, 'key', '{}', '{}', 'RELINK', '{}', '')"
    async with store.uncommitted(relink, link.connection_id, link.company_id, b"new"):
        refused = asyncio.create_task(auth_error(store, dataset_id, token))
    assert await refused is ChangeOutcome.DONE
    assert (await store.dataset(dataset_id)).status is DatasetStatus.QUEUED
    assert (await connection_of(store, link)).status is ConnectionStatus.LINKED
    assert await kept(store, link) == b"new"


async def test_a_refusal_of_what_is_just_being_cancelled_leaves_the_connection_alone(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    async with store.uncommitted(CHANGE, dataset_id, DatasetStatus.CANCELLED):
        refused = asyncio.create_task(auth_error(store, dataset_id, token))
    assert await refused is ChangeOutcome.LEASE_LOST
    connection = await connection_of(store, link)
    assert (connection.status, connection.errors) == (ConnectionStatus.LINKED, ())


@pytest.mark.parametrize("status", [DatasetStatus.MAPPING, DatasetStatus.FETCH_ERROR])
async def test_what_is_just_being_changed_is_unlinked_as_it_is_then(
    store: Store, status: DatasetStatus
) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    async with store.uncommitted(CHANGE, dataset_id, status):
        unlinked = asyncio.create_task(
            companies.unlink_connection(store.database, link.connection_id, delete=False, description="Gone.")
        )
    assert await unlinked
    told = [(one.from_status, one.to_status) for one in await store.transitions(dataset_id)][2:]
    changed = (DatasetStatus.FETCHING, status)
    assert told == ([changed] if status.is_terminal else [changed, (status, DatasetStatus.CANCELLED)])


async def test_what_is_just_being_queued_is_unlinked_too(store: Store) -> None:
    link = await store.connection()
    dataset_id = uuid7()
    queueing = (dataset_id, link.company_id, link.connection_id, "invoices", None, None)
    async with store.uncommitted(QUEUE, *queueing):
        unlinked = asyncio.create_task(
            companies.unlink_connection(store.database, link.connection_id, delete=False, description="Gone.")
        )
    assert await unlinked
    assert (await store.dataset(dataset_id)).status is DatasetStatus.CANCELLED


async def test_a_link_that_was_overtaken_changes_nothing(store: Store) -> None:
    link = await store.connection(linked=False)
    seen = await connection_of(store, link)
    await authorized(store, link, b"quicker")

    late = SealedCredentials(link.connection_id, b"late", "key")
    assert await companies.link_connection(store.database, seen, Trigger.FIRST_LINK, [], late) is None
    assert await kept(store, link) == b"quicker"


async def test_a_rotation_reseals_everything_that_some_key_opens(own_store: Store) -> None:
    store, old, new, lost = own_store, generate_key(), generate_key(), generate_key()
    links = [await store.connection(linked=False) for _ in range(3)]
    for link, key in zip(links, (old, old, lost), strict=True):
        sealed = KeyRing([key]).seal(link.connection_id, {"apiKey": "k", "of": str(link.connection_id)})
        connection = await connection_of(store, link)
        await companies.link_connection(store.database, connection, Trigger.RELINK, [], sealed)

    ring = KeyRing([new, old])
    vault = CredentialsVault(store.database, lambda: ring)
    lost_id = KeyRing([lost]).key_ids[0]
    assert await vault.rotate() == Rotation(resealed=2, unreadable={lost_id: 1})
    assert await vault.rotate() == Rotation(resealed=0, unreadable={lost_id: 1})

    newest = CredentialsVault(store.database, lambda: KeyRing([new]))
    for link in links[:2]:
        assert (await newest.open(link.connection_id))["of"] == str(link.connection_id)
    with pytest.raises(errors.SourceUnavailable, match=lost_id):
        await newest.open(links[2].connection_id)


async def test_a_rotation_does_not_bring_back_what_was_replaced_meanwhile(store: Store) -> None:
    link = await store.connection(linked=False)
    await authorized(store, link, b"new")
    stale = SealedCredentials(link.connection_id, b"before", "old")
    renewed = SealedCredentials(link.connection_id, b"resealed", "newest")
    assert await credentials.replace_sealed_credentials(store.database, [(stale, renewed)]) == 0
    assert await kept(store, link) == b"new"


async def test_credentials_moved_to_another_connection_do_not_open(store: Store) -> None:
    ring = KeyRing([generate_key()])
    sealed = ring.seal(uuid7(), {"apiKey": "k"})
    moved = SealedCredentials(uuid7(), sealed.token, sealed.key_id)
    with pytest.raises(errors.SourceUnavailable):
        ring.open(moved)


async def test_strays_of_a_connection_are_ended_unless_it_was_linked_again(store: Store) -> None:
    link = await store.connection()
    stray, failing = await store.queued(link, "bills"), await store.queued(link, "items")
    token = await store.bring_to(stray, DatasetStatus.FETCHING)
    assert (
        await auth_error(store, failing, await store.bring_to(failing, DatasetStatus.FETCHING))
        is ChangeOutcome.DONE
    )
    assert await datasets.connections_with_strays(store.database, 10) == [], "it is still in hand"
    await store.change(Change(stray, DatasetStatus.QUEUED, held_token=token))
    assert await datasets.connections_with_strays(store.database, 10) == [link.connection_id]

    # Between the look and the deed.
    await store.link(link.connection_id)
    await datasets.end_strays(store.database, link.connection_id, "no link", "CONNECTION_NOT_LINKED")
    assert (await store.dataset(stray)).status is DatasetStatus.QUEUED
    assert await datasets.connections_with_strays(store.database, 10) == []

    await store.sql.execute("UPDATE connection SET status = 'DEAUTHORIZED' WHERE id = $1", link.connection_id)
    await datasets.end_strays(store.database, link.connection_id, "no link", "CONNECTION_NOT_LINKED")
    ended = await store.dataset(stray)
    assert (ended.status, ended.error_message) == (DatasetStatus.AUTH_ERROR, "no link")
    assert ended.error_code == "CONNECTION_NOT_LINKED"
    assert await datasets.connections_with_strays(store.database, 10) == []
