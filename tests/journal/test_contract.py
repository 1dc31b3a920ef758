"""Both journals keep the contract."""

from __future__ import annotations

import pytest

from agent99.testing import JOURNAL_CHECKS, MakeJournal
from agent99.testing._journal_world import Check


@pytest.mark.parametrize("check", JOURNAL_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: Check, make_journal: MakeJournal) -> None:
    """Each rule of the suite holds, in memory and on a server."""
    await check(make_journal)
