"""The Tryton integration keeps what every integration promises, against a real server."""

from __future__ import annotations

from datastatus.integrations.tryton import TRYTON
from datastatus.testing import Subject, assert_conforms
from tryton_server import RunningTryton


async def test_tryton_conforms(tryton: RunningTryton) -> None:
    await assert_conforms(
        Subject(
            TRYTON,
            credentials=tryton.credentials(),
            wrong_credentials=[tryton.credentials() | {"key": "0" * 128}],
        )
    )
