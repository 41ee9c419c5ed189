"""Takes a consistent private copy of a GnuCash book, and names what is wrong with one that cannot be read.

GnuCash writes each change to its SQLite file at once, and a reader's lock makes such a write fail in its
user's face. So the book is locked only for the moment in which it is copied, in one read transaction, into a
private temporary database. That one vanishes with its connection (SQLite unlinks its file when it opens it),
is one consistent view however long the reading takes, and can have the indexes that GnuCash's tables lack.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from datastatus.errors import SourceLocked, SourceUnavailable
from datastatus.integrations.gnucash import queries

# How long SQLite itself waits for a lock in one attempt; kept short so that a cancelled fetch ends soon.
_BUSY_SECONDS = 0.25
_SQLITE_MAGIC = b"SQLite format 3\x00"
_GZIP_MAGIC = b"\x1f\x8b"


def take_snapshot(path: Path) -> sqlite3.Connection:
    """A connection to a private copy of the book, for the calling thread only; the caller closes it.

    Raises SourceUnavailable with the code
    BOOK_MISSING, BOOK_UNREADABLE (a folder, no permission, a failing disk), BOOK_NOT_SQLITE (GnuCash's XML
    format, or something else altogether), BOOK_FOREIGN (a database, but not GnuCash's),
    BOOK_VERSION_UNSUPPORTED, BOOK_CORRUPT, BOOK_NEEDS_RECOVERY (GnuCash died while it wrote),
    BOOK_LOCKED (a SourceLocked: somebody is writing now, worth another try), or NO_SPACE (for the copy).
    """
    _check_file(path)
    # An empty name is SQLite's private temporary database: in memory while small, else in an unlinked file.
    snapshot = sqlite3.connect("", isolation_level=None)
    try:
        with translated(path):
            uri = f"{path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as book:
                # The read lock comes first, under the timeout above: backup() would wait for it for ever.
                book.execute("BEGIN")
                book.execute("SELECT count(*) FROM sqlite_master").fetchone()
                book.backup(snapshot)
            # Nothing in the file may run code of its own, and nothing of ours is worth a journal.
            snapshot.execute("PRAGMA trusted_schema = OFF")
            snapshot.execute("PRAGMA journal_mode = OFF")
            _check_copy(snapshot, path)
            snapshot.executescript(queries.PREPARE)
    except BaseException:
        snapshot.close()
        raise
    return snapshot


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise SourceUnavailable(
                f"{path} is a folder; name the .gnucash file itself", code="BOOK_UNREADABLE"
            )
        if not stat.S_ISREG(mode):
            raise SourceUnavailable(f"{path} is not a file", code="BOOK_UNREADABLE")
        with path.open("rb") as file:
            head = file.read(64)
    except (FileNotFoundError, NotADirectoryError, ValueError) as exc:
        raise SourceUnavailable(
            f"there is no file {str(path)!r}; check the path of the book", code="BOOK_MISSING"
        ) from exc
    except OSError as exc:
        raise SourceUnavailable(
            f"{path} cannot be read by user {os.getuid() if hasattr(os, 'getuid') else ''}: {exc.strerror}",
            code="BOOK_UNREADABLE",
        ) from exc
    if head.startswith(_SQLITE_MAGIC):
        return
    if head.startswith(_GZIP_MAGIC) or head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<?xml"):
        raise SourceUnavailable(
            f"{path} is in GnuCash's XML format; in GnuCash choose File, Save As, data format sqlite3, "
            "and name the new file here",
            code="BOOK_NOT_SQLITE",
        )
    raise SourceUnavailable(
        f"{path} is {'not a GnuCash book' if head else 'empty'}; name a book saved in GnuCash's SQLite format",
        code="BOOK_NOT_SQLITE",
    )


def _check_copy(snapshot: sqlite3.Connection, path: Path) -> None:
    """Raises SourceUnavailable unless the copy is whole and has GnuCash's tables in versions that we know."""
    # A damaged page would look like vanished records otherwise.
    problem = snapshot.execute("PRAGMA quick_check(1)").fetchone()
    if problem is None or problem[0] != "ok":
        raise _corrupt(path)
    tables = {name for (name,) in snapshot.execute(queries.TABLES)}
    if not {"versions", "books", "accounts"} <= tables:
        raise SourceUnavailable(
            f"{path} is an SQLite database but not a GnuCash book; name the book's file", code="BOOK_FOREIGN"
        )
    versions = dict(snapshot.execute(queries.VERSIONS))
    # While it saves a whole book anew, GnuCash keeps the tables before under such names.
    if any(f"{table}_back" in tables for table in queries.SCHEMA) and _is_open(snapshot, tables):
        raise SourceLocked(
            f"GnuCash is just saving {path} as a whole; try again when it has finished", code="BOOK_LOCKED"
        )
    for table, (newest, columns) in queries.SCHEMA.items():
        version = versions.get(table)
        if isinstance(version, int) and version > newest:
            raise SourceUnavailable(
                f"{path} was written by a GnuCash newer than we know (table {table} is version {version}, "
                f"we read up to {newest}); update datastatus",
                code="BOOK_VERSION_UNSUPPORTED",
            )
        present = {name for (name,) in snapshot.execute(queries.COLUMNS, {"table": table})}
        if missing := [column for column in columns.split() if column not in present]:
            raise SourceUnavailable(
                f"{path} was written by a GnuCash older than we know (table {table} lacks {', '.join(missing)}); "
                "open it once with a current GnuCash, which upgrades it",
                code="BOOK_VERSION_UNSUPPORTED",
            )


def _is_open(snapshot: sqlite3.Connection, tables: set[str]) -> bool:
    """Whether GnuCash says that it has the book open."""
    return "gnclock" in tables and snapshot.execute("SELECT count(*) FROM gnclock").fetchone()[0] > 0


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Everything sqlite3 can raise becomes a SourceUnavailable that names the book and says what to do."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _translation(path, exc) from exc
    except (OverflowError, UnicodeDecodeError) as exc:
        raise _corrupt(path) from exc


def _translation(path: Path, exc: sqlite3.Error) -> SourceUnavailable:
    # Absent on errors that Python's module finds by itself, such as text that is not UTF-8.
    extended = getattr(exc, "sqlite_errorcode", None)
    match extended & 0xFF if extended is not None else None:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return SourceLocked(
                f"{path} is locked by a program that writes to it; close that program or try again",
                code="BOOK_LOCKED",
            )
        case sqlite3.SQLITE_NOTADB:
            return SourceUnavailable(
                f"{path} is not a readable SQLite file (damaged or encrypted); restore it from a backup",
                code="BOOK_NOT_SQLITE",
            )
        case sqlite3.SQLITE_READONLY:
            return SourceUnavailable(
                f"GnuCash was interrupted while it wrote {path}; open it once in GnuCash to repair it",
                code="BOOK_NEEDS_RECOVERY",
            )
        case sqlite3.SQLITE_FULL:
            return SourceUnavailable(
                f"no space left in the temporary folder for a copy of {path}; free some", code="NO_SPACE"
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return SourceUnavailable(
                f"{path} cannot be opened; check its permissions and those of its folder",
                code="BOOK_UNREADABLE",
            )
        case sqlite3.SQLITE_IOERR if extended != sqlite3.SQLITE_IOERR_SHORT_READ:
            return SourceUnavailable(
                f"{path} could not be read from its disk; check the disk or the network share",
                code="BOOK_UNREADABLE",
            )
        case _:
            return _corrupt(path)


def _corrupt(path: Path) -> SourceUnavailable:
    return SourceUnavailable(
        f"{path} is damaged; restore it from a backup, or open it in GnuCash and save it anew",
        code="BOOK_CORRUPT",
    )
