"""What the parts of the bench of events make of their figures, and how deliveries are counted."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests._wait import PATIENCE_S

Load = Callable[[str], ModuleType]
BENCHES = Path(__file__).parents[2] / "benches"
FAN_OUT = {
    "one": [3.0, 1.0, 2.0],
    "all": [1.0, 1.0, 1.0],
    "wire": [4.0, 4.0, 4.0],
    "joined_one": [0.5, 0.5],
    "joined_all": [0.5],
}
ENCODED = {"ours": [60.0, 80.0, 90.0], "stored": [5.0, 5.0, 5.0]}
BUS = {"publish_1": [1.0], "publish_64": [3.0], "append_1": [4.0], "append_64": [6.0]}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Give what imports a module of the bench, as the bench does."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module


def test_groups_are_held_to_core_nats_by_either_client(load: Load) -> None:
    """Both ratios are of each round, with the same budget; nats-py, absent, says so."""
    part = load("_fan_outs")
    wire, sharing, natspy, *others = part.rows_of(FAN_OUT)
    assert (0.5, 0.65, False) == (wire.value, wire.budget, wire.met)
    assert (None, "nats-py is not installed") == (natspy.value, natspy.why)
    assert (0.25, None) == (sharing.value, sharing.budget), "it has no counterpart in core NATS"
    assert all(row.budget is None and row.value is not None for row in others)
    _, _, natspy, *others_now = part.rows_of(FAN_OUT | {"natspy": [3.0, 1.0, 2.0]})
    assert (1.0, 0.65, True) == (natspy.value, natspy.budget, natspy.met)
    assert len(others) + 2 == len(others_now)


def test_encoding_is_held_to_the_quicker_interface(load: Load) -> None:
    """The quicker one of each round counts; where the package is absent, the row says so."""
    part = load("_cloud_events")
    peers = {"core": [10.0, 10.0, 10.0], "v1": [5.0, 20.0, 5.0]}
    ratio, *others = part.rows_of(ENCODED | peers)
    assert (6.0, 6.0, True) == (ratio.value, ratio.budget, ratio.met)
    assert 4 == len(others)
    ratio, *others = part.rows_of(ENCODED)
    assert (None, "cloudevents is not installed") == (ratio.value, ratio.why)
    assert 2 == len(others)


def test_the_bus_has_figures_and_no_budget(load: Load) -> None:
    """Each figure stands beside the append's, at the same concurrency."""
    rows = load("_buses").rows_of(BUS)
    assert [1.0, 3.0, 4.0, 6.0, 0.25, 0.5] == [row.value for row in rows]
    assert {None} == {row.budget for row in rows}


def test_a_subscriber_refuses_what_is_out_of_order(load: Load) -> None:
    """A number of a key that does not grow ends the bench: it came twice, or late."""
    part = load("_fan_out")
    subscriber = part.Subscriber(part.Deliveries())
    subscriber.take("a99.m.log.5.me.ada.order.placed", b'{"order":{},"number":2}')
    subscriber.take("a99.m.log.6.me.bob.order.placed", b'{"order":{},"number":1}')
    for number in (b"2", b"1"):
        with pytest.raises(SystemExit, match="came after 2"):
            subscriber.take("a99.m.log.5.me.ada.order.placed", b'{"number":%b}' % number)


async def test_deliveries_are_waited_for_by_their_count(load: Load) -> None:
    """Who waits goes on with the delivery that makes the count full, not before."""
    deliveries = load("_fan_out").Deliveries()
    deliveries.add()
    await deliveries.wait(1)
    waiting = asyncio.create_task(deliveries.wait(3))
    await asyncio.sleep(0)
    deliveries.add()
    await asyncio.sleep(0)
    assert not waiting.done()
    deliveries.add()
    async with asyncio.timeout(PATIENCE_S):
        await waiting
