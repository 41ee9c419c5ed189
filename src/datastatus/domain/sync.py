"""What a caller asks for when it queues a sync."""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from uuid import UUID

from datastatus.domain.dataset import OnActive


class SyncRequest(NamedTuple):
    """`connection_id` None: the company's one linked connection that supports the type.

    `request_id` makes a repetition answer with the first one's dataset; None: every request is new.
    `allow_mass_deletion`: the cache may lose most of its records.
    """

    company_id: UUID
    data_type: str
    connection_id: UUID | None = None
    request_id: UUID | None = None
    on_active: OnActive = OnActive.REJECT
    allow_mass_deletion: bool = False

    @property
    def fingerprint(self) -> bytes:
        """Equal for equal requests as sent: what a repeated request_id is held to."""
        parts = (
            self.company_id,
            self.data_type,
            self.connection_id or "",
            self.on_active,
            self.allow_mass_deletion,
        )
        return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
