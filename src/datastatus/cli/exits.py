"""The exit codes of all commands. Alone here, as `datastatus --help` needs them and should not wait for gRPC."""

from __future__ import annotations

EXIT_OK = 0
# A sync ended badly, or an integration that is installed cannot be used.
EXIT_FAILED = 1
EXIT_USAGE = 2
# The server, or the database, refused or could not be reached.
EXIT_SERVER = 3
# As of programs that SIGINT and SIGPIPE have ended.
EXIT_INTERRUPTED = 128 + 2
EXIT_READER_GONE = 128 + 13
