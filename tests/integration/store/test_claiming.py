"""claimable_datasets: companies take turns; wait_reason_of: why what is queued has not been claimed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from uuid_utils.compat import uuid7

from datastatus.domain.dataset import DatasetStatus, WaitReason
from datastatus.store import companies, datasets, journal
from datastatus.store.companies import ConnectorSessionRow
from datastatus.store.journal import Change, Grant
from stores import Link, Store, an_item

NOBODY, LAST = UUID(int=0), UUID(int=2**128 - 1)


async def queue(store: Store, link: Link, *data_types: str) -> list[UUID]:
    items = [an_item(link, one, sync_order=order) for order, one in enumerate(data_types)]
    await journal.queue_datasets(store.database, items)
    return [item.dataset_id for item in items]


async def claimable(
    store: Store,
    *,
    keys: Sequence[str] = ("gnucash",),
    connections: Sequence[Link] = (),
    barred: Sequence[Link] = (),
    after: UUID = NOBODY,
    room: int = 100,
) -> list[UUID]:
    found = await datasets.claimable_datasets(
        store.database,
        keys,
        [link.connection_id for link in connections],
        barred_companies=[link.company_id for link in barred],
        after_company=after,
        count_max=room,
    )
    return [dataset_id for dataset_id, _ in found]


async def test_companies_take_turns_however_much_each_has_waiting(own_store: Store) -> None:
    busy, other, third = [await own_store.connection() for _ in range(3)]
    many = await queue(own_store, busy, *(f"type{n}" for n in range(50)))
    [one] = await queue(own_store, other, "bills")
    two = await queue(own_store, third, "bills", "items")

    assert await claimable(own_store, room=5) == [many[0], one, two[0], many[1], two[1]]
    assert await claimable(own_store, room=2) == [many[0], one]
    # Whoever was served last comes last; after the last company the first has its turn again.
    assert await claimable(own_store, room=3, after=busy.company_id) == [one, two[0], many[0]]
    assert await claimable(own_store, room=2, after=other.company_id) == [two[0], many[0]]
    assert await claimable(own_store, room=1, after=LAST) == [many[0]]
    assert await claimable(own_store, room=3, barred=[busy]) == [one, *two]
    assert (await claimable(own_store, room=60))[3:5] == [many[1], two[1]]


async def test_only_what_is_queued_on_a_linked_connection_that_is_served(own_store: Store) -> None:
    link, foreign, gone = [await own_store.connection() for _ in range(3)]
    fetching, waiting = await queue(own_store, link, "bills", "items")
    await own_store.bring_to(fetching, DatasetStatus.FETCHING)
    [theirs] = await queue(own_store, foreign, "bills")
    lost, failed = await queue(own_store, gone, "bills", "items")
    tokens = [await own_store.bring_to(one, DatasetStatus.FETCHING) for one in (lost, failed)]
    auth_error = Change(failed, DatasetStatus.AUTH_ERROR, held_token=tokens[1])
    await journal.deauthorize_connection(own_store.database, auth_error)
    # Back in QUEUED on a connection that is not linked any more: nobody should fetch that.
    await own_store.change(Change(lost, DatasetStatus.QUEUED, held_token=tokens[0]))

    assert await claimable(own_store) == [waiting, theirs]
    assert await claimable(own_store, keys=["external"]) == []
    assert await claimable(own_store, keys=[], connections=[link, gone]) == [waiting]
    assert await claimable(own_store, keys=["external"], connections=[foreign]) == [theirs]
    assert await claimable(own_store, keys=["gnucash"], connections=[link]) == [waiting, theirs]


@asynccontextmanager
async def online(
    store: Store, *connections: Link, keys: Sequence[str] = (), capacity: int = 2, company_capacity: int = 2
) -> AsyncIterator[UUID]:
    """A connector, as others see it; its session."""
    session = ConnectorSessionRow(
        uuid7(),
        *("test", "1", "here"),
        keys,
        [link.connection_id for link in connections],
        capacity,
        company_capacity,
    )
    await companies.open_connector_session(store.database, session, 60)
    yield session.id
    await companies.close_connector_session(store.database, session.id)


async def claim(store: Store, session_id: UUID, *dataset_ids: UUID) -> None:
    for dataset_id in dataset_ids:
        grant = Grant(uuid7(), session_id, 60)
        await store.change(Change(dataset_id, DatasetStatus.FETCHING, grant=grant))


async def test_what_is_queued_says_what_it_waits_for(store: Store) -> None:
    link = await store.connection()
    first, second, third = await queue(store, link, "bills", "items", "invoices")

    async def reason(dataset_id: UUID = third) -> WaitReason | None:
        return (await store.dataset(dataset_id)).wait_reason

    assert await reason() is WaitReason.WAITING_FOR_CONNECTOR
    async with online(store, link) as session:
        # It is about to be claimed.
        assert await reason() is None
        await claim(store, session, first)
        assert await reason() is None
        await claim(store, session, second)
        assert await reason() is WaitReason.WAITING_FOR_SYNC
        assert await reason(first) is None
        async with online(store, link):
            assert await reason() is None
        await companies.drain_connector_session(store.database, session)
        assert await reason() is WaitReason.WAITING_FOR_SYNC
        # Its server renews it no more.
        assert await companies.renew_connector_session(store.database, session, -1)
        assert await reason() is WaitReason.WAITING_FOR_CONNECTOR
    assert await reason() is WaitReason.WAITING_FOR_CONNECTOR


async def test_what_was_lost_right_after_its_claim_is_not_handed_out(store: Store) -> None:
    link = await store.connection()
    lost, kept = await queue(store, link, "bills", "items")
    async with online(store, link) as session:
        await claim(store, session, lost, kept)
        await store.change(Change(lost, DatasetStatus.CANCELLED))
        found = await datasets.claimed_datasets(store.database, [lost, kept])
        assert [assignment.dataset_id for assignment in found] == [kept]


async def test_of_several_connectors_that_which_is_online_longest_is_shown(store: Store) -> None:
    link = await store.connection()
    async with online(store, link) as first, online(store, keys=["gnucash"]):
        await store.sql.execute("UPDATE connector_session SET connector_name = 'first' WHERE id = $1", first)
        connection = await companies.get_connection(store.database, link.connection_id)
        assert connection is not None
        assert connection.connector is not None
        assert (connection.connector.connector_name, connection.connector.connectors) == ("first", 2)


async def test_a_company_that_has_its_share_waits_while_another_does_not(own_store: Store) -> None:
    busy, other = await own_store.connection(), await own_store.connection()
    first, waiting = await queue(own_store, busy, "bills", "items")
    [free] = await queue(own_store, other, "bills")
    async with online(own_store, keys=["gnucash"], capacity=2, company_capacity=1) as session:
        await claim(own_store, session, first)
        assert (await own_store.dataset(waiting)).wait_reason is WaitReason.WAITING_FOR_SYNC
        assert (await own_store.dataset(free)).wait_reason is None


async def test_adopted_leases_count_for_the_new_stream(store: Store) -> None:
    link = await store.connection()
    first, waiting = await queue(store, link, "bills", "items")
    async with online(store, link, capacity=1) as before:
        await claim(store, before, first)
    [(_, token)] = await datasets.leases_of(store.database, before)
    async with online(store, link, capacity=1) as now:
        assert await datasets.adopt_leases(store.database, [(first, token), (waiting, token)], 60, now) == {
            first
        }
        assert await datasets.leases_of(store.database, now) == [(first, token)]
        assert (await store.dataset(waiting)).wait_reason is WaitReason.WAITING_FOR_SYNC
