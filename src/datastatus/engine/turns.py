"""A queue in which companies take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar
from uuid import UUID

Item = TypeVar("Item")


class CompanyTurns(Generic[Item]):
    """However much one company has waiting, another's is not further back than one item of each company."""

    def __init__(self) -> None:
        # The company whose turn it is stands first; none stands here without items.
        self._waiting: dict[UUID, deque[Item]] = {}
        self._count = asyncio.Semaphore(0)

    def put(self, company_id: UUID, item: Item) -> None:
        self._waiting.setdefault(company_id, deque()).append(item)
        self._count.release()

    async def get(self) -> Item:
        """The next one, as soon as there is one."""
        await self._count.acquire()
        company_id = next(iter(self._waiting))
        items = self._waiting.pop(company_id)
        item = items.popleft()
        if items:
            self._waiting[company_id] = items
        return item
