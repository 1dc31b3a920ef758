"""Both wires keep the contract."""

from __future__ import annotations

import pytest

from agent99.testing import WIRE_CHECKS, MakeWire
from agent99.testing._wire_world import Check


@pytest.mark.parametrize("check", WIRE_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: Check, make_wire: MakeWire) -> None:
    """Each rule of the contract holds on each implementation."""
    await check(make_wire)
