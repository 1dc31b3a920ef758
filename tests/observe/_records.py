"""Records for tests: each of a kind, and whole traces that are known from the start."""

from __future__ import annotations

import random
from typing import Any, NamedTuple
from uuid import UUID

from agent99.observe import (
    ConnectionChanged,
    HandlerBroke,
    InstanceEjected,
    LoopBlocked,
    MessageDropped,
    Record,
    RequestFinished,
    RequestReceived,
    RequestRetried,
    RequestSent,
    TraceContext,
    sent_trace,
    served_trace,
)

EVENT = "6f1d2c3b-1234-4abc-8def-0123456789ab"
INSTANCE = "11112222-3333-4444-8555-666677778888"


def finished(**fields: Any) -> RequestFinished:
    """Return a record of a request that an instance of `stock` served."""
    whole: dict[str, Any] = {
        "side": "callee",
        "agent": "stock",
        "instance": INSTANCE,
        "target": "inventory",
        "operation": "reserve",
        "event_id": EVENT,
        "ended_us": 1_700_000_000_000_000,
        "duration_s": 0.002,
        **fields,
    }
    return RequestFinished(**whole)


def one_of_each() -> list[Record]:
    """Return a record of every kind."""
    return [
        RequestSent("shop", INSTANCE, "inventory", "reserve", EVENT),
        RequestReceived("stock", INSTANCE, "reserve", EVENT),
        finished(),
        MessageDropped("stale", "stock", INSTANCE, "reserve", EVENT),
        RequestRetried("inventory", "reserve", EVENT, 2, "OVERLOADED", 0.05),
        InstanceEjected("stock", INSTANCE, "silent"),
        ConnectionChanged("reconnecting", "nats://127.0.0.1:4222", 1),
        HandlerBroke("stock", INSTANCE, "reserve", EVENT, ValueError("no such shelf")),
        LoopBlocked(2.5, "Stock.reserve (stock.py:12)"),
    ]


class Asked(NamedTuple):
    """A request of a made-up trace: what it is, and its records."""

    event_id: str
    maker: str
    """The request whose operation made it; empty: it began the trace."""
    sent: RequestFinished
    served: RequestFinished


def make_trace(seed: int, size: int) -> list[Asked]:
    """Return a trace of `size` requests, each made by the operation of an earlier one."""
    chance = random.Random(seed)
    made: list[Asked] = []
    spans: dict[str, TraceContext] = {}
    for place in range(size):
        event_id = str(UUID(int=chance.getrandbits(128), version=4))
        maker = chance.choice(made).event_id if made else ""
        above = spans.get(maker)
        traceparent = sent_trace(event_id, above).traceparent if above is not None else None
        instance = str(UUID(int=chance.getrandbits(128), version=4))
        spans[event_id] = served_trace(event_id, traceparent, instance)
        common: dict[str, Any] = {
            "target": f"capability-{place}",
            "event_id": event_id,
            "ended_us": 1_700_000_000_000_000 + chance.randrange(1_000_000),
            "traceparent": traceparent,
        }
        sent = finished(
            side="caller",
            agent="asker",
            instance="asker-1",
            parent_span_id=above.span_id if above is not None else "",
            **common,
        )
        served = finished(agent=f"agent-{place}", instance=instance, **common)
        made.append(Asked(event_id, maker, sent, served))
    return made
