"""The ring against a plain list of all that was ever put into it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from datastatus.domain.dataset import DatasetStatus, Transition, Trigger
from datastatus.domain.watch import Entry, StatusFilter, WatchRequest
from datastatus.engine.transition_ring import TransitionRing, held_bytes, keys_of, keys_to_index

IDS = [UUID(int=n) for n in range(1, 6)]

THREE = (IDS[0], IDS[1], IDS[2])

ids = st.sampled_from(IDS)


def entry(seq: int, names: tuple[UUID, UUID, UUID], size: int) -> Entry:
    company, connection, dataset = names
    transition = Transition(
        seq,
        dataset,
        company,
        connection,
        "bills",
        1,
        None,
        DatasetStatus.QUEUED,
        datetime(2026, 11, 24, tzinfo=UTC),
        Trigger.API,
        "d" * size,
        None,
        None,
    )
    return Entry(transition, lambda one: one.description.encode())


@given(
    pages=st.lists(
        st.lists(st.tuples(st.tuples(ids, ids, ids), st.integers(10, 3000)), min_size=1, max_size=40),
        max_size=15,
    ),
    bytes_max=st.integers(1, 400_000),
    after=st.integers(0, 500),
    wanted=st.frozensets(st.sampled_from([one.bytes for one in IDS]), min_size=1, max_size=3),
    count_max=st.integers(1, 30),
)
def test_it_holds_the_newest_in_its_bounds_and_finds_them_by_id(
    pages, bytes_max, after, wanted, count_max
) -> None:
    ring = TransitionRing(bytes_max)
    everything: list[Entry] = []
    for page in pages:
        entries = [entry(len(everything) + n + 1, names, size) for n, (names, size) in enumerate(page)]
        everything += entries
        ring.extend(entries)
    if not everything:
        assert not ring.covers(after)
        return

    head_seq = len(everything)
    held = everything[ring.first_seq - 1 :]
    assert len(held) == len(ring)
    # At least the newest, however large it is.
    assert len(held) == 1 or held_bytes(held) <= bytes_max
    if len(held) < head_seq:
        # A sixty-fourth at a time, and the entry with which it was full, is given up, and no more than it takes.
        given_up_bytes = bytes_max // 64 + held_bytes(everything[: ring.first_seq - 1][-1:])
        assert held_bytes(held) + given_up_bytes > bytes_max
    assert ring.covers(after) == (ring.first_seq <= after + 1)
    if ring.covers(after) and after <= head_seq:
        following = everything[after:]
        assert list(ring.read(after, count_max)) == following[:count_max]
        having = [one for one in following if wanted.intersection(keys_of(one.transition))]
        assert list(ring.select(after, wanted, count_max)) == having[:count_max]
    for key in wanted:
        seqs = [one.transition.seq for one in held if key in keys_of(one.transition)]
        assert ring.has_newer(key, after) == (max(seqs, default=0) > after)


def test_after_it_was_cleared_it_begins_anywhere_and_has_as_much_room() -> None:
    ring = TransitionRing(10_000)
    ring.extend([entry(n, THREE, 10) for n in range(1, 40)])
    room = len(ring)
    ring.clear()
    ring.extend([entry(n, THREE, 10) for n in range(50, 53)])
    assert ring.first_seq == 50
    assert [one.transition.seq for one in ring.select(50, {IDS[0].bytes}, 10)] == [51, 52]
    ring.extend([entry(n, THREE, 10) for n in range(53, 90)])
    assert len(ring) == room


def test_all_of_a_transition_that_may_be_long_counts() -> None:
    ring = TransitionRing(100_000)
    short = entry(1, THREE, 10).transition
    for long in (short._replace(description="d" * 40_000), short._replace(error_message="e" * 40_000)):
        ring.clear()
        ring.extend([Entry(long._replace(seq=seq), lambda one: b"") for seq in range(1, 10)])
        assert len(ring) == 2


@given(
    any_of=st.lists(
        st.builds(
            StatusFilter,
            company_ids=st.frozensets(ids, max_size=2),
            connection_ids=st.frozensets(ids, max_size=2),
            dataset_ids=st.frozensets(ids, max_size=2),
            data_types=st.frozensets(st.sampled_from(["bills", "items"]), max_size=1),
        ),
        max_size=3,
    ),
    one=st.tuples(ids, ids, ids),
)
def test_whatever_passes_is_found_by_the_keys_to_index(any_of, one) -> None:
    request = WatchRequest(any_of=tuple(any_of))
    indexed = keys_to_index(request)
    transition = entry(1, one, 10).transition
    if indexed is not None and request.passes(transition):
        assert indexed.intersection(keys_of(transition))
