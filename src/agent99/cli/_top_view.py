"""What `agent99 top` shows: one line for each instance, and one for all of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agent99.agent import Answer, Survey
from agent99.cli._rates import Rates, Said, rates, read_status, sum_drops, sum_rates
from agent99.cli._show import count, short
from agent99.registry import Description

COLUMNS = (
    *("agent", "instance", "state", "req/s", "err/s", "ref/s", "mean ms"),
    *("running", "waiting", "drops", "reconn", "where"),
)
NUMBERS = frozenset(COLUMNS[3:-1])
"""Columns that stand to the right."""
LEAVING = ("where", "reconn", "ref/s", "drops", "waiting", "state")
"""Columns that a narrow terminal does without, the first of them first."""
SILENT = "silent"


class Seen(msgspec.Struct, frozen=True):
    """What one look found of one instance."""

    about: Description
    state: str
    """As in the registry; `silent` if it did not answer."""
    said: Said | None = None
    rates: Rates | None = None
    """Since the last answer before; None where there was none."""


class Look(msgspec.Struct, frozen=True):
    """What one look found, the busiest instance first."""

    seen: tuple[Seen, ...]

    @property
    def silent(self) -> int:
        """How many did not answer."""
        return sum(one.said is None for one in self.seen)

    @property
    def total(self) -> Rates | None:
        """What all of them do together; None if nothing is known of anybody."""
        known = [one.rates for one in self.seen if one.rates is not None]
        return sum_rates(known) if known else None

    @property
    def in_flight(self) -> int:
        """Operations and event handlers that run now, anywhere."""
        return sum(one.said.in_flight for one in self.seen if one.said is not None)

    @property
    def waiting(self) -> int:
        """Those that wait for a place."""
        return sum(one.said.waiting for one in self.seen if one.said is not None)

    @property
    def dropped(self) -> Counter[str]:
        """What all of them dropped since they started, by reason."""
        return sum_drops(one.said.dropped for one in self.seen if one.said is not None)

    @property
    def reconnects(self) -> int:
        """How often connections were made again; the instances of a process share one."""
        counts = {
            one.about.process: one.said.connection.reconnects for one in self.seen if one.said
        }
        return sum(counts.values())


def compare(asked: Iterable[Description], found: Survey, before: Mapping[str, Said]) -> Look:
    """Return what the instances did since their last answers.

    Args:
        asked: Every instance that is on the mesh.
        found: What they answered to `status`.
        before: The last answer of each before, by instance.
    """
    answers = {answer.instance: answer for answer in found.answers}
    seen = (_see(about, answers.get(about.instance), before.get(about.instance)) for about in asked)
    return Look(tuple(sorted(seen, key=_by_rate)))


def last_answers(look: Look, before: Mapping[str, Said]) -> dict[str, Said]:
    """Return the last answer of every instance that is there, to compare the next with.

    Of one that is silent the one before is kept: its next rates will be those of the whole gap.
    """
    last = {one.about.instance: one.said or before.get(one.about.instance) for one in look.seen}
    return {instance: said for instance, said in last.items() if said is not None}


def _see(about: Description, answer: Answer | None, last: Said | None) -> Seen:
    if answer is None:
        return Seen(about, SILENT)
    said = read_status(answer.result) if answer.ok else None
    if said is None:
        return Seen(about, answer.error.code if answer.error is not None else "unreadable")
    seconds = said.uptime_s - last.uptime_s if last is not None else 0.0
    return Seen(about, said.state, said, rates(last, said, seconds))


def _by_rate(one: Seen) -> tuple[float, bool, str, str]:
    taken = one.rates.taken if one.rates is not None else 0.0
    return -taken, one.said is None, one.about.name, one.about.instance


# --- for people -----------------------------------------------------------------------------------


def look_rows(look: Look, rows_max: int | None = None) -> list[tuple[str, ...]]:
    """Return a row for each instance, as many as there is room for, and one for all of them."""
    shown = look.seen[:rows_max]
    rows = [_row(one) for one in shown]
    left = len(look.seen) - len(shown)
    if left:
        rows.append((f"… {left} more", *("" for _ in COLUMNS[1:])))
    return [*rows, _total_row(look)]


def _row(one: Seen) -> tuple[str, ...]:
    about, said = one.about, one.said
    who, where = (about.name, short(about.instance), one.state), f"{about.host}/{about.pid}"
    if said is None:
        return (*who, *("-" for _ in NUMBERS), where)
    counts = (said.in_flight, said.waiting, said.dropped.total(), said.connection.reconnects)
    return (*who, *_rate_cells(one.rates), *(f"{number:,}" for number in counts), where)


def _total_row(look: Look) -> tuple[str, ...]:
    counts = (look.in_flight, look.waiting, look.dropped.total(), look.reconnects)
    cells = (f"{number:,}" for number in counts)
    return ("total", "", "", *_rate_cells(look.total), *cells, "")


def _rate_cells(found: Rates | None) -> tuple[str, ...]:
    if found is None:
        return ("-",) * 4
    mean = "-" if found.mean_s is None else figure(found.mean_s * 1000, places=2)
    return (figure(found.taken), figure(found.errors), figure(found.refused), mean)


def figure(number: float, *, places: int = 1) -> str:
    """Return a number in as many digits as one reads at a glance."""
    if number == 0:
        return "0"
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.{places if number < 10 else 1}f}"


def head_line(look: Look, mesh: str, url: str) -> str:
    """Return who is there, on which mesh."""
    names = {one.about.name for one in look.seen}
    many = f"{count(len(look.seen), 'instance')} of {count(len(names), 'agent')}"
    silent = f", {look.silent} silent" if look.silent else ""
    return f"{many}{silent} on mesh {mesh!r} at {url}"


def drops_line(look: Look) -> str:
    """Return what was dropped, by reason; empty if nothing was."""
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in look.dropped.most_common())
    return f"dropped since they started: {reasons}" if reasons else ""


# --- for programmes -------------------------------------------------------------------------------


def look_document(look: Look) -> dict[str, Any]:
    """Return a look as JSON: what is not known is null."""
    return {
        "instances": [_document(one) for one in look.seen],
        "total": {
            "instances": len(look.seen),
            "silent": look.silent,
            **_rates_document(look.total),
            "in_flight": look.in_flight,
            "waiting": look.waiting,
            "dropped": dict(look.dropped),
            "reconnects": look.reconnects,
        },
    }


def _document(one: Seen) -> dict[str, Any]:
    about, said = one.about, one.said
    return {
        "name": about.name,
        "instance": about.instance,
        "state": one.state,
        "host": about.host,
        "pid": about.pid,
        **_rates_document(one.rates),
        "in_flight": said.in_flight if said else None,
        "waiting": said.waiting if said else None,
        "dropped": dict(said.dropped) if said else None,
        "reconnects": said.connection.reconnects if said else None,
    }


def _rates_document(found: Rates | None) -> dict[str, float | None]:
    if found is None:
        fields = ("requests", "events", "errors", "refused")
        return {**{f"{field}_per_s": None for field in fields}, "mean_ms": None}
    return {
        "requests_per_s": round(found.requests, 3),
        "events_per_s": round(found.events, 3),
        "errors_per_s": round(found.errors, 3),
        "refused_per_s": round(found.refused, 3),
        "mean_ms": round(found.mean_s * 1000, 3) if found.mean_s is not None else None,
    }
