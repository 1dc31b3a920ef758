"""The days on which a country bought unlike it did before, beside the truth. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isclose, isinf
from typing import TYPE_CHECKING, Final

from agent99.systems.analytics._anomalies import Anomaly, Ewma, find_anomalies
from agent99.systems.analytics._demo_figures import OddDay
from agent99.systems.analytics._demo_look import moment

if TYPE_CHECKING:
    from agent99.systems.analytics._delta import WindowRow
    from agent99.systems.analytics._demo_check import Window

ODD_PIPELINE: Final = "country-daily"
ODD_FIGURE: Final = "revenue_pence"
ODD_RULE: Final = Ewma(half_life=12.0, warm_up=7)
"""Two weeks in which a shop is open, and one: some weeks are all that the package has."""
SHOWN_MAX: Final = 5
_EXAMPLES_MAX: Final = 3
_EDGE: Final = 1e-6
"""So near the threshold either verdict is right: the two ways to it round differently."""


def find_odd(rows: Iterable[WindowRow]) -> list[Anomaly]:
    """Return the days that are anomalies."""
    return find_anomalies(rows, ODD_FIGURE, ODD_RULE)


def differences(found: Sequence[Anomaly], scores: Mapping[Window, float]) -> Iterator[str]:
    """Yield what is wrong with the days that were found.

    Args:
        scores: What each day must have, of all that may be judged.
    """
    wrong: list[str] = []
    told = {(one.start_us, one.end_us, one.key): one.score for one in found}
    for day, score in scores.items():
        said = told.pop(day, None)
        is_far = abs(score) > ODD_RULE.threshold
        if abs(abs(score) - ODD_RULE.threshold) < _EDGE:
            continue
        if is_far != (said is not None):
            wrong.append(f"{day} is {'not told' if is_far else 'told'}, with a score of {score}")
        elif said is not None and not isclose(said, score, rel_tol=_EDGE):
            wrong.append(f"the score of {day} is {said}, not {score}")
    wrong += [f"{day} may not be judged yet" for day in told]
    if wrong:
        yield f"{ODD_PIPELINE}: {len(wrong):,} odd days wrong; {'; '.join(wrong[:_EXAMPLES_MAX])}"


def oddest(found: Iterable[Anomaly]) -> tuple[OddDay, ...]:
    """Return the days with the highest scores, above or below, the highest first."""
    ranked = sorted(found, key=lambda one: (-abs(one.score), one.start_us, one.key))
    return tuple(map(_shown, ranked[:SHOWN_MAX]))


def _shown(one: Anomaly) -> OddDay:
    return OddDay(
        day=moment(one.start_us)[:10],
        country=str(one.key[0]),
        revenue_pence=int(one.value or 0),
        expected_pence=round(one.expected),
        score=None if isinf(one.score) else round(one.score, 6),
    )
