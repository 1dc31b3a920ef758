"""The measurement of hit ratios: it runs, its traces are what they say, and it repeats itself."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[2] / "benches"


def test_the_hit_ratios_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small run gives a gain over LRU for either kind of trace."""
    monkeypatch.syspath_prepend(str(BENCHES))
    bench = importlib.import_module("cache_hits")
    gains = bench.gains(1, keys=500, reads=3_000)
    assert all(-0.2 < gain < 0.2 for gain in gains)


def test_a_trace_follows_from_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed makes the same reads, another one others, as many as were asked for."""
    monkeypatch.syspath_prepend(str(BENCHES))
    bench = importlib.import_module("cache_hits")
    for make in (bench.stationary, bench.swapping, bench.rising):
        trace = make(1, keys=100, reads=200)
        assert len(trace) == 200
        assert trace == make(1, keys=100, reads=200)
        assert trace != make(2, keys=100, reads=200)
