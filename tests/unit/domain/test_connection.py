from __future__ import annotations

from uuid import UUID

import pytest

from datastatus import errors
from datastatus.domain.connection import Candidate, ConnectionStatus, choose_connection

COMPANY, FIRST, SECOND = UUID(int=1), UUID(int=2), UUID(int=3)
LINKED, PENDING = ConnectionStatus.LINKED, ConnectionStatus.PENDING_AUTH


def choose(*candidates: tuple[UUID, ConnectionStatus, set[str]]) -> UUID:
    offered = [
        Candidate(connection_id, status, "external", types) for connection_id, status, types in candidates
    ]
    return choose_connection(COMPANY, "invoices", offered, lambda one: f"link/{one}").id


def test_the_one_that_supports_the_type_answers() -> None:
    assert choose((FIRST, LINKED, {"bills"}), (SECOND, LINKED, {"invoices"})) == SECOND


def test_connections_that_are_not_linked_do_not_count() -> None:
    assert choose((FIRST, PENDING, {"invoices"}), (SECOND, LINKED, {"invoices"})) == SECOND


def test_a_lone_connection_answers_even_for_what_it_does_not_support() -> None:
    assert choose((FIRST, LINKED, {"bills"})) == FIRST


@pytest.mark.parametrize("supported", [{"invoices"}, {"bills"}])
def test_of_several_the_caller_must_choose(supported: set[str]) -> None:
    with pytest.raises(errors.ConnectionRequired) as raised:
        choose((FIRST, LINKED, supported), (SECOND, LINKED, supported))
    assert str(FIRST) in str(raised.value.metadata)


@pytest.mark.parametrize(
    ("candidates", "link_url"),
    [
        ((), ""),
        (((FIRST, PENDING, {"bills"}),), f"link/{FIRST}"),
        (((FIRST, PENDING, {"bills"}), (SECOND, PENDING, {"invoices"})), f"link/{SECOND}"),
    ],
    ids=["none", "one", "two"],
)
def test_without_a_linked_one_the_caller_learns_where_to_link(candidates, link_url: str) -> None:
    with pytest.raises(errors.ConnectionNotLinked) as raised:
        choose(*candidates)
    assert raised.value.metadata["link_url"] == link_url
