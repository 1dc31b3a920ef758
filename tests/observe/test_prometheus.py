"""Metrics in Prometheus's form, read back by Prometheus's own parser."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent99.errors import UsageError
from agent99.observe import (
    ConnectionChanged,
    HandlerBroke,
    Hooks,
    InstanceEjected,
    Load,
    LoopBlocked,
    MessageDropped,
    RequestFinished,
    RequestRetried,
)
from agent99.observe.prometheus import MetricsServer, register_metrics
from tests.observe._records import EVENT, INSTANCE, finished

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _parse(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _scrape(registry: CollectorRegistry) -> Samples:
    return _parse(generate_latest(registry).decode())


def _tell(hooks: Hooks, *records: RequestFinished) -> None:
    for record in records:
        assert hooks.finished is not None
        hooks.finished(record)


def _labels(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_requests_are_shown_by_agent_operation_and_outcome() -> None:
    """The exposition gives back each request that was told, and its latency in its bucket."""
    hooks, registry = Hooks(), CollectorRegistry()
    register_metrics(hooks, registry)
    odd = 'quo"ted\\\n'
    told = [
        *[finished(duration_s=0.003)] * 3,
        finished(duration_s=60.0, code="SOLD_OUT"),
        finished(operation=odd),
        finished(side="caller", duration_s=0.001),
    ]
    _tell(hooks, *told)
    samples = _scrape(registry)
    counts = Counter((one.operation, one.code) for one in told if one.side == "callee")
    for (operation, code), count in counts.items():
        labels = _labels(kind="request", agent="stock", operation=operation, outcome=code)
        assert count == samples["agent99_requests_total", labels]
    here = {"kind": "request", "agent": "stock", "operation": "reserve"}
    assert 4 == samples["agent99_request_seconds_count", _labels(**here)]
    assert 60.009 == pytest.approx(samples["agent99_request_seconds_sum", _labels(**here)])
    for bound, count in (("0.0025", 0), ("0.005", 3), ("30.0", 3), ("+Inf", 4)):
        assert count == samples["agent99_request_seconds_bucket", _labels(**here, le=bound)]
    asked = _labels(target="inventory", operation="reserve", outcome="OK")
    assert 1 == samples["agent99_calls_total", asked]
    asked = _labels(target="inventory", operation="reserve", le="0.001")
    assert 1 == samples["agent99_call_seconds_bucket", asked]


def test_everything_else_is_shown() -> None:
    """Loads, drops, retries, ejections, broken operations, connection, blocks are metrics."""
    hooks, registry = Hooks(), CollectorRegistry()
    register_metrics(hooks, registry)
    assert ("agent99_connected", ()) not in _scrape(registry)
    for slot, record in (
        ("dropped", MessageDropped("stale", "stock", count=2)),
        ("retried", RequestRetried("inventory", "reserve", EVENT, 2, "OVERLOADED", 0.1)),
        ("ejected", InstanceEjected("stock", INSTANCE, "silent")),
        ("broke", HandlerBroke("stock", INSTANCE, "reserve", EVENT, ValueError())),
        ("connection", ConnectionChanged("connected", reconnects=4)),
        ("blocked", LoopBlocked(2.5, "")),
        ("blocked", LoopBlocked(1.0, "")),
    ):
        getattr(hooks, slot)(record)
    hooks.add_load(lambda: Load("stock", "1", 3, 1))
    hooks.add_load(lambda: Load("stock", "2", 4, 0))
    samples = _scrape(registry)
    assert 2 == samples["agent99_dropped_total", _labels(agent="stock", reason="stale")]
    retry = _labels(target="inventory", operation="reserve", outcome="OVERLOADED")
    assert 1 == samples["agent99_retries_total", retry]
    assert 1 == samples["agent99_ejections_total", _labels(agent="stock")]
    broken = _labels(agent="stock", operation="reserve")
    assert 1 == samples["agent99_broken_operations_total", broken]
    assert 4 == samples["agent99_reconnects_total", ()]
    assert 1 == samples["agent99_connected", ()]
    assert 2 == samples["agent99_loop_blocks_total", ()]
    assert 3.5 == samples["agent99_loop_blocked_seconds_total", ()]
    assert 7 == samples["agent99_in_flight", _labels(agent="stock")]
    assert 1 == samples["agent99_waiting", _labels(agent="stock")]


def test_registry_is_left_as_it_was() -> None:
    """Ending the metrics takes them out of the registry, and nobody is told any longer."""
    hooks, registry = Hooks(), CollectorRegistry()
    forget = register_metrics(hooks, registry)
    forget()
    forget()
    assert {} == _scrape(registry)
    assert "Hooks()" == repr(hooks)


def _get(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


async def test_metrics_are_served_on_loopback() -> None:
    """The port gives the metrics while it is open, on this machine; closed, it gives nothing."""
    hooks = Hooks()
    before = set(threading.enumerate())
    async with MetricsServer(hooks) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert "open" in repr(server)
        _tell(hooks, finished())
        samples = _parse(await asyncio.to_thread(_get, server.url))
        with pytest.raises(UsageError, match="open already"):
            await server.__aenter__()
        with pytest.raises(UsageError, match=f"127.0.0.1:{server.port}"):
            await MetricsServer(hooks, port=server.port).__aenter__()
    labels = _labels(kind="request", agent="stock", operation="reserve", outcome="OK")
    assert 1 == samples["agent99_requests_total", labels]
    assert "closed" in repr(server)
    assert "Hooks()" == repr(hooks)
    await server.aclose()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(_get, server.url)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert all(name.startswith("asyncio_") for name in left)  # the loop's, for blocking calls


@pytest.mark.parametrize("port", [70_000, -1])
async def test_port_that_is_none_is_refused(port: int) -> None:
    """A port out of range is a mistake, said at once; nobody listens."""
    hooks = Hooks()
    with pytest.raises(UsageError, match="cannot be served"):
        await MetricsServer(hooks, port=port).__aenter__()
    assert "Hooks()" == repr(hooks)


def test_counting_goes_on_while_another_thread_reads() -> None:
    """A scrape on another thread neither fails nor disturbs who counts, and totals never shrink."""
    hooks, registry = Hooks(), CollectorRegistry()
    register_metrics(hooks, registry)
    totals: list[float] = []
    trouble: list[BaseException] = []
    is_over = threading.Event()

    def read() -> None:
        try:
            while not is_over.is_set():
                samples = _scrape(registry)
                totals.append(sum(v for (name, _), v in samples.items() if name.endswith("_count")))
        except BaseException as error:  # noqa: BLE001 - the test tells it
            trouble.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for place in range(20_000):
        _tell(hooks, finished(operation=f"operation-{place % 300}"))
    is_over.set()
    reader.join()
    assert not trouble
    assert sorted(totals) == totals
    samples: Any = _scrape(registry)
    assert 20_000 == sum(v for (name, _), v in samples.items() if name.endswith("_count"))
