"""The shop under fire: agents and the server are killed all the while, and the books close (E3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests._faults import Fault, Figure
from tests.systems.shop._programme import Programme

TAKEN_S = 2.0
YEAR_S = 3_000.0


@pytest.fixture
def programmes() -> Iterator[list[Programme]]:
    """Give a list: what stands in it at the end is ended."""
    started: list[Programme] = []
    yield started
    for programme in started:
        programme.close()


def _run(programmes: list[Programme], *arguments: str, timeout_s: float) -> Any:
    """Run the demo under fire, and return its document."""
    given = ("--cancel-rate", "0.05", "--scarcity", "0.9", "--back-order-rate", "0.3")
    programme = Programme("--chaos", "--json", *given, *arguments)
    programmes.append(programme)
    programme.process.wait(timeout_s)
    assert programme.wait() in (0, 1), programme.text
    return programme.document


def _report(fault: Fault, seen: Any, *, kills_min: int, servers_min: int) -> None:
    chaos = seen["chaos"]
    servers = chaos["killed"].get("server", 0)
    kills = sum(chaos["killed"].values()) - servers
    owners = chaos["killed"].get("order-processing", 0)
    print(*seen["findings"], sep="\n")  # noqa: T201 - what is wrong is told before how much of it
    fault.report(
        Figure("agents killed", kills, at_least=kills_min),
        Figure("  of them order processing", owners),
        Figure("servers killed", servers, at_least=servers_min),
        Figure("orders", seen["orders"]),
        Figure("  confirmed", seen["confirmed"]),
        Figure("  cancelled by their customers", seen["cancelled"], at_least=1),
        Figure("    pence refunded for that", seen["cancelled_pence"], at_least=1),
        Figure("  sent in two, for want of stock", seen["back_orders"], at_least=1),
        Figure("  without an answer", sum(seen["unfinished"].values()), at_most=0),
        Figure("cancellations given back", seen["given_back"], at_least=seen["cancellations"]),
        Figure("orders taken over", chaos["taken_over"], at_least=min(owners, 1)),
        Figure("half of them after", chaos["take_over_p50_s"], "s", at_most=TAKEN_S),
        Figure("the last after", chaos["take_over_max_s"], "s"),
        Figure("steps undone", chaos["undone"]),
        Figure("sagas without an end", chaos["open_at_last"], at_most=0),
        Figure("kinds of difference in the books", len(seen["findings"]), at_most=0),
    )
    assert seen["ok"], seen["findings"]


@pytest.mark.slow
@pytest.mark.fault("E3", "kill -9 the shop's agents and its server while four weeks run")
def test_four_weeks_under_fire(programmes: list[Programme], fault: Fault, seed: int) -> None:
    """Whoever is killed: every order ends, money and stock are exact, others go on within 2 s."""
    seen = _run(programmes, "--seed", str(seed), timeout_s=400)
    _report(fault, seen, kills_min=5, servers_min=1)


@pytest.mark.chaos
@pytest.mark.fault("E3", "the same for a whole year, with declines and scarcity")
def test_a_year_under_fire(
    programmes: list[Programme], fault: Fault, seed: int, year_file: Path
) -> None:
    """At least 200 kills of agents and 20 of the server, and the books close to the penny."""
    options = ("--data", str(year_file), "--seed", str(seed))
    seen = _run(programmes, *options, timeout_s=YEAR_S)
    _report(fault, seen, kills_min=200, servers_min=20)
