from __future__ import annotations

from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus.engine.connector_session import ConnectorSession, Hello, RevokeReason
from datastatus.store.datasets import Assignment

BUSY, OTHER = UUID(int=1), UUID(int=2)


def session(capacity: int = 4, *, everybody: bool = True) -> ConnectorSession:
    keys = frozenset({"erp"}) if everybody else frozenset()
    return ConnectorSession(Hello("test", "1", "here", keys, frozenset(), capacity))


def taken(one: ConnectorSession, company_id: UUID = BUSY) -> Assignment:
    assignment = Assignment(uuid7(), company_id, uuid7(), "erp", "invoices", uuid7(), 1)
    one.take([assignment])
    return assignment


def test_a_connector_that_is_late_gets_nothing_new_until_it_is_heard() -> None:
    one = session()
    assert not one.miss_beat()
    assert one.room == 4
    assert not one.miss_beat()
    assert one.room == 0
    one.hear()
    assert one.room == 4
    # There may be work that it was not given meanwhile.
    assert one.wake.is_set()


def test_a_connector_is_lost_once_its_leases_have_run_out() -> None:
    one = session()
    assert [one.miss_beat() for _ in range(5)] == [False, False, False, False, True]


def test_a_connector_that_reads_nothing_gets_nothing_new_however_much_is_taken_from_it() -> None:
    one = session()
    while one.room:
        one.revoke(taken(one).dataset_id, RevokeReason.CANCELLED)
    unread = one.outbox.qsize()
    assert 100 <= unread <= 102
    while not one.outbox.empty():
        one.outbox.get_nowait()
    assert one.room == 4


@pytest.mark.parametrize("reason", ["draining", "closing"])
def test_whoever_leaves_gets_nothing_new(reason: str) -> None:
    one = session()
    setattr(one, reason, True)
    assert one.room == 0


@pytest.mark.parametrize(
    ("capacity", "everybody", "of_one_company"), [(4, True, 3), (1, True, 1), (4, False, 4)]
)
def test_who_serves_everybody_keeps_a_place_free(capacity: int, everybody: bool, of_one_company: int) -> None:
    one = session(capacity, everybody=everybody)
    candidates = [(uuid7(), BUSY) for _ in range(10)]
    assert one.choose(candidates) == [dataset_id for dataset_id, _ in candidates[:of_one_company]]
    assert one.last_company == BUSY

    for _ in range(of_one_company):
        taken(one)
    assert one.full_companies() == [BUSY]
    other = uuid7()
    assert one.choose([(other, OTHER)]) == ([other] if capacity > of_one_company else [])


def test_what_concerns_an_earlier_lease_leaves_the_present_one_alone() -> None:
    one = session()
    assignment = taken(one)
    assert not one.drop(assignment.dataset_id, uuid7())
    one.revoke(assignment.dataset_id, RevokeReason.LEASE_LOST, uuid7())
    assert list(one.in_hand) == [assignment.dataset_id]
    assert not one.wake.is_set()
    assert one.drop(assignment.dataset_id, assignment.lease_token)
    assert one.in_hand == {}
    assert one.wake.is_set(), "there is room for another one"
