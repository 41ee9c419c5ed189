"""A page token is good for the request that it came from, and for nothing else."""

from __future__ import annotations

from uuid import UUID

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from datastatus import errors
from datastatus.rpc.page_tokens import (
    id_of_page_token,
    page_token,
    page_token_of_id,
    place_of_page_token,
)
from datastatus.v1.company_service_pb2 import ListCompaniesRequest, ListConnectionsRequest
from datastatus.v1.dataset_pb2 import DATASET_STATUS_COMPLETE as COMPLETE
from datastatus.v1.dataset_pb2 import DATASET_STATUS_QUEUED as QUEUED
from datastatus.v1.sync_service_pb2 import ListDatasetsRequest, ListDataStatusRequest

COMPANY, OTHER = "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"
DATASETS = ListDatasetsRequest(company_id=COMPANY, data_type="bills", statuses=[QUEUED, COMPLETE])


@given(place=st.binary(max_size=100), page_size=st.integers(0, 1000))
def test_a_place_comes_back_as_it_went_whatever_the_page_size(place: bytes, page_size: int) -> None:
    token = page_token(DATASETS, place)
    following = ListDatasetsRequest(page_size=page_size, page_token=token)
    following.MergeFrom(DATASETS)
    assert place_of_page_token(following, following.page_token) == place
    assert place_of_page_token(following, "") is None


@given(last_id=st.uuids())
def test_so_does_an_id(last_id: UUID) -> None:
    assert id_of_page_token(DATASETS, page_token_of_id(DATASETS, last_id)) == last_id


@pytest.mark.parametrize(
    "foreign",
    [
        ListDatasetsRequest(),
        ListDatasetsRequest(company_id=OTHER, data_type="bills", statuses=[QUEUED, COMPLETE]),
        ListDatasetsRequest(company_id=COMPANY, data_type="items", statuses=[QUEUED, COMPLETE]),
        ListDatasetsRequest(company_id=COMPANY, data_type="bills", statuses=[QUEUED]),
        ListDatasetsRequest(connection_id=COMPANY, data_type="bills", statuses=[QUEUED, COMPLETE]),
    ],
)
def test_with_other_filters_it_is_refused(foreign: Message) -> None:
    token = page_token_of_id(DATASETS, UUID(COMPANY))
    with pytest.raises(errors.BadToken, match="pass it back unchanged with the request it came from"):
        id_of_page_token(foreign, token)


def test_another_method_refuses_it() -> None:
    token = page_token_of_id(ListCompaniesRequest(), UUID(COMPANY))
    for foreign in (ListDatasetsRequest(), ListDataStatusRequest(), ListConnectionsRequest()):
        with pytest.raises(errors.BadToken):
            id_of_page_token(foreign, token)


@given(place=st.integers(0, 31), other=st.characters(codec="ascii"))
def test_a_mutilated_one_is_refused_or_the_same(place: int, other: str) -> None:
    token = page_token_of_id(DATASETS, UUID(COMPANY))
    mutilated = token[:place] + other + token[place + 1 :]
    try:
        assert id_of_page_token(DATASETS, mutilated) == UUID(COMPANY)
    except errors.BadToken:
        assert mutilated != token


@given(st.text(min_size=1, max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(errors.BadToken):
        place_of_page_token(DATASETS, text)


def test_a_place_that_is_no_id_is_refused() -> None:
    for place in (b"", b"12"):
        with pytest.raises(errors.BadToken):
            id_of_page_token(DATASETS, page_token(DATASETS, place))
