"""What raw records may hold on their way to the service, and what is said of those that hold something else."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastatus import errors
from datastatus.integrations.encoding import RECORD_BYTES_MAX, encode_record

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _JSON))
def test_what_json_knows_travels_unchanged(raw: dict[str, Any]) -> None:
    assert json.loads(encode_record(raw)) == raw


def nested_without_end() -> dict[str, Any]:
    raw: dict[str, Any] = {"id": "7"}
    raw["self"] = raw
    return raw


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"id": "7", "net": 0.1}, "record '7' has a float at net"),
        (
            {"id": "7", "lines": [{"net": "1"}, {"net": float("nan")}]},
            "record '7' has a float at lines[1].net",
        ),
        (
            {"id": "7", "net": Decimal("1.5")},
            "record '7' has a value of type Decimal at net, which JSON does not know",
        ),
        ({"id": "7", "day": date(2026, 1, 1)}, "record '7' has a value of type date at day"),
        ({"id": "7", "note": b"M\xfcller"}, "record '7' has a value of type bytes at note"),
        ({"id": "7", "notes": ("M\udcfcller",)}, "record '7' has half a surrogate pair at notes[0]"),
        ({"id": "\udcfc"}, r"record '\udcfc' has half a surrogate pair at id"),
        ({"id": "7", "by": {1: "x"}}, "record '7' has the key 1 at by"),
        ({"id": "7", "\udcfc": 1}, r"record '7' has the key '\udcfc' at its top"),
        ({"id": "7", "net": 10**5000}, "record '7' cannot be written as JSON"),
        (nested_without_end(), "record '7' cannot be written as JSON"),
        ({"net": 0.1}, "a record without an id has a float at net"),
        (MappingProxyType({"id": "7"}), "record '7' is of type mappingproxy"),
        (7, "a record without an id is of type int"),
    ],
)
def test_what_cannot_travel_is_named_with_its_record_and_its_place(raw: Any, told: str) -> None:
    with pytest.raises(errors.SourceUnavailable) as refused:
        encode_record(raw)
    assert told in str(refused.value)
    assert refused.value.code == "RECORD_NOT_JSON"


def test_a_record_that_is_too_large_is_named_with_its_size() -> None:
    raw = {"id": "7", "note": ""}
    room = RECORD_BYTES_MAX - len(encode_record(raw))
    assert len(encode_record(raw | {"note": "x" * room})) == RECORD_BYTES_MAX
    with pytest.raises(errors.SourceUnavailable, match=r"record '7' has 1048577 bytes") as refused:
        encode_record(raw | {"note": "x" * (room + 1)})
    assert refused.value.code == "RECORD_TOO_LARGE"
