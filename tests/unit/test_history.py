"""The history checker finds every kind of breach when one is planted, and none where there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from datastatus.domain.watch import ResumeToken
from history.checker import Fact, Message, Stream, Told, Watched, breaches


def fact(seq: int, dataset: str, version: int, status: str, data_type: str = "bills") -> Fact:
    return Fact(seq, 1000 + seq, dataset, "company", "connection", data_type, version, status)


JOURNAL = [
    fact(1, "a", 1, "QUEUED"),
    fact(2, "b", 1, "QUEUED", "items"),
    fact(3, "a", 2, "CANCELLED"),
    fact(4, "c", 1, "QUEUED"),
    fact(5, "b", 2, "FETCHING", "items"),
    fact(6, "c", 2, "FETCHING"),
    fact(7, "c", 3, "CANCELLED"),
    fact(8, "d", 1, "QUEUED"),
]


def token(seq: int, epoch: int = 1) -> str:
    return str(ResumeToken(epoch, seq))


def told(*seqs: int) -> list[Told]:
    return [Told(seq, 1000 + seq) for seq in seqs]


def everything() -> Watched:
    """A watcher of all: a snapshot at 4 and what follows, over two streams."""
    state = {("connection", "bills"): ("c", 1, "QUEUED"), ("connection", "items"): ("b", 1, "QUEUED")}
    first = Stream("snapshot", 1, 4, 1, state, 4)
    first.messages = [Message(4, 6, told(5, 6), token(6)), Message(6, 6, [], token(6))]
    second = Stream(token(6), 1, 8, 1)
    second.messages = [Message(6, 7, told(7), token(7)), Message(7, 8, told(8), token(8))]
    return Watched("everything", lambda fact: True, [first, second])


def bills() -> Watched:
    """A watcher of bills alone, from the earliest."""
    stream = Stream("earliest", 1, 8, 1)
    stream.messages = [
        Message(0, 3, told(1, 3), token(3)),
        Message(3, 4, told(4), token(4)),
        Message(4, 5, [], token(5)),
        Message(5, 8, told(6, 7, 8), token(8)),
    ]
    return Watched("bills", lambda fact: fact.data_type == "bills", [stream])


def newcomer() -> Watched:
    stream = Stream("now", 1, 5, 1)
    stream.messages = [Message(5, 8, told(6, 7, 8), token(8))]
    return Watched("newcomer", lambda fact: True, [stream])


@pytest.mark.parametrize("watched", [everything(), bills(), newcomer()], ids=lambda watched: watched.name)
def test_a_true_account_is_in_order(watched: Watched) -> None:
    assert breaches(JOURNAL, watched) == []


def replace_message(watched: Watched, stream: int, number: int, **changes) -> None:
    messages = watched.streams[stream].messages
    messages[number] = messages[number]._replace(**changes)


def lose(watched: Watched) -> None:
    replace_message(watched, 0, 0, transitions=told(6))


def lose_the_last_of_a_range(watched: Watched) -> None:
    replace_message(watched, 0, 0, transitions=told(5))


def swap(watched: Watched) -> None:
    replace_message(watched, 0, 0, transitions=told(6, 5))


def double(watched: Watched) -> None:
    replace_message(watched, 0, 0, transitions=told(5, 5, 6))


def double_over_streams(watched: Watched) -> None:
    replace_message(watched, 1, 0, after_seq=5, transitions=told(6, 7))


def alter(watched: Watched) -> None:
    replace_message(watched, 0, 0, transitions=[Told(5, 1005), Told(6, 666)])


def invent(watched: Watched) -> None:
    replace_message(watched, 1, 1, through_seq=9, transitions=told(8, 9), token=token(9))


def claim_progress_over_a_transition(watched: Watched) -> None:
    replace_message(watched, 1, 0, transitions=[])


def break_the_chain(watched: Watched) -> None:
    replace_message(watched, 1, 1, after_seq=8, transitions=[])


def give_a_wrong_token(watched: Watched) -> None:
    replace_message(watched, 0, 0, token=token(5))


def give_a_token_of_another_epoch(watched: Watched) -> None:
    replace_message(watched, 0, 0, token=token(6, epoch=2))


def resume_elsewhere(watched: Watched) -> None:
    watched.streams[1].start = token(5)


def skip_over_the_break(watched: Watched) -> None:
    watched.streams[1].messages.pop(0)


def show_an_older_state(watched: Watched) -> None:
    watched.streams[0].snapshot = {
        ("connection", "bills"): ("a", 2, "CANCELLED"),
        ("connection", "items"): ("b", 1, "QUEUED"),
    }


def show_half_a_state(watched: Watched) -> None:
    watched.streams[0].snapshot = {("connection", "bills"): ("c", 1, "QUEUED")}


def overlap_the_snapshot(watched: Watched) -> None:
    replace_message(watched, 0, 0, after_seq=3, transitions=told(4, 5, 6))


def fall_silent(watched: Watched) -> None:
    watched.streams[1].messages.pop()


PLANTED: dict[Callable[[Watched], None], str] = {
    lose: "reliable",
    lose_the_last_of_a_range: "reliable",
    swap: "ordered",
    double: "unique",
    double_over_streams: "unique",
    alter: "reliable",
    invent: "true",
    claim_progress_over_a_transition: "true",
    break_the_chain: "chained",
    give_a_wrong_token: "chained",
    give_a_token_of_another_epoch: "chained",
    resume_elsewhere: "resumable",
    skip_over_the_break: "chained",
    show_an_older_state: "consistent",
    show_half_a_state: "consistent",
    overlap_the_snapshot: "chained",
    fall_silent: "finished",
}


@pytest.mark.parametrize(("plant", "kind"), PLANTED.items(), ids=lambda one: getattr(one, "__name__", one))
def test_a_planted_breach_is_found_and_named(plant: Callable[[Watched], None], kind: str) -> None:
    watched = copy.deepcopy(everything())
    plant(watched)
    assert any(f"{kind}:" in one for one in breaches(JOURNAL, watched))


def test_a_transition_that_the_filter_holds_back_is_found_when_told() -> None:
    watched = bills()
    replace_message(watched, 0, 0, transitions=told(1, 2, 3))
    assert any("reliable: 2 does not belong" in one for one in breaches(JOURNAL, watched))
