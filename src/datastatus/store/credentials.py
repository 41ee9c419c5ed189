"""What connections were authorised with, sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from datastatus.store.database import Executor, Row
from datastatus.store.ids import NIL


@dataclass(frozen=True, slots=True)
class SealedCredentials:
    """`token` opens with the key that `key_id` names."""

    connection_id: UUID
    token: bytes
    key_id: str


async def sealed_credentials(executor: Executor, connection_id: UUID) -> SealedCredentials | None:
    """Those of one connection, or None where none are kept."""
    rows = await executor.rows("sealed_credentials", connection_id)
    return _sealed(rows[0]) if rows else None


async def credentials_under_other_keys(
    executor: Executor, key_id: str, after: SealedCredentials | None, count_max: int
) -> list[SealedCredentials]:
    """Those that another key than `key_id` seals: by key and connection, after the one given."""
    place = ("", NIL) if after is None else (after.key_id, after.connection_id)
    rows = await executor.rows("credentials_under_other_keys", key_id, *place, count_max)
    return [_sealed(row) for row in rows]


async def replace_sealed_credentials(
    executor: Executor, renewed: Sequence[tuple[SealedCredentials, SealedCredentials]]
) -> int:
    """Put the second of each pair where the first still is; how many were."""
    rows = await executor.rows(
        "replace_sealed_credentials",
        [before.connection_id for before, _ in renewed],
        [before.token for before, _ in renewed],
        [now.token for _, now in renewed],
        [now.key_id for _, now in renewed],
    )
    return len(rows)


async def credentials_by_key(executor: Executor) -> dict[str, int]:
    """By the id of a key, the connections whose credentials it seals."""
    return {row["key_id"]: row["connections"] for row in await executor.rows("credentials_by_key")}


def _sealed(row: Row) -> SealedCredentials:
    return SealedCredentials(row["connection_id"], row["sealed"], row["key_id"])
