"""`agent99 demo cache`: nodes join, leave and die, and whoever looks on misses nothing."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.errors import UsageError
from agent99.systems.cache import CacheNodeAgent, DemoGoods, run_demo
from agent99.systems.cache._demo_figures import CacheFigures, rows_of, verdict_of
from agent99.systems.cache._demo_load import Load, Product
from agent99.testing import MemoryEngine
from tests._wait import wait_until
from tests.systems.shop._programme import Programme, is_alive, write_tiny

GOODS = DemoGoods({f"{number:02x}": (100 + number,) for number in range(64)}, ["01", "1f", "01"])
FIGURES = CacheFigures(
    ok=True,
    nodes=3,
    keys=64,
    took_s=1.0,
    reads=10,
    hits=9,
    misses=1,
    writes=5,
    unknown=0,
    failed=0,
    stale=0,
    lost=0,
    counters=2,
    counted=7,
    counters_wrong=0,
    joined=1,
    left=1,
    killed=1,
    moves=100,
    partitions_lost=0,
    findings=(),
)


@pytest.mark.slow
def test_nothing_is_lost_while_nodes_come_and_go(tmp_path: Path) -> None:
    """One joins, one leaves, one is killed, one comes again: all that was acknowledged is there."""
    tiny = write_tiny(tmp_path / "tiny.parquet", 300)
    with closing(
        Programme("--json", "--seconds", "12", "--data", str(tiny), demo="cache")
    ) as programme:
        assert 0 == programme.wait(), (programme.output, programme.lines)
        found = msgspec.convert(programme.document, CacheFigures)
    assert (True, ()) == (found.ok, found.findings)
    assert (0, 0, 0, 0) == (found.lost, found.stale, found.counters_wrong, found.partitions_lost)
    assert min(found.joined, found.left, found.moves, found.hits, found.writes, found.counted) > 0
    assert [] == programme.lines


@pytest.mark.slow
def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    """Exit code 130, and no node or server is left."""
    tiny = write_tiny(tmp_path / "tiny.parquet", 50)
    with closing(Programme("--nodes", "2", "--data", str(tiny), demo="cache")) as programme:
        programme.wait_line("a node joins")
        family = programme.family()
        assert family
        programme.process.send_signal(signal.SIGINT)
        assert 130 == programme.wait(), programme.text
    wait_until(lambda: not any(map(is_alive, family)))


async def test_the_checker_finds_what_was_lost() -> None:
    """A write that was acknowledged and is gone, one that is older, and a sum that is too small."""
    async with Mesh(engine=MemoryEngine()) as mesh:
        await mesh.host(CacheNodeAgent())
        load = Load(mesh, GOODS, SystemClock())
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await load.run()
        await load.check()
        assert (0, 0, 0) == (load.lost, load.wrong, load.stale)
        assert min(load.reads, load.writes, load.counted) > 0
        products = await mesh.cache("catalogue", Product)
        gone, older, *_ = load.acknowledged
        await products.delete(gone)
        await products.set(older, Product((1,), -1))
        await (await mesh.cache("sold", int)).set("0", 0)
        await load.check()
    assert (2, 1) == (load.lost, load.wrong)


@pytest.mark.parametrize(
    "options", [{"nodes": 1}, {"seconds": 0.5}, {"nodes": "many"}], ids=["few", "short", "text"]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    """Before anything starts."""
    with pytest.raises(UsageError):
        run_demo(GOODS, options)


def test_figures_in_words() -> None:
    """The verdict says what was looked at, or that something differs."""
    assert ("  hits", "9 (90.0%)") in rows_of(FIGURES)
    assert "every acknowledged write is there" in verdict_of(FIGURES)
    assert verdict_of(FIGURES).startswith("Nodes joined, left and died, and nothing was lost")
    short = msgspec.structs.replace(FIGURES, killed=0)
    assert verdict_of(short).startswith("Nodes joined and left, and"), "of no death nothing is said"
    shorter = msgspec.structs.replace(short, left=0)
    assert verdict_of(shorter).startswith("Nodes joined, and")
    assert verdict_of(msgspec.structs.replace(shorter, joined=0)).startswith("Nodes stayed, and")
    broken = msgspec.structs.replace(FIGURES, ok=False, findings=("one",))
    assert "1 kinds of difference" in verdict_of(broken)
