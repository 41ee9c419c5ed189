"""The commands that there are. They load lazily: `datastatus --help` should not wait for gRPC."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from datastatus import __version__
from datastatus.cli.exits import EXIT_INTERRUPTED, EXIT_USAGE

app = App(
    name="datastatus",
    help="Synchronise companies' business data into a cache, and see live where each sync stands.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)

# A line each for the list of commands.
_COMMANDS = {
    "serve": "Run the service.",
    "demo": "See it work: a real book, queued, synchronised, watched.",
    "migrate": "Bring a database to the schema of this release.",
    "queue": "Queue syncs, and wait for them if asked to.",
    "cancel": "Cancel a sync.",
    "status": "Show where each data type of a company stands.",
    "datasets": "List syncs, newest first.",
    "dataset": "Show one sync whole, and what validation found in it.",
    "watch": "Show every transition as it happens.",
    "records": "Show what the cache holds.",
    "connector": "Read an on-premise source for connections.",
}
for name, help_text in _COMMANDS.items():
    app.command(f"datastatus.cli.{name}:{name}", name=name, help=help_text)
_GROUPS = {
    "company": "Create, list, show and delete companies.",
    "settings": """Show and change how data types are synchronised.

    Without a command: show what a first link queues, in which order, how often it is synchronised, and from when
    on.
    """,
    "connection": "Connect companies to their sources.",
    "credentials": "Care for the keys that credentials are sealed under.",
    "integrations": "See what kinds of source are installed here.",
}
for name, help_text in _GROUPS.items():
    app.command(f"datastatus.cli.{name}:app", name=name, help=help_text)


def load(name: str) -> None:
    """Load the command of that name, if there is one; its own help tells all that its docstring does."""
    if name in _COMMANDS:
        app[name].help = None


def run() -> NoReturn:
    """Run the command that the arguments name."""
    for name in sys.argv[1:2]:
        load(name)
    try:
        command, bound, _ = app.parse_args(exit_on_error=False, print_error=True)
        # From here on an interrupt is the command's.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(command(*bound.args, **bound.kwargs))
    except CycloptsError:
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
