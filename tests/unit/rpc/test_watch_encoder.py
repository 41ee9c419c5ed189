"""What is put together by hand is what protobuf would have made."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from datastatus.domain.dataset import DatasetStatus, Transition, Trigger
from datastatus.domain.watch import Batch, Entry, ResumeToken, WatchMessage
from datastatus.rpc.watch_encoder import WatchEncoder, encode_transition
from datastatus.v1 import dataset_pb2, transition_pb2, watch_pb2

transitions = st.builds(
    Transition,
    seq=st.integers(1, 2**63 - 1),
    dataset_id=st.uuids(),
    company_id=st.uuids(),
    connection_id=st.uuids(),
    data_type=st.text(),
    version=st.integers(1, 2**31 - 1),
    from_status=st.none() | st.sampled_from(DatasetStatus),
    to_status=st.sampled_from(DatasetStatus),
    # Hypothesis wants the bounds without a zone, and gives each value that of `timezones`.
    occurred=st.datetimes(
        datetime(1970, 1, 1),  # noqa: DTZ001
        datetime(9999, 12, 31),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
    trigger=st.sampled_from(Trigger),
    description=st.text(),
    error_message=st.none() | st.text(),
    error_code=st.none() | st.text(),
)

TRANSITION = Transition(
    1,
    UUID(int=1),
    UUID(int=2),
    UUID(int=3),
    "bills",
    1,
    None,
    DatasetStatus.QUEUED,
    datetime(2026, 11, 24, tzinfo=UTC),
    Trigger.API,
    "",
    None,
    None,
)


@given(transitions)
def test_every_field_of_a_transition_is_encoded(one: Transition) -> None:
    expected = transition_pb2.StatusTransition(
        seq=one.seq,
        dataset_id=str(one.dataset_id),
        company_id=str(one.company_id),
        connection_id=str(one.connection_id),
        data_type=one.data_type,
        version=one.version,
        to_status=dataset_pb2.DatasetStatus.Value(f"DATASET_STATUS_{one.to_status}"),
        description=one.description,
        error_message=one.error_message,
        error_code=one.error_code,
        trigger=dataset_pb2.Trigger.Value(f"TRIGGER_{one.trigger}"),
    )
    if one.from_status is not None:
        expected.from_status = dataset_pb2.DatasetStatus.Value(f"DATASET_STATUS_{one.from_status}")
    expected.occurred.FromDatetime(one.occurred)
    assert watch_pb2.TransitionBatch.FromString(encode_transition(one)).transitions[:] == [expected]


@given(st.lists(transitions, max_size=5))
def test_encoded_transitions_joined_are_a_batch(several: list[Transition]) -> None:
    batch = watch_pb2.TransitionBatch.FromString(b"".join(map(encode_transition, several)))
    assert [one.seq for one in batch.transitions] == [one.seq for one in several]


@given(transitions, transitions)
def test_a_batch_of_another_history_is_another_though_it_has_the_same_numbers(
    one: Transition, other: Transition
) -> None:
    encoder = WatchEncoder()
    for transition in (one, other, one):
        entry = Entry(transition, encode_transition)
        message = WatchMessage(Batch(4, 5, [entry]), ResumeToken(1, 5))
        for _ in range(2):
            response = watch_pb2.WatchStatusResponse.FromString(encoder.encode(message))
            assert response.resume_token == str(ResumeToken(1, 5))
            assert (response.batch.after_seq, response.batch.through_seq) == (4, 5)
            assert [told.dataset_id for told in response.batch.transitions] == [str(transition.dataset_id)]


def test_few_of_the_messages_that_watchers_share_are_kept() -> None:
    encoder = WatchEncoder()
    for seq in range(1, 200):
        entry = Entry(TRANSITION._replace(seq=seq), encode_transition)
        encoder.encode(WatchMessage(Batch(seq - 1, seq, [entry]), ResumeToken(1, seq)))
    assert len(encoder._shared) == 64
