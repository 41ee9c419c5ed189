"""UUIDs of the class that the driver makes of those it reads.

They are equal to the standard library's and are a subclass of them, but read, written and compared in C: a tenth of
the time, of which a queued dataset takes a dozen times as much.
"""

from __future__ import annotations

from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as DriverUUID
from uuid6 import uuid7


def parse_id(text: str) -> UUID:
    """Raises ValueError where it is none. Hyphens may be missing or elsewhere."""
    return DriverUUID(text)


def new_id() -> UUID:
    """A new one, ordered by time."""
    return DriverUUID(uuid7().bytes)
