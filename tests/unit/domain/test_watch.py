from __future__ import annotations

import base64
import struct
import zlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus, Transition, Trigger
from datastatus.domain.watch import ResumeToken, Start, StatusFilter, WatchRequest

COMPANY, CONNECTION, DATASET, OTHER = (UUID(int=n) for n in range(1, 5))

TRANSITION = Transition(
    seq=7,
    dataset_id=DATASET,
    company_id=COMPANY,
    connection_id=CONNECTION,
    data_type="bills",
    version=2,
    from_status=DatasetStatus.QUEUED,
    to_status=DatasetStatus.FETCHING,
    occurred=datetime(2026, 11, 24, tzinfo=UTC),
    trigger=Trigger.API,
    description="",
    error_message=None,
    error_code=None,
)

counts = st.integers(0, 2**64 - 1)


@given(epoch=counts, seq=counts)
def test_a_token_comes_back_as_it_went(epoch: int, seq: int) -> None:
    token = ResumeToken(epoch, seq)
    assert ResumeToken.parse(str(token)) == token


@given(epoch=counts, seq=counts, place=st.integers(0, 27), other=st.characters(codec="ascii"))
def test_a_mutilated_token_is_refused_or_the_same(epoch: int, seq: int, place: int, other: str) -> None:
    token = ResumeToken(epoch, seq)
    text = str(token)
    mutilated = text[:place] + other + text[place + 1 :]
    try:
        assert ResumeToken.parse(mutilated) == token
    except errors.BadToken:
        assert mutilated != text


def test_a_whole_token_of_another_version_is_refused() -> None:
    packed = struct.pack(">BQQ", 2, 1, 5)
    sealed = packed + zlib.crc32(packed).to_bytes(4, "big")
    with pytest.raises(errors.BadToken):
        ResumeToken.parse(base64.urlsafe_b64encode(sealed).decode())


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(errors.BadToken):
        ResumeToken.parse(text)


@pytest.mark.parametrize(
    ("selected", "passes"),
    [
        (StatusFilter(), True),
        (StatusFilter(company_ids=frozenset({COMPANY})), True),
        (StatusFilter(company_ids=frozenset({OTHER})), False),
        (StatusFilter(company_ids=frozenset({COMPANY, OTHER}), data_types=frozenset({"bills"})), True),
        (StatusFilter(company_ids=frozenset({COMPANY}), data_types=frozenset({"items"})), False),
        (StatusFilter(connection_ids=frozenset({OTHER})), False),
        (StatusFilter(dataset_ids=frozenset({DATASET})), True),
        (StatusFilter(to_statuses=frozenset({DatasetStatus.FETCHING})), True),
        (StatusFilter(to_statuses=frozenset({DatasetStatus.QUEUED})), False),
    ],
)
def test_a_filter_is_an_and_of_what_is_given(selected: StatusFilter, passes: bool) -> None:
    assert selected.passes(TRANSITION) == passes
    assert WatchRequest(any_of=(selected,)).passes(TRANSITION) == passes


def test_filters_together_are_an_or() -> None:
    no = StatusFilter(company_ids=frozenset({OTHER}))
    yes = StatusFilter(data_types=frozenset({"bills"}))
    request = WatchRequest(any_of=(no, yes))
    assert request.passes(TRANSITION)
    assert not request.passes(TRANSITION._replace(data_type="items"))
    assert WatchRequest().passes(TRANSITION)


def test_the_datasets_of_all_filters_are_named() -> None:
    any_of = [StatusFilter(dataset_ids=frozenset(ids)) for ids in ({DATASET}, (), {OTHER})]
    assert WatchRequest(any_of=tuple(any_of)).dataset_ids == {DATASET, OTHER}


def test_what_is_not_asked_for_is_as_clients_are_told() -> None:
    request = WatchRequest()
    assert request.start is Start.SNAPSHOT
    assert request.heartbeat == timedelta(seconds=10)
    # They refuse messages of more than four times as much.
    assert request.batch_bytes_max == 1 << 20


@pytest.mark.parametrize(
    "any_of",
    [
        (),
        (StatusFilter(company_ids=frozenset({COMPANY})),),
        (StatusFilter(dataset_ids=frozenset({DATASET})), StatusFilter(data_types=frozenset({"bills"}))),
        (StatusFilter(dataset_ids=frozenset({DATASET}), to_statuses=frozenset({DatasetStatus.COMPLETE})),),
    ],
)
def test_until_terminal_must_name_its_datasets(any_of: tuple[StatusFilter, ...]) -> None:
    with pytest.raises(errors.BadFilter):
        WatchRequest(any_of=any_of, until_terminal=True).check()
    WatchRequest(any_of=any_of).check()
