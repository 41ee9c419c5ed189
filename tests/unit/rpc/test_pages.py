"""A page of a list holds what was asked for, unless that is more than clients take."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastatus.rpc.pages import fill_page
from datastatus.v1.dataset_pb2 import Dataset
from datastatus.v1.sync_service_pb2 import ListDatasetsResponse

# What gRPC clients take unless they are told otherwise.
CLIENT_BYTES_MAX = 4 << 20


def dataset(characters: int) -> Dataset:
    return Dataset(error_message="x" * characters)


@given(found=st.integers(0, 12), page_size=st.integers(1, 10))
def test_it_ends_at_its_size_and_says_where(found: int, page_size: int) -> None:
    response = ListDatasetsResponse()
    last = fill_page(response.datasets, range(1, found + 1), page_size, dataset)
    told = [len(one.error_message) for one in response.datasets]
    assert told == list(range(1, found + 1))[:page_size]
    assert last == (page_size if found > page_size else None)


@pytest.mark.parametrize("characters", [4000, 100_000, 3 << 20, (3 << 20) + 1])
def test_what_is_large_is_told_in_several_pages_all_of_it_once(characters: int) -> None:
    found = [characters + number for number in range(1, 1001)][: (20 << 20) // characters]
    pages: list[list[int]] = []
    rest = found
    while rest:
        response = ListDatasetsResponse()
        last = fill_page(response.datasets, rest, 1000, dataset)
        assert response.ByteSize() < CLIENT_BYTES_MAX
        pages.append([len(one.error_message) for one in response.datasets])
        if last is None:
            break
        rest = rest[rest.index(last) + 1 :]
        assert rest, "a page that says that more follows, and nothing does"
    assert [one for page in pages for one in page] == found
    for page, following in pairwise(pages):
        # No page ends before it has to.
        assert sum(page) + following[0] > CLIENT_BYTES_MAX * 2 / 3
