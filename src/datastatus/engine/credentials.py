"""Credentials at rest: sealed under keys that lie elsewhere, and opened only where a source is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from datastatus import errors
from datastatus.store import credentials
from datastatus.store.credentials import SealedCredentials
from datastatus.store.database import Database

_log = structlog.get_logger(__name__)

_PAGE_CONNECTIONS = 200


class KeyInvalid(Exception):
    """What should be a key is none. The message tells which, and never repeats it."""


class KeyRing:
    """Fernet keys, newest first: the newest seals, any of them opens.

    What is sealed names its connection, so that a row moved to another connection does not open there.
    """

    def __init__(self, keys: Sequence[str], *, before: KeyRing | None = None) -> None:
        """With the keys of `before` that are not among these any more: they open too. Raises KeyInvalid."""
        parsed = {}
        for number, key in enumerate(keys, start=1):
            try:
                parsed[_key_id(key)] = Fernet(key)
            except ValueError:
                # Without its cause, which may hold the key.
                raise KeyInvalid(
                    f"credentials key {number} of {len(keys)} is not 32 bytes in URL-safe base64; "
                    "`datastatus credentials generate-key` makes one"
                ) from None
        self.key_ids = tuple(parsed)
        """Without those of before: nobody has them but this process."""
        self._keys: Mapping[str, Fernet] = parsed | {
            key_id: key
            for key_id, key in (before._keys if before is not None else {}).items()
            if key_id not in parsed
        }
        self._fernet = MultiFernet(list(self._keys.values())) if self._keys else None

    def seal(self, connection_id: UUID, values: Mapping[str, Any]) -> SealedCredentials:
        """Raises CredentialsKeyMissing where there is no key."""
        if self._fernet is None:
            raise errors.CredentialsKeyMissing
        document = json.dumps({"connection_id": str(connection_id), "credentials": values})
        return SealedCredentials(connection_id, self._fernet.encrypt(document.encode()), self.key_ids[0])

    def open(self, sealed: SealedCredentials) -> dict[str, Any]:
        """Raises SourceUnavailable where no key opens them, or they are another connection's."""
        try:
            document = json.loads(self._open(sealed))
        except InvalidToken:
            document = None
        if document is None or document["connection_id"] != str(sealed.connection_id):
            raise errors.SourceUnavailable(
                "the service cannot read what this connection was authorised with: its operator must give it the "
                f"key {sealed.key_id} again, or the end user re-authorise the connection",
                code="CREDENTIALS_UNREADABLE",
            )
        return document["credentials"]

    def reseal(self, sealed: SealedCredentials) -> SealedCredentials | None:
        """The same under the newest key; None where no key opens them."""
        try:
            if self._fernet is None:
                return None
            return SealedCredentials(sealed.connection_id, self._fernet.rotate(sealed.token), self.key_ids[0])
        except InvalidToken:
            return None

    def _open(self, sealed: SealedCredentials) -> bytes:
        if self._fernet is None:
            raise InvalidToken
        return self._fernet.decrypt(sealed.token)


def generate_key() -> str:
    return Fernet.generate_key().decode()


def _key_id(key: str) -> str:
    """Names a key without telling anything of it: it is as random as it is long."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did, in connections. `unreadable`: by the id of a key that is not there."""

    resealed: int
    unreadable: Mapping[str, int]


class CredentialsVault:
    """Keeps what connections were authorised with. `keys` is asked each time: a rotation needs no restart."""

    def __init__(self, database: Database, keys: Callable[[], KeyRing]) -> None:
        self._database = database
        self._keys = keys
        self._checked: tuple[str, ...] | None = None

    def seal(self, connection_id: UUID, values: Mapping[str, Any]) -> SealedCredentials:
        """Raises CredentialsKeyMissing where the service has no key."""
        return self._keys().seal(connection_id, values)

    async def open(self, connection_id: UUID) -> dict[str, Any]:
        """Empty where none are kept. Raises SourceUnavailable where they cannot be read."""
        sealed = await credentials.sealed_credentials(self._database, connection_id)
        if sealed is None:
            return {}
        ring = self._keys()
        if ring.key_ids != self._checked:
            await self.check()
        return ring.open(sealed)

    async def check(self) -> None:
        """Log which keys are missing where this service reads them, before it is started anew without them.

        At the start, and when the keys are others than they were: a running service still opens what is sealed
        under those that it had.
        """
        known = self._keys().key_ids
        for key_id, connections in (await credentials.credentials_by_key(self._database)).items():
            if key_id not in known:
                _log.error("credentials_key_missing", key_id=key_id, connections=connections)
        self._checked = known

    async def rotate(self) -> Rotation:
        """Seal everything under the newest key. Raises CredentialsKeyMissing.

        Servers may go on meanwhile, if they have the newest key already. What is sealed while it runs, by one that
        has not, is left: run it again.
        """
        ring = self._keys()
        if not ring.key_ids:
            raise errors.CredentialsKeyMissing
        resealed = 0
        unreadable: dict[str, int] = {}
        after: SealedCredentials | None = None
        while page := await credentials.credentials_under_other_keys(
            self._database, ring.key_ids[0], after, _PAGE_CONNECTIONS
        ):
            after = page[-1]
            renewed = [(one, ring.reseal(one)) for one in page]
            resealed += await credentials.replace_sealed_credentials(
                self._database, [(before, now) for before, now in renewed if now is not None]
            )
            for before, now in renewed:
                if now is None:
                    unreadable[before.key_id] = unreadable.get(before.key_id, 0) + 1
        return Rotation(resealed, unreadable)
