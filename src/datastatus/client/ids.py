"""Ids as callers have them: as text or as UUID."""

from __future__ import annotations

import uuid

Id = str | uuid.UUID


def optional_id(given: Id | None) -> str | None:
    """As a request has it: absent where None."""
    return None if given is None else str(given)
