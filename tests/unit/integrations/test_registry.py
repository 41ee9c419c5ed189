"""Integrations by their keys."""

from __future__ import annotations

import pytest

from datastatus import errors
from datastatus.integrations.registry import find_integration, load_registry


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("gnucahs", "there is no integration gnucahs; did you mean gnucash?"),
        (
            "till",
            "there is no integration till; installed are external, gnucash, tryton; "
            "others are found at the next start",
        ),
    ],
)
def test_what_there_is_is_told_with_what_there_is_not(key: str, says: str) -> None:
    ours = {name: one for name, one in load_registry().items() if name in ("external", "gnucash", "tryton")}
    with pytest.raises(errors.IntegrationNotFound) as missed:
        find_integration(ours, key)
    assert str(missed.value) == says
