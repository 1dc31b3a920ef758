"""The last rows of a pipeline are those at the end of all, and no others are read for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99 import Mesh
from agent99.errors import UsageError
from agent99.systems.analytics import Analytics, AnalyticsProcessor, RowsPage, RowsQuery, WindowRow
from agent99.systems.analytics._asker import Asker
from agent99.systems.analytics._pages import CLOSED_ONES, join_backwards, open_page
from agent99.systems.analytics._questions import After

from ._sales import job, rows_when, sale, store


def row(end_us: int, shop: str = "", state: Any = "open", **changed: Any) -> WindowRow:
    """Return a row of a window."""
    right: dict[str, Any] = {"values": {}, "rows": 1, "revision": int(state == "closed")}
    right |= {"pipeline": "revenue", "start_us": 0, "end_us": end_us, "key": (shop,)}
    return WindowRow(**(right | changed), state=state)


WINDOWS = st.sets(st.tuples(st.integers(0, 4), st.sampled_from("abc")))


@given(WINDOWS, WINDOWS, st.integers(1, 5))
def test_pages_have_all_rows_backwards(
    shut: set[tuple[int, str]], ajar: set[tuple[int, str]], limit: int
) -> None:
    """However small pages are: each window is on one of them, the open ones before all others."""
    closed = [row(*one, "closed") for one in sorted(shut - ajar, reverse=True)]
    opened = [row(*one) for one in sorted(ajar)]
    pages: list[list[WindowRow]] = []
    page, after = open_page(opened, None, limit, is_backwards=True)
    while after is not None:
        pages.append(page)
        page, after = open_page(opened, after, limit, is_backwards=True)
    page, after = join_backwards(page, (closed[:limit], CLOSED_ONES), limit)
    pages.append(page)
    taken = sum(one.state == "closed" for one in page)
    rest = [closed[at : at + limit] for at in range(taken, len(closed), limit)]
    found = [one for page in (*pages, *rest) for one in page]
    assert all(len(page) <= limit for page in pages)
    assert [*reversed(opened), *closed] == found


async def test_the_last_rows_are_the_end_of_all(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many of the last rows are as many from the end of all, on pages of any size."""
    for module in ("_client", "_asker"):
        monkeypatch.setattr(f"agent99.systems.analytics.{module}.LIMIT_MAX", 3)
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    shops = ("north", "south", "it's")
    for shard in (0, 1):
        await store(
            mesh, [sale(60 * at, shop) for at in range(4) for shop in shops[shard:]], shard=shard
        )
    await rows_when(figures, lambda rows: len(rows) == 6)
    states = ["closed"] * 6 + ["open"] * 6
    rows = await rows_when(figures, lambda rows: [one.state for one in rows] == states, state="all")
    for limit in (*range(1, 14), 1_000):
        assert rows[-limit:] == await figures.query("revenue", limit=limit)
    closed = [one for one in rows if one.state == "closed"]
    assert closed[-2:] == await figures.query("revenue", state="closed", limit=2)
    opened = [one for one in rows if one.state == "open"]
    assert opened[-1:] == await figures.query("revenue", state="open", limit=1)
    assert opened == await figures.query("revenue", state="open", limit=100)
    south = [one for one in rows if one.key == ("south",)]
    assert south[-3:] == await figures.query("revenue", key="south", limit=3)
    assert [] == await figures.query("revenue", key="nowhere", limit=3)
    with pytest.raises(UsageError, match="1 or more"):
        await figures.query("revenue", limit=0)


class Asked(Asker):
    """Answers by itself, and keeps the questions."""

    def __init__(self, *pages: tuple[list[WindowRow], int, After | None]) -> None:
        nowhere: Any = None
        super().__init__(nowhere, "shops")
        self.questions: list[RowsQuery] = []
        self._pages = list(pages)

    async def ask(self, operation: str, question: Any, returns: Any, timeout_s: float = 0.0) -> Any:
        self.questions.append(question)
        rows, turn, after = self._pages.pop(0)
        page: dict[str, Any] = {"job": "shops", "version": 1, "pipeline": "revenue"}
        page |= {"key": ["shop"], "watermark_us": None}
        return RowsPage(**page, rows=rows, turn=turn, after=after)


async def test_no_more_is_read_than_is_wanted() -> None:
    """Who wants three rows asks for three, once, though there are thousands."""
    three = [row(at, "a", "closed") for at in (9, 8, 7)]
    asked = Asked((three, 7, After(7, 0, '["a"]')))
    assert three[::-1] == await asked.last_rows(RowsQuery(pipeline="revenue"), 3)
    assert [(3, True)] == [(one.limit, one.is_backwards) for one in asked.questions]


async def test_what_closes_between_two_pages_counts_once() -> None:
    """What was open on the first page, and comes again as closed, leaves its place to another."""
    closed = [row(at, "a", "closed") for at in (9, 8, 7)]
    asked = Asked(
        ([row(9, "a")], 7, After(9, 0, '["a"]', is_open=True)),
        (closed[:1], 8, After(9, 0, '["a"]')),
        (closed[1:2], 8, After(8, 0, '["a"]')),
        (closed[:1], 8, None),
    )
    assert closed[1::-1] == await asked.last_rows(RowsQuery(pipeline="revenue"), 2)
    assert [2, 1, 1] == [one.limit for one in asked.questions[:3]]


async def test_what_changes_between_two_pages_is_shown() -> None:
    """What was open on the first page and has closed is closed; what was taken back is gone."""
    asked = Asked(
        ([row(9, "e")], 7, After(9, 0, '["e"]', is_open=True)),
        (
            [
                row(end_us, key, "closed")
                for end_us, key in ((9, "e"), (8, "d"), (7, "c"), (6, "b"))
            ],
            8,
            After(6, 0, '["b"]'),
        ),
        (
            [
                row(9, "e", "closed"),
                row(8, "d", "closed", revision=2, is_retracted=True),
                row(7, "c", "closed", revision=2),
                row(1, "a", "closed", revision=2),
            ],
            8,
            None,
        ),
    )
    rows = await asked.last_rows(RowsQuery(pipeline="revenue"), 4)
    assert [("b", 1, "closed"), ("c", 2, "closed"), ("e", 1, "closed")] == [
        (one.key[0], one.revision, one.state) for one in rows
    ]
    assert [-1, -1, 7] == [one.after_turn for one in asked.questions]
