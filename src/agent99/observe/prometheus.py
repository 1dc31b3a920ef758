"""Prometheus metrics: the counts of a `Meter`, in Prometheus's form, on a port if wanted.

Needs the extra `metrics`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from agent99.errors import UsageError, how_to_install
from agent99.observe._hooks import Hooks
from agent99.observe._meter import LATENCY_BOUNDS_S, Labels, Meter, Series

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError as error:  # pragma: no cover - a test's child process goes this way
    raise UsageError(f"metrics need prometheus-client: {how_to_install('metrics')}") from error

LOOPBACK = "127.0.0.1"


class MeterCollector(Collector):
    """Gives a meter's counts to a `CollectorRegistry`, whenever that is asked for them."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __repr__(self) -> str:
        return f"MeterCollector({self._meter!r})"

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names are known, values are asked for later."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, as it stands now; on whichever thread asks."""
        meter = self._meter
        yield from _requests(
            "agent99_requests", "served here", ("kind", "agent", "operation"), meter.served()
        )
        yield from _requests(
            "agent99_calls", "asked for from here", ("target", "operation"), meter.asked()
        )
        yield from _loads(meter)
        yield _counter(
            "agent99_dropped", "Messages never answered", ("agent", "reason"), meter.dropped()
        )
        yield _counter(
            "agent99_retries",
            "Requests made again, by the code before",
            ("target", "operation", "outcome"),
            meter.retried(),
        )
        yield _counter("agent99_ejections", "Instances left out", ("agent",), meter.ejected())
        yield _counter(
            "agent99_broken_operations",
            "Operations that raised what they should not",
            ("agent", "operation"),
            meter.broke(),
        )
        yield _counter("agent99_reconnects", "Connections made again", (), {(): meter.reconnects})
        yield _counter("agent99_loop_blocks", "Times the loop was blocked", (), {(): meter.blocks})
        yield _counter(
            "agent99_loop_blocked_seconds",
            "Seconds that the loop was blocked",
            (),
            {(): meter.blocked_s},
        )
        if meter.is_connected is not None:
            connected = GaugeMetricFamily("agent99_connected", "Whether the server is reached")
            connected.add_metric((), float(meter.is_connected))
            yield connected


def register_metrics(hooks: Hooks, registry: CollectorRegistry) -> Callable[[], None]:
    """Add the mesh's metrics to a registry that is served already; returns what ends that."""
    meter = Meter(hooks)
    collector = MeterCollector(meter)
    registry.register(collector)
    is_open = True

    def forget() -> None:
        nonlocal is_open
        if is_open:
            is_open = False
            registry.unregister(collector)
            meter.close()

    return forget


class MetricsServer:
    """Serves the mesh's metrics over HTTP on this machine. Use it with `async with`.

    Args:
        hooks: Of the mesh.
        port: On 127.0.0.1; 0: a free one, to be read from `port`.
        address: Another one makes the metrics readable for other machines: nobody is asked for a
            credential.

    Invariant: it listens to the hooks if and only if it serves.
    """

    def __init__(self, hooks: Hooks, *, port: int = 0, address: str = LOOPBACK) -> None:
        self._hooks = hooks
        self._address = address
        self.port = port
        """The port; the real one once it is open."""
        self._close: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"MetricsServer({self.url!r}, {'closed' if self._close is None else 'open'})"

    @property
    def url(self) -> str:
        """Where the metrics are."""
        return f"http://{self._address}:{self.port}/metrics"

    async def __aenter__(self) -> Self:
        """Begin to count and to serve.

        Raises:
            UsageError: the port is taken or not allowed, or this server is open already.
        """
        if self._close is not None:
            raise UsageError("this metrics server is open already")
        registry = CollectorRegistry()
        forget = register_metrics(self._hooks, registry)
        try:
            server, thread = start_http_server(self.port, self._address, registry)
        except (OSError, OverflowError) as error:
            forget()
            where = f"{self._address}:{self.port}"
            raise UsageError(f"metrics cannot be served on {where}: {error}") from error
        self.port = int(server.server_address[1])

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._close = close
        self._forget = forget
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Serve and count no longer."""
        await self.aclose()

    async def aclose(self) -> None:
        """Serve and count no longer; takes half a second at most. Idempotent."""
        close, self._close = self._close, None
        if close is not None:
            self._forget()
            await asyncio.to_thread(close)  # it waits for the thread that serves


def _requests(
    name: str, what: str, labels: tuple[str, ...], series: list[Series]
) -> Iterator[Metric]:
    """Yield a counter by outcome, and a histogram of the latencies over all outcomes."""
    counts = {one.labels: one.count for one in series}
    yield _counter(name, f"Requests {what}, by outcome", (*labels, "outcome"), counts)
    histogram = HistogramMetricFamily(
        f"{name.removesuffix('s')}_seconds", f"Seconds that requests {what} took", labels=labels
    )
    merged: defaultdict[Labels, list[Series]] = defaultdict(list)
    for one in series:
        merged[_without_outcome(one)].append(one)
    for values, parts in merged.items():
        total = 0
        buckets: list[tuple[str, float]] = []
        for place, bound in enumerate((*map(str, LATENCY_BOUNDS_S), "+Inf")):
            total += sum(part.buckets[place] for part in parts)
            buckets.append((bound, total))
        histogram.add_metric(values, buckets, sum(part.seconds for part in parts))
    yield histogram


def _without_outcome(series: Series) -> Labels:
    return series.labels[:-1]


def _loads(meter: Meter) -> Iterator[Metric]:
    in_flight: defaultdict[str, int] = defaultdict(int)
    waiting: defaultdict[str, int] = defaultdict(int)
    for load in meter.loads():
        in_flight[load.agent] += load.in_flight
        waiting[load.agent] += load.waiting
    for name, text, values in (
        ("agent99_in_flight", "Requests that run now", in_flight),
        ("agent99_waiting", "Requests that wait for a place", waiting),
    ):
        gauge = GaugeMetricFamily(name, text, labels=("agent",))
        for agent, value in values.items():
            gauge.add_metric((agent,), value)
        yield gauge


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[Labels, float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
