from __future__ import annotations

import pickle
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastatus.store.ids import new_id, parse_id


@given(st.uuids())
def test_an_id_is_the_uuid_that_its_text_says(one: UUID) -> None:
    found = parse_id(str(one))
    assert (found, str(found), hash(found)) == (one, str(one), hash(one))
    # As between the server and its mapping processes.
    assert pickle.loads(pickle.dumps(found)) == one


@pytest.mark.parametrize(
    "text",
    ["", "x", "01890a5d-ac96-774b-bcce-b302099a805", "01890a5d-ac96-774b-bcce-b302099a80577", "\u00e9" * 36],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        parse_id(text)


def test_new_ids_are_of_version_7_and_ordered_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {one.version for one in ids} == {7}
