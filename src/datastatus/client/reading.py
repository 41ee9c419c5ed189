"""Reading the cache, over as many pages as it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from datastatus.channel import Line
from datastatus.client.calls import call
from datastatus.v1 import record_pb2, record_service_pb2
from datastatus.v1.record_service_pb2_grpc import RecordServiceStub

PAGE_RECORDS_MAX = 1000


class RecordListing:
    """The records of one publication, to be read by `async for`; whatever is synchronised meanwhile, of that one.

    Each `async for` begins again, with the publication that is the newest then. `publication` and `total_size`, of
    all pages, are known from the first record on. Without a publication, nothing has been published yet.
    """

    def __init__(
        self, line: Line, request: record_service_pb2.ListRecordsRequest, timeout_seconds: float
    ) -> None:
        """`timeout_seconds` are for each page."""
        self._line = line
        self._request = request
        self._timeout_seconds = timeout_seconds
        self.publication: record_pb2.Publication | None = None
        self.total_size = 0

    async def __aiter__(self) -> AsyncIterator[record_pb2.Record]:
        """Raises PageTokenExpired where the publication is given up before its last page has been read."""
        token = ""
        while True:
            page = await self._page(token)
            self.publication = page.publication if page.HasField("publication") else None
            self.total_size = page.total_size
            for record in page.records:
                yield record
            if not (token := page.next_page_token):
                return

    async def _page(self, token: str) -> record_service_pb2.ListRecordsResponse:
        request = record_service_pb2.ListRecordsRequest(page_token=token)
        request.MergeFrom(self._request)
        return await call(
            self._line,
            lambda channel, seconds: RecordServiceStub(channel).ListRecords(request, timeout=seconds),
            self._timeout_seconds,
        )
