"""An integration that comes from elsewhere: the example of the docs, installed as its reader would install it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from datastatus.integrations.gnucash import DEMO_BOOK, GNUCASH
from datastatus.testing import Subject, assert_conforms
from running_service import DATASTATUS, ROOT, RunningService, datastatus, running_service, started

EXAMPLE = ROOT / "docs" / "examples" / "till"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of packages with the example in it, for every process that is started meanwhile."""
    folder = tmp_path_factory.mktemp("packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Nothing is downloaded: what it needs to be built is in our own environment.
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", folder]
    subprocess.run([*pip, *offline, EXAMPLE], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def till(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A till's database, made by the example's own tests."""
    path = tmp_path_factory.mktemp("till") / "till.sqlite"
    script = "import sqlite3, sys, test_till; sqlite3.connect(sys.argv[1]).executescript(test_till.SCHEMA)"
    subprocess.run([sys.executable, "-c", script, path], cwd=EXAMPLE / "tests", check=True)
    return path


@pytest.fixture(scope="module")
async def service(installed: Path) -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


def test_the_examples_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    """They hold it to the conformance kit, as its author would."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-c", EXAMPLE / "pyproject.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, EXAMPLE / "tests", "--basetemp", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


async def test_gnucash_conforms() -> None:
    await assert_conforms(Subject(GNUCASH, options={"book": str(DEMO_BOOK)}))


async def test_what_is_installed_is_listed(installed: Path) -> None:
    shown = await datastatus(None, "integrations", "list")
    assert shown.code == 0
    rows = {line.split()[0]: line for line in shown.output.splitlines()}
    assert {"gnucash", "tryton", "external", "till"} <= rows.keys()
    assert "datastatus-till 1.0" in rows["till"]
    assert "--database" in rows["till"]
    assert "credentials: url, database, key, company" in rows["tryton"]

    told = await datastatus(None, "integrations", "list", "--json")
    by_key = {one["key"]: one for one in told.documents}
    assert by_key["till"]["dataTypes"] == ["customers", "invoices"]
    assert by_key["till"]["incremental"] == ["customers", "invoices"]
    assert by_key["till"]["connectorOptions"][0]["required"] is True
    assert by_key["tryton"]["credentials"]["required"] == ["url", "database", "key"]
    assert by_key["tryton"]["credentials"]["properties"]["key"]["writeOnly"] is True


async def test_the_example_reads_into_the_cache(service: RunningService, till: Path) -> None:
    company = (await datastatus(service, "company", "create", "Tea Shop", "--quiet")).output.strip()
    created = await datastatus(service, "connection", "create", company, "till", "--authorize", "--quiet")
    connector = await started(
        service, "connector", "till", "--database", str(till), "--connection", created.output.strip()
    )
    synced = await datastatus(service, "queue", company, "customers", "invoices", "--attach", "--wait")
    assert synced.code == 0, synced.errors
    read = await datastatus(service, "records", company, "invoices", "--json")
    assert [one["data"]["totalAmount"] for one in read.documents] == ["10.70", "23.79", "54.15"]

    with closing(sqlite3.connect(till)) as cashier:
        cashier.execute("UPDATE customer SET name = 'Benno', changed = '2026-02-05T12:00:00Z' WHERE id = 2")
        cashier.commit()
    again = await datastatus(service, "queue", company, "customers", "--wait", "--json")
    assert again.code == 0, again.errors
    read = await datastatus(service, "records", company, "customers", "--json")
    assert [one["data"]["customerName"] for one in read.documents] == ["Ann", "Benno"]
    # Only what was changed since was fetched: Ann had not been for weeks.
    [latest, *_] = (
        await datastatus(service, "datasets", "--company", company, "--data-type", "customers", "--json")
    ).documents
    assert latest["progress"]["recordsFetched"] == "1"
    connector.terminate()
    await connector.wait()


def broken(folder: Path, module: str) -> None:
    """A distribution whose entry point says that `module` holds an integration."""
    info = folder / "broken_source-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-source\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[datastatus.integrations]\nbroken = {module}\n")


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("no_such_module:IT", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:dumps", "is no integration: it has no `info`"),
        ("exiting:IT", "cannot be loaded: SystemExit: 3"),
        ("datastatus_till:TILL", "offers the integration 'till'"),
    ],
)
async def test_what_cannot_be_used_is_named_with_its_reason(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, told: str
) -> None:
    broken(tmp_path, module)
    (tmp_path / "exiting.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", f"{installed}{os.pathsep}{tmp_path}")

    listed = await datastatus(None, "integrations", "list")
    assert listed.code == 1
    assert told in listed.errors
    assert "broken-source 2.0" in listed.errors
    assert "gnucash" in listed.output, "the others are listed all the same"
    documents = (await datastatus(None, "integrations", "list", "--json")).documents
    assert [told in one["problem"] for one in documents if one["key"] == "broken"] == [True]

    # A service does not start without what it may have connections of.
    process = await asyncio.create_subprocess_exec(
        *(DATASTATUS, "serve", "--listen", "127.0.0.1:0"),
        env={**os.environ, "DATASTATUS_DATA_FOLDER": str(tmp_path / "data")},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert process.returncode == 3
    assert told in errors.decode()
    assert "uninstall broken-source 2.0" in errors.decode()
    assert "Traceback" not in errors.decode()

    connector = await datastatus(None, "connector", "gnucash", "--book", "x", "--connection", "y")
    assert connector.code == 2
    assert told in connector.errors
