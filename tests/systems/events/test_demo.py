"""`agent99 demo events`: the shop's whole life on the bus, kept, counted, and compared."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from agent99.systems.events import Proof, ShopGuest, rows_of, verdict_of
from agent99.systems.events._verify import Breach
from agent99.systems.events._views_agent import Revenue, Views, ViewState
from tests.systems.shop._programme import Programme, write_tiny


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--chaos",)], ids=["calm", "chaos"])
def test_the_shop_on_the_bus(tmp_path: Path, how: tuple[str, ...]) -> None:
    """Every event is in the audit log once; books, chain and projections agree, also under fire."""
    tiny = write_tiny(tmp_path / "tiny.parquet", 150)
    programme = Programme("--json", "--data", str(tiny), *how, demo="events")
    with closing(programme):
        assert 0 == programme.wait(), programme.lines
        document = json.loads("".join(programme.output))
    assert document["ok"]
    assert [] == document["findings"]
    shop = document["shop"]
    assert document["revenue_pence"] == shop["revenue_pence"] > 0
    assert document["orders"] == shop["confirmed"]
    assert document["events"] == shop["events"] + shop["orders"], "and each invoice, by the till"
    assert document["audit_sound"]
    assert document["rebuilt"]
    assert 3 <= document["generations"], "the first, one built while it worked, one at the end"
    days = pl.read_parquet(tiny)["InvoiceDate"].dt.date().n_unique()
    assert 1 <= document["days"] <= days
    assert ["till.invoice", "order.received"] == document["an_order"][:2]


def guest_of(proof: Proof, pence: int) -> ShopGuest:
    """Return a guest that has seen so much."""
    guest = ShopGuest()
    state = ViewState("daily_revenue", 3, 0, is_rebuilding=False, set_aside=0, digest="d")
    guest._log = 10, 1, proof, 2
    guest._views = Revenue((), 0, pence), Views((state,)), None, ()
    return guest


SOUND = Proof(11, "ab" * 32, 2)
BROKEN = Proof(4, "ab" * 32, 2, Breach(5, "hash", "it was changed"))


def test_what_agrees() -> None:
    """A sound chain, books that close and the same revenue are all that is wanted."""
    found = guest_of(SOUND, 7).figures(books_pence=7, is_closed=True)
    assert found.ok
    assert "to the penny" in verdict_of(found)
    assert ("audit entries", "11") in rows_of(found)


@pytest.mark.parametrize(
    ("proof", "books", "is_closed", "named"),
    [
        (SOUND, 8, True, "7 pence by the projection, 8"),
        (BROKEN, 7, True, "not sound"),
        (SOUND, 7, False, "do not close"),
    ],
    ids=["revenue", "chain", "books"],
)
def test_what_differs_is_told(proof: Proof, books: int, is_closed: bool, named: str) -> None:
    """Another revenue, a chain that was changed, books that do not close: each is a finding."""
    found = guest_of(proof, 7).figures(books_pence=books, is_closed=is_closed)
    assert not found.ok
    assert any(named in finding for finding in found.findings)
    assert "do not agree" in verdict_of(found)
