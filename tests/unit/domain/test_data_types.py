"""The data types that there are."""

from __future__ import annotations

import pytest

from datastatus.domain.data_types import must_be_data_types
from datastatus.errors import DataTypeUnknown


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("invoice", "there is no data type 'invoice'; did you mean invoices?"),
        ("oddities", "there is no data type 'oddities'; ListDataTypes names them all"),
        ("i" * 1_000_000, "ListDataTypes names them all"),
    ],
)
def test_a_data_type_that_there_is_not_is_told_with_what_may_be_meant(key: str, says: str) -> None:
    with pytest.raises(DataTypeUnknown) as missed:
        must_be_data_types("bills", key)
    assert says in str(missed.value)
