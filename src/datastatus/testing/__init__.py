"""Checks that an integration keeps what it promises. For whoever writes one; see docs/integrations.md.

    import asyncio

    from datastatus.testing import Subject, assert_conforms

    def test_it_keeps_what_it_promises() -> None:
        asyncio.run(assert_conforms(Subject(MINE, options={"folder": "tests/books"})))

Each check has a name (`CHECKS`), and finds problems in plain words. Nothing else than the integration and its
source is needed: no service, no database.
"""

from __future__ import annotations

from datastatus.testing.checks import CHECKS, Check, assert_conforms, find_problems
from datastatus.testing.examination import Examination, Subject

__all__ = ["CHECKS", "Check", "Examination", "Subject", "assert_conforms", "find_problems"]
