"""The command line. Commands load lazily: `datastatus --help` should not wait for gRPC."""

from __future__ import annotations

import os
import sys

from cyclopts import App, CycloptsError, Parameter

from datastatus import __version__

# We start programs but never fork to go on in Python; gRPC would prepare for that, and say so.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

app = App(
    name="datastatus",
    help="Synchronise companies' business data into a cache, and see live where each sync stands.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)

_COMMANDS = {
    "serve": "Run the service.",
    "demo": "See it work: a real book, queued, synchronised, watched.",
    "migrate": "Bring a database to the schema of this release.",
    "queue": "Queue syncs, and wait for them if asked to.",
    "cancel": "Cancel a sync.",
    "status": "Show where each data type of a company stands.",
    "datasets": "List syncs, newest first.",
    "watch": "Show every transition as it happens.",
    "records": "Show what the cache holds.",
    "connector": "Read an on-premise source for connections.",
}
for name, help_text in _COMMANDS.items():
    app.command(f"datastatus.cli.{name}:{name}", name=name, help=help_text)
app.command("datastatus.cli.company:app", name="company", help="Create, list, show and delete companies.")
app.command(
    "datastatus.cli.settings:app", name="settings", help="Show and change how data types are synchronised."
)
app.command("datastatus.cli.connection:app", name="connection", help="Connect companies to their sources.")
app.command(
    "datastatus.cli.credentials:app",
    name="credentials",
    help="Care for the keys that credentials are sealed under.",
)

app.command(
    "datastatus.cli.integrations:app",
    name="integrations",
    help="See what kinds of source are installed here.",
)

EXIT_USAGE = 2
# As of a program that SIGPIPE has ended.
EXIT_READER_GONE = 128 + 13


def main() -> None:
    """Exit codes: 0 success, 1 a sync ended badly, 2 usage, 3 the server refused or could not be reached.

    141 whoever read the output has gone, such as `head`.
    """
    try:
        sys.exit(app(exit_on_error=False, print_error=True))
    except CycloptsError:
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(130)
