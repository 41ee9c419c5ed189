"""Page tokens: where a page begins, sealed together with the request that it belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
from uuid import UUID

from google.protobuf.message import Message

from datastatus import errors

BAD_TOKEN = (
    "page_token is not one that this service gave out for this request; "
    "pass it back unchanged with the request it came from, or begin without one"
)
_SEAL_BYTES = 8


def page_token(request: Message, place: bytes) -> str:
    """The token of the page of `request` that goes on at `place`."""
    return base64.urlsafe_b64encode(_seal(request, place) + place).decode().rstrip("=")


def place_of_page_token(request: Message, token: str) -> bytes | None:
    """Where the page begins, or None at the start. Raises BadToken."""
    if not token:
        return None
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise errors.BadToken(BAD_TOKEN) from exc
    seal, place = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if seal != _seal(request, place):
        raise errors.BadToken(BAD_TOKEN)
    return place


def page_token_of_id(request: Message, last_id: UUID) -> str:
    """The token of a page that goes on after `last_id`."""
    return page_token(request, last_id.bytes)


def id_of_page_token(request: Message, token: str) -> UUID | None:
    """The page begins after this id, or None: at the start. Raises BadToken."""
    place = place_of_page_token(request, token)
    if place is None:
        return None
    try:
        return UUID(bytes=place)
    except ValueError as exc:
        raise errors.BadToken(BAD_TOKEN) from exc


def _seal(request: Message, place: bytes) -> bytes:
    """Against mutilation, and against taking one list's place for another's; a token gives no rights."""
    # Each method has a request of its own, so the name of that is as good as the method's.
    selection = type(request)()
    selection.CopyFrom(request)
    selection.ClearField("page_size")
    selection.ClearField("page_token")
    name = request.DESCRIPTOR.full_name.encode()
    described = hashlib.blake2b(name + b"\0" + selection.SerializeToString(deterministic=True)).digest()
    return hashlib.blake2b(described + place, digest_size=_SEAL_BYTES).digest()
