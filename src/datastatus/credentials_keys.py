"""Where the keys lie that credentials are sealed under: in the environment or in a file, never in the database."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from datastatus.config import Settings
from datastatus.engine.credentials import KeyInvalid, KeyRing, generate_key

_log = structlog.get_logger(__name__)

_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


def key_source(settings: Settings) -> Callable[[], KeyRing]:
    """The keys as they are now, each time it is called; those of before while a file of them cannot be used.

    With a database of one's own and no key, there is none. Raises KeyInvalid for keys that are none, and for a file
    that is missing.
    """
    if settings.credentials_keys is not None:
        keys = settings.credentials_keys.get_secret_value().split(",")
        ring = KeyRing([key.strip() for key in keys if key.strip()])
        return lambda: ring
    path = key_file(settings)
    if path is None:
        return lambda: KeyRing(())
    return _KeyFile(path)


def check_configured_keys(settings: Settings) -> None:
    """Raises KeyInvalid for keys, and for a file of them, that are configured and cannot be used."""
    path = key_file(settings)
    if path is None or path != _default_file(settings):
        key_source(settings)


def prepare_key_file(settings: Settings, in_use: Collection[str]) -> None:
    """For a server, before it reads its keys: make the file of the embedded Postgres where none is configured.

    Raises KeyInvalid where it is missing while the keys `in_use` seal credentials: another would be taken for it.
    Logs where others can read a file.
    """
    path = key_file(settings)
    if path is None:
        return
    try:
        is_there = path.exists()
    except OSError as exc:
        raise KeyInvalid(f"the file of credentials keys {path} cannot be read: {exc.strerror}") from exc
    if path == _default_file(settings) and not is_there:
        if in_use:
            raise KeyInvalid(
                f"the file of credentials keys {path} is missing, and what is sealed under {', '.join(in_use)} "
                "cannot be read without it: put it back; or if it is lost, put a new key there (datastatus "
                "credentials generate-key) and have the connections authorised anew"
            )
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        _make_file(path)
    if path.exists() and path.stat().st_mode & _READABLE_BY_OTHERS:
        _log.warning("credentials_keys_readable_by_others", path=str(path), advice=f"chmod 600 {path}")


def key_file(settings: Settings) -> Path | None:
    """The file that holds the keys; None where they are in the environment, or there are none."""
    if settings.credentials_keys is not None:
        return None
    return settings.credentials_keys_file or _default_file(settings)


def add_key(path: Path) -> None:
    """Put a new key first in the file. Raises KeyInvalid where the file cannot be read."""
    # It may be a link to where it really lies.
    path = path.resolve()
    with _locked(path.parent):
        _replace(path, f"{generate_key()}\n{_text(path)}")


def _default_file(settings: Settings) -> Path | None:
    # Beside the embedded Postgres but not in it: whoever gets hold of the database does not have the keys.
    return None if settings.database_url else settings.data_folder.absolute() / "credentials.keys"


class _KeyFile:
    """Reads a file of keys each time it is called. Raises KeyInvalid where it cannot be used from the first.

    What it has read once goes on opening what is sealed: a file that was replaced by mistake loses nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring = _read(path)
        self._problem: str | None = None

    def __call__(self) -> KeyRing:
        try:
            self._ring, self._problem = _read(self._path, self._ring), None
        except KeyInvalid as exc:
            # It may be in the middle of an edit; no sync has to fail for that. Once, not for every one of them.
            if self._problem != str(exc):
                self._problem = str(exc)
                _log.error(
                    "credentials_keys_unusable", problem=self._problem, going_on_with=self._ring.key_ids
                )
        return self._ring


def _read(path: Path, before: KeyRing | None = None) -> KeyRing:
    lines = [line.strip() for line in _text(path).splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise KeyInvalid(
            f"the file of credentials keys {path} holds no key; `datastatus credentials generate-key` makes one"
        )
    try:
        return KeyRing(keys, before=before)
    except KeyInvalid as exc:
        raise KeyInvalid(f"the file of credentials keys {path} cannot be used: {exc}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyInvalid(f"the file of credentials keys {path} cannot be read: {exc.args[-1]}") from None


def _make_file(path: Path) -> None:
    """Make the file with one key, whole or not at all; one that is there already stays."""
    unfinished = _unfinished(path, f"{generate_key()}\n")
    try:
        os.link(unfinished, path)
    except FileExistsError:
        # Another process was quicker.
        pass
    finally:
        unfinished.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Of several that change files there one after the other: what one has added the next one keeps."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    """Whole or not at all; still readable by whom it was readable, except by everybody."""
    before = path.stat()
    unfinished = _unfinished(path, text)
    try:
        os.chown(unfinished, before.st_uid, before.st_gid)
        unfinished.chmod(before.st_mode & 0o770)
        unfinished.rename(path)
    except OSError:
        unfinished.unlink()
        raise


def _unfinished(path: Path, text: str) -> Path:
    """A file beside `path`, readable by its owner alone, with `text` safely on the disk."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)
