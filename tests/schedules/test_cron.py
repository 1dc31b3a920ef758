"""Cron's moments: against a model that looks at every minute, and where clocks are changed."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99 import UsageError
from agent99.schedules._cron import micros_of, next_by_cron, zone_of
from agent99.schedules._rule import AHEAD_US_MAX

MINUTE_US = 60_000_000
START = micros_of(datetime(2026, 1, 1, tzinfo=UTC))
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")


def moments(expression: str, zone: str, since: datetime, until: datetime) -> list[str]:
    """Return the moments in a span, as clocks in the zone show them."""
    found: list[str] = []
    at_us, until_us = micros_of(since) - 1, micros_of(until)
    while (next_us := next_by_cron(expression, zone, at_us, until_us)) is not None:
        at_us = next_us
        shown = datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(ZoneInfo(zone))
        found.append(shown.strftime("%d %H:%M %Z"))
    return found


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int]]:
    """Draw a field of an expression, and what it means."""
    kind = draw(st.sampled_from(["*", "one", "list", "range", "step"]))
    numbers = st.integers(low, high)
    if kind == "*":
        return "*", frozenset(range(low, high + 1))
    if kind == "one":
        one = draw(numbers)
        return str(one), frozenset([one])
    if kind == "list":
        several = draw(st.lists(numbers, min_size=1, max_size=4))
        return ",".join(map(str, several)), frozenset(several)
    if kind == "range":
        first, last = sorted((draw(numbers), draw(numbers)))
        return f"{first}-{last}", frozenset(range(first, last + 1))
    step = draw(st.integers(1, high))
    return f"*/{step}", frozenset(range(low, high + 1)[::step])


@given(
    fields(0, 59), fields(0, 23), fields(1, 31), fields(0, 6), st.integers(0, 90 * 1440), st.data()
)
def test_every_minute_that_matches_is_a_moment(
    minute: tuple[str, frozenset[int]],
    hour: tuple[str, frozenset[int]],
    day: tuple[str, frozenset[int]],
    weekday: tuple[str, frozenset[int]],
    offset: int,
    data: st.DataObject,
) -> None:
    """Where no clock is changed, the next moment is the first minute whose face matches."""
    zone = data.draw(st.sampled_from(["UTC", "Asia/Kolkata", "Asia/Tokyo"]))
    expression = f"{minute[0]} {hour[0]} {day[0]} * {weekday[0]}"
    is_and = day[0].startswith("*") or weekday[0].startswith("*")
    after_us = START + offset * MINUTE_US
    at = datetime.fromtimestamp(after_us / 1e6, UTC).astimezone(ZoneInfo(zone))
    for _ in range(2 * 1440):
        at += timedelta(minutes=1)
        days = (at.day in day[1], (at.weekday() + 1) % 7 in weekday[1])
        is_day = all(days) if is_and else any(days)
        if is_day and at.hour in hour[1] and at.minute in minute[1]:
            assert micros_of(at) == next_by_cron(expression, zone, after_us, sys.maxsize)
            return
    found = next_by_cron(expression, zone, after_us, micros_of(at))
    assert found is None


@given(st.sampled_from(ZONES), st.integers(0, 366 * 1440), st.sampled_from([7, 30, 59]))
def test_a_daily_time_comes_once_a_day(zone: str, offset: int, minute: int) -> None:
    """A daily time comes once for each date, on each day of the year, wherever one begins."""
    expression = f"{minute} 2 * * *"
    at_us, dates = START + offset * MINUTE_US, list[int]()
    for _ in range(4):
        found_us = next_by_cron(expression, zone, at_us, sys.maxsize)
        assert found_us is not None
        assert found_us > at_us
        at_us = found_us
        dates.append(
            datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(ZoneInfo(zone)).toordinal()
        )
    assert list(range(dates[0], dates[0] + 4)) == dates


SPRING = (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 3, tzinfo=UTC))
AUTUMN = (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 26, 3, tzinfo=UTC))


@pytest.mark.parametrize(
    ("expression", "span", "expected"),
    [
        # 02:00 to 03:00 is not there on the 29th of March
        ("30 2 * * *", SPRING, ["29 03:00 CEST", "30 02:30 CEST"]),
        ("0,30 2 * * *", SPRING, ["29 03:00 CEST", "30 02:00 CEST", "30 02:30 CEST"]),
        ("0 */12 * * *", SPRING, ["29 00:00 CET", "29 12:00 CEST", "30 00:00 CEST"]),
        ("30 * 29 3 *", (SPRING[0], datetime(2026, 3, 29, 3, tzinfo=UTC)),
         ["29 00:30 CET", "29 01:30 CET", "29 03:30 CEST", "29 04:30 CEST"]),
        # 02:00 to 03:00 is there twice on the 25th of October
        ("30 2 * * *", AUTUMN, ["25 02:30 CEST", "26 02:30 CET"]),
        ("30 1-3 25 10 *", AUTUMN, ["25 01:30 CEST", "25 02:30 CEST", "25 03:30 CET"]),
        ("30 * 25 10 *", (AUTUMN[0], datetime(2026, 10, 25, 2, tzinfo=UTC)),
         ["25 00:30 CEST", "25 01:30 CEST", "25 02:30 CEST", "25 02:30 CET"]),
    ],
)  # fmt: skip
def test_where_clocks_are_changed(
    expression: str, span: tuple[datetime, datetime], expected: list[str]
) -> None:
    """A time that is left out comes late, one that is there twice once, what is hourly hourly."""
    assert expected == moments(expression, "Europe/Berlin", *span)


def test_within_the_hour_that_comes_twice() -> None:
    """Who asks in the second of two equal hours is not told of a moment of the first one."""
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 CET: 02:30 CEST is past
    found_us = next_by_cron("30 2 * * *", "Europe/Berlin", micros_of(second), sys.maxsize)
    assert micros_of(datetime(2026, 10, 26, 1, 30, tzinfo=UTC)) == found_us


@given(st.text(alphabet="0123456789*/,-#LW MONJAN\t?x", max_size=30))
def test_any_text_is_refused_or_has_moments(text: str) -> None:
    """Whatever stands in an expression, it is a usage error, or a moment to come, or none."""
    try:
        found_us = next_by_cron(text, "UTC", START, START + AHEAD_US_MAX)
    except UsageError:
        return
    assert found_us is None or START < found_us <= START + AHEAD_US_MAX


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "61 * * * *", "@daily", "0 0 30 2 *", "* * * * * ".ljust(201)],
)
def test_what_is_no_expression(expression: str) -> None:
    """An expression that cannot be read, or that no date fits, is refused."""
    with pytest.raises(UsageError, match="cron expression"):
        next_by_cron(expression, "UTC", START, sys.maxsize)


@pytest.mark.parametrize("zone", ["", "Europe", "Mars/Olympus", "../etc/passwd", "\0", "/etc", 7])
def test_what_is_no_zone(zone: str) -> None:
    """A zone that is not known is refused, whatever its text is."""
    with pytest.raises(UsageError, match="no time zone"):
        zone_of(zone)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cron's library one sentence says what to install."""
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(UsageError, match=r"cron needs cronsim: install .* '\.\[cron\]'"):
        next_by_cron("* * * * *", "UTC", START, sys.maxsize)
