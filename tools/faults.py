"""Make docs/reference/faults.md of the figures that the fault campaigns left: see `make faults`.

`python tools/faults.py FOLDER PAGE`: FOLDER holds a JSON file for each run (`tests/_faults.py`).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SEEDS_MAX = 3
"""So many seeds are named in a cell."""

HEAD = """\
# Faults

What is broken on purpose, what must hold none the less, and what did.

```console
$ make faults                # every campaign in short form; writes this page anew
$ make faults COUNTS=full    # at full counts
```

All rows are of one run, {machine}. What is random in a campaign hangs on its seed:
`SEED=n make faults` uses that one. A campaign with several ways of breaking shows its figures as a
range. A figure without a bound is only told.

| fault | what is done | expected | measured | seed | met |
|---|---|---|---|---|---|
"""

Run = dict[str, Any]
Figure = dict[str, Any]


def page(runs: Iterable[Run], machine: str) -> str:
    """Return the whole page: each campaign's figures, a row for each."""
    campaigns: dict[tuple[str, int, str, str], list[Run]] = {}
    for run in runs:
        letter, number = run["fault"][:1], int(run["fault"][1:])
        key = letter, number, run["campaign"], run["done"]
        campaigns.setdefault(key, []).append(run)
    rows = [row for _, group in sorted(campaigns.items()) for row in _rows(_fullest(group))]
    return HEAD.format(machine=machine) + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _fullest(runs: list[Run]) -> list[Run]:
    """Return the runs at full counts, where there are any."""
    return [run for run in runs if run.get("is_full")] or runs


def _rows(runs: list[Run]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each figure of a campaign; the first one names it, and its seeds."""
    figures: dict[tuple[Any, ...], list[Figure]] = {}
    for run in runs:
        for figure in run["figures"]:
            key = tuple(map(figure.get, ("what", "unit", "at_least", "at_most")))
            figures.setdefault(key, []).append(figure)
    is_short = any("short" in run.get("variant", "").split("-") for run in runs)
    done = runs[0]["done"] + (" (short form)" if is_short else "")
    names, seeds = (runs[0]["fault"], done), _seeds(runs)
    for (what, unit, least, most), found in figures.items():
        bounds = _bounds(least, most, unit)
        expected = f"{what}: {bounds}" if bounds else what
        yield (*names, expected, _range(found, unit), seeds, _verdict(found))
        names, seeds = ("", ""), ""


def _bounds(least: float | None, most: float | None, unit: str | None) -> str:
    if least is None and most is None:
        return ""
    if most == 0 and not least:
        return "0"
    if least == most:
        return f"exactly {_number(least, unit)}"
    named = (("at least", least), ("at most", most))
    return ", ".join(f"{word} {_number(bound, unit)}" for word, bound in named if bound is not None)


def _range(figures: list[Figure], unit: str | None) -> str:
    measured = sorted(figure["measured"] for figure in figures)
    least, most = _number(measured[0], ""), _number(measured[-1], unit)
    return most if least == _number(measured[-1], "") else f"{least} to {most}"


def _number(value: float | None, unit: str | None) -> str:
    assert value is not None
    is_whole = float(value).is_integer() or abs(value) >= 1000
    text = f"{value:,.0f}" if is_whole else f"{value:.3g}"
    return f"{text} {unit}" if unit else text


def _seeds(runs: list[Run]) -> str:
    seeds = sorted({run["seed"] for run in runs if run.get("seed") is not None})
    named = ", ".join(map(str, seeds[:SEEDS_MAX]))
    return (named + (", …" if len(seeds) > SEEDS_MAX else "")) or "none"


def _verdict(figures: list[Figure]) -> str:
    if all(figure.get("at_most") is None and figure.get("at_least") is None for figure in figures):
        return "told"
    missed = [figure for figure in figures if not _is_met(figure)]
    if not missed:
        return "yes"
    reasons = {figure["why"]: None for figure in missed if figure.get("why")}
    return "no: " + ("; ".join(reasons) or "unexplained")


def _is_met(figure: Figure) -> bool:
    measured, least, most = figure["measured"], figure.get("at_least"), figure.get("at_most")
    return (least is None or measured >= least) and (most is None or measured <= most)


def machine() -> str:
    """Return what kind of machine this is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"on {cores} cores with Python {platform.python_version()} on {platform.system()}"


def main(folder: str, target: str) -> int:
    """Write the page; 1 if there is nothing to write."""
    runs = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    if not runs:
        print(f"no figures in {folder}: `make faults` makes them", file=sys.stderr)
        return 1
    Path(target).write_text(page(runs, machine()))
    print(f"{target}: {len(runs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
