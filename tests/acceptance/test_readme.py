"""The README's own commands, run as they stand there against a real service, and the demo."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from running_service import ROOT, running_service

README = (ROOT / "README.md").read_text("utf-8")
DEMO_SECONDS_MAX = 60


async def bash(script: str, **environment: str) -> tuple[int, str]:
    """(exit code, all that it printed)."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(DEMO_SECONDS_MAX):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


def in_this_environment(script: str) -> str:
    """The README speaks of `.venv/bin`; the tests may run in another environment."""
    return script.replace("$PWD/.venv/bin", str(Path(sys.executable).parent))


async def test_the_readmes_commands_work_as_they_stand() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    async with running_service() as service:
        script = in_this_environment("\n".join(blocks)).replace("127.0.0.1:50051", service.address)
        # The connector that the README starts in the background ends with the script.
        code, printed = await bash(
            "trap 'kill $(jobs -p)' EXIT\n" + script, DATASTATUS_SERVER=service.address
        )

    assert code == 0, printed
    assert re.search(r"invoices +COMPLETE +35 records", printed)
    assert "datastatus.v1.SyncService" in printed
    # Told by the snapshot or by a transition, whichever was first.
    assert re.search(r'"(to_)?status": "DATASET_STATUS_COMPLETE"', printed)
    assert '"supplierName"' in printed


async def test_an_error_reads_as_the_readme_shows_it() -> None:
    command, shown = re.search(
        r"^\$ (grpcurl .*?)\n(ERROR:.*?)^```", README, re.DOTALL | re.MULTILINE
    ).groups()  # type: ignore[union-attr]
    async with running_service() as service:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        code, printed = await bash(command.replace("127.0.0.1:50051", service.address), PATH=path)

    assert code != 0
    assert printed == shown


async def test_the_readme_names_only_files_that_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
async def test_the_demo_ends_well_and_its_next_steps_work_as_printed() -> None:
    async with running_service() as service:
        folder = str(service.data_folder)
        code, printed = await bash("make --no-print-directory demo", DATASTATUS_DATA_FOLDER=folder)
        assert code == 0, printed
        assert len(re.findall(r"PROCESSING → COMPLETE", printed)) == 12
        assert "RE-00021" in printed

        steps = printed.partition("Try next\n")[2].strip().splitlines()
        assert shlex.split(steps[0])[1:] == ["serve", "--data-folder", folder]
        # The same Postgres is behind our service as would be behind that one: the other lines work on it.
        for step in steps[1:]:
            line = step.strip().replace("127.0.0.1:50051", service.address)
            if " watch " in line or " connector " in line or " queue " in line:
                # These run on: that they start is seen by their help.
                line = re.sub(r"( watch| connector| queue) .*", r"\1 --help", line)
            code, printed = await bash(line, DATASTATUS_SERVER=service.address)
            assert code == 0, printed
