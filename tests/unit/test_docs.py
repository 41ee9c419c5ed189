"""What the docs tell people to set exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from cyclopts import App

from datastatus.cli.commands import app
from datastatus.config import Settings, unknown_variables
from datastatus.integrations.base import IntegrationInfo
from datastatus.integrations.gnucash import GNUCASH

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Of buf, and of the connector of the example of an integration.
FLAGS_OF_OTHERS = {"--protocol", "--http2-prior-knowledge", "--database"}
VARIABLES_OF_COMMANDS = {"DATASTATUS_SERVER"}


def flags(of: App) -> Iterator[str]:
    """Of a command and of all below it."""
    if of.default_command is not None:
        for argument in of.assemble_argument_collection(default_parameter=app.default_parameter):
            yield from argument.names
    for name in of:
        if name.startswith("--"):
            yield name
        elif not name.startswith("-"):
            yield from flags(of[name])


def test_there_is_every_flag_that_the_docs_name() -> None:
    connectors = {f"--{option.name}" for option in GNUCASH.info.connector_options}
    known = {*flags(app), *connectors, *FLAGS_OF_OTHERS}
    assert {"--new-epoch", "--add-new-key", "--listen", "--help"} <= known
    for path in DOCS:
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", path.read_text("utf-8")))
        assert named <= known, path


def test_all_that_an_integration_says_of_itself_is_described() -> None:
    page = (ROOT / "docs" / "integrations.md").read_text("utf-8")
    described = re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)
    assert sorted(described) == sorted(field.name for field in fields(IntegrationInfo))


def variables(of: App) -> Iterator[str]:
    """That a command and all below it read."""
    if of.default_command is not None:
        for argument in of.assemble_argument_collection(default_parameter=app.default_parameter):
            yield from argument.parameter.env_var or ()
    for name in of:
        if not name.startswith("-"):
            yield from variables(of[name])


def test_no_variable_that_a_command_reads_is_called_unknown() -> None:
    read = set(variables(app))
    assert {"DATASTATUS_SERVER", "DATASTATUS_LOG_LEVEL"} <= read
    assert unknown_variables(read) == []


def test_there_is_every_variable_that_the_docs_name() -> None:
    known = {f"DATASTATUS_{name.upper()}" for name in Settings.model_fields} | VARIABLES_OF_COMMANDS
    for path in DOCS:
        assert set(re.findall(r"DATASTATUS_[A-Z_]+", path.read_text("utf-8"))) <= known, path
