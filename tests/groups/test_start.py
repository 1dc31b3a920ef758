"""Where reading begins, as people write it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.groups import Start, parse_start
from agent99.groups._start import check_start
from agent99.testing import ManualClock

LONG = ("9" * 5_000, f"-{'9' * 5_000}s")  # more digits than Python reads
CLOCK = ManualClock(wall_us=1_000_000_000_000_000)  # 2001-09-09T01:46:40Z


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("first", "first"),
        ("last-per-key", "last-per-key"),
        ("42", 42),
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("-40s", datetime(2001, 9, 9, 1, 46, tzinfo=UTC)),
        ("-1d", datetime(2001, 9, 8, 1, 46, 40, tzinfo=UTC)),
    ],
)
def test_what_is_a_start(text: str, start: Start) -> None:
    """A word, a sequence, a moment, or a duration before now."""
    assert start == parse_start(text, CLOCK)


@pytest.mark.parametrize(
    "text", ["", "firsts", "0", "-1", "-5x", "-s", "yesterday", "1e9", "٣", *LONG]
)
def test_what_is_none(text: str) -> None:
    """Anything else is refused, in words."""
    with pytest.raises(UsageError):
        parse_start(text, CLOCK)


@given(st.text() | st.from_regex(r"-?\d+[smhd]?", fullmatch=True))
def test_whatever_it_is(text: str) -> None:
    """Any text is a start, or refused in words."""
    try:
        start = parse_start(text, CLOCK)
    except UsageError:
        return
    check_start(start)


@pytest.mark.parametrize("start", [True, 0, -1, 2**63, 1.5, None, "x", datetime(2026, 1, 1)])  # noqa: DTZ001 - it has no zone: that is wrong
def test_what_a_programme_may_not_say(start: Any) -> None:
    """A start that is none is refused before anything is sent."""
    with pytest.raises(UsageError):
        check_start(start)
