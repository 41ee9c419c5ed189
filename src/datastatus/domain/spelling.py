"""What somebody may have meant who wrote a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# No name is as long; comparing takes time with the length.
_NAME_CHARACTERS_MAX = 100
# Of 1. At the 0.6 of difflib itself `oddities` is `items`.
_LIKENESS_MIN = 0.7


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, prefix: str = "") -> str:
    """A question after the known name that is near, or `otherwise`. What all have as `prefix` is not compared."""
    near = difflib.get_close_matches(
        name[len(prefix) :][:_NAME_CHARACTERS_MAX],
        [one.removeprefix(prefix) for one in known],
        n=1,
        cutoff=_LIKENESS_MIN,
    )
    return f"did you mean {prefix}{near[0]}?" if near else otherwise
