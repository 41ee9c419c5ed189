"""Pages of lists: as much as was asked for, and no more than clients take in one message."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from datastatus.engine.snapshots import MESSAGE_BYTES_MAX

Found = TypeVar("Found")
Listed = TypeVar("Listed", bound=Message)


def fill_page(
    messages: MutableSequence[Listed],
    found: Sequence[Found],
    page_size: int,
    message_of: Callable[[Found], Listed],
) -> Found | None:
    """Append to the list of a response what goes on its page: the last of it, or None where nothing is left over.

    `found` is what the page begins with, in order, and has more than `page_size` where there is more. A page ends
    sooner where its items are large, but holds one at least.
    """
    size_bytes = 0
    last = None
    for one in found:
        if len(messages) == page_size:
            return last
        message = message_of(one)
        size_bytes += message.ByteSize()
        if last is not None and size_bytes > MESSAGE_BYTES_MAX:
            return last
        messages.append(message)
        last = one
    return None
