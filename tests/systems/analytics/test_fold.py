"""Batches become deltas, and deltas become one state, whatever the batches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics import (
    Count,
    CountOf,
    Distinct,
    Hopping,
    Min,
    Pipeline,
    Session,
    Sliding,
    Sum,
    TopK,
    Tumbling,
    Window,
)
from agent99.systems.analytics._columns import columns_of
from agent99.systems.analytics._delta import Counts, Panes
from agent99.systems.analytics._fold import (
    Folded,
    fold,
    merge_cells,
    merge_panes,
    pack_panes,
    unpack_panes,
)
from agent99.systems.analytics._grouping import are_parted
from tests.systems.analytics._naive import (
    FIGURES,
    HITS,
    NAIVE,
    Hit,
    Model,
    by_key,
    double,
    is_close,
)

SECOND = 1_000_000
WINDOWS: tuple[Window, ...] = (
    *(Tumbling(5), Tumbling(1e-6), Hopping(6, 4), Sliding(5)),
    *(Session(3), CountOf(1), CountOf(3)),
)
KEYS: tuple[tuple[str, ...], ...] = ((), ("page",), ("page", "user"), ("half",))
RECORDS = st.builds(
    Hit,
    at=st.integers(-20, 20).map(lambda second: second * SECOND // 2),
    page=st.sampled_from("ab"),
    user=st.sampled_from((None, "", "u", "v")),
    bytes=st.none() | st.integers(0, 3) | st.integers(0, 2**63 - 1),
    seconds=st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda n: n == 0 or abs(n) > 1e-9),
)


def half(bytes: int | None) -> int | None:  # noqa: A002 - the field's name
    """Return what a key may be, unlike what is twice as much."""
    return None if bytes is None else bytes // 2


def _pipeline(window: Window, key: tuple[str, ...] = (), **changed: Any) -> Pipeline:
    right: dict[str, Any] = {"columns": {"double": double, "half": half}, "aggregates": FIGURES}
    return Pipeline("hits", HITS, window=window, key=key, **(right | changed))


def _key(hit: Hit, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(half(hit.bytes) if name == "half" else getattr(hit, name) for name in names)


def _fold(pipeline: Pipeline, hits: list[Hit], **changed: Any) -> Folded:
    given_: dict[str, Any] = {"max_us": None, "horizon_us": None, "ordinals": {}}
    return fold(pipeline, columns_of(HITS, hits), len(hits), **(given_ | changed))


def _folds(pipeline: Pipeline, batches: list[list[Hit]], horizon_us: int | None) -> list[Folded]:
    """Fold batches of one shard, one after another."""
    made: list[Folded] = []
    latest: int | None = None
    ordinals: dict[Any, int] = {}
    for hits in batches:
        folded = _fold(pipeline, hits, max_us=latest, horizon_us=horizon_us, ordinals=ordinals)
        made.append(folded)
        latest = max([hit.at for hit in hits] + ([] if latest is None else [latest]), default=None)
    return made


def _joined(pipeline: Pipeline, panes: Panes) -> Panes:
    """Return sessions: fragments of a key that are less than the gap apart, as one."""
    if not isinstance(pipeline.window, Session):
        return panes
    joined: Panes = {}
    for key in {key for cells in panes.values() for key in cells}:
        fragments = sorted((pane, cells[key]) for pane, cells in panes.items() if key in cells)
        start, cell = fragments[0]
        for pane, fragment in fragments[1:]:
            if pane - cell[2] < pipeline.window.gap_us:
                cell = merge_cells(pipeline, [cell, fragment])
            else:
                joined.setdefault(start, {})[key] = cell
                start, cell = pane, fragment
        joined.setdefault(start, {})[key] = cell
    return joined


def _check(pipeline: Pipeline, model: Model, panes: Panes) -> None:
    """Check cells against all of their records."""
    cells, windows = by_key(_joined(pipeline, panes)), model.windows()
    assert cells.keys() == windows.keys()
    for place, cell in cells.items():
        hits = windows[place]
        assert cell[0] == len(hits)
        if isinstance(pipeline.window, Session | CountOf):
            assert cell[1:3] == [min(hit.at for hit in hits), max(hit.at for hit in hits)]
        figures = zip(pipeline.aggregates.items(), cell[-len(pipeline.aggregates) :], strict=True)
        for (name, aggregate), state in figures:
            shown = aggregate.show(state, 7.5)
            if name in NAIVE:
                assert (name, shown) == (name, NAIVE[name](hits))
            else:
                assert is_close(name, shown, hits, 7.5), (name, shown, hits)


@st.composite
def _in_batches(draw: st.DrawFn) -> list[list[Hit]]:
    hits = draw(st.lists(RECORDS, max_size=30))
    if draw(st.booleans()):
        hits.sort(key=lambda hit: hit.at)
    cuts = sorted(draw(st.lists(st.integers(0, len(hits)), max_size=4)))
    return [hits[first:end] for first, end in pairwise((0, *cuts, len(hits)))]


@given(
    window=st.sampled_from(WINDOWS),
    key=st.sampled_from(KEYS),
    batches=_in_batches(),
    lateness_s=st.sampled_from((0, 1.5, 4)),
    horizon_us=st.none() | st.integers(-20, 20).map(lambda second: second * SECOND // 2),
    order=st.randoms(use_true_random=False),
)
def test_any_batches_make_what_the_records_make(
    window: Window,
    key: tuple[str, ...],
    batches: list[list[Hit]],
    lateness_s: float,
    horizon_us: int | None,
    order: Any,
) -> None:
    """Whatever the batches, and in whatever order their deltas merge, all is as one by one."""
    pipeline = _pipeline(window, key, lateness_s=lateness_s, where=lambda user: user != "v")
    model = Model(window, pipeline.lateness_us, horizon_us)
    for hit in (hit for hits in batches for hit in hits):
        model.take(hit, _key(hit, key), is_taken=hit.user != "v")
    folds = _folds(pipeline, batches, horizon_us)
    assert all(folded.counts.is_closed for folded in folds)
    counts = Counts(
        **{
            name: sum(getattr(folded.counts, name) for folded in folds)
            for name in Counts.__struct_fields__
        }
    )
    assert counts == model.counts
    starts = [sum(map(len, batches[:place])) for place in range(len(batches))]
    dropped = [start + row for start, one in zip(starts, folds, strict=True) for row in one.dropped]
    assert dropped == model.dropped
    order.shuffle(folds)
    merged: Panes = {}
    for folded in folds:
        merge_panes(pipeline, merged, unpack_panes(pipeline, pack_panes(pipeline, folded.panes)))
    _check(pipeline, model, merged)


@given(window=st.sampled_from(WINDOWS), hits=st.lists(RECORDS, min_size=1), split=st.integers(0, 9))
def test_merging_changes_no_part(window: Window, hits: list[Hit], split: int) -> None:
    """What is merged is as it was before, so that nobody has to own it."""
    pipeline = _pipeline(window, ("page",), lateness_s=60)
    first, second = _folds(pipeline, [hits[:split], hits[split:]], None)
    before = pack_panes(pipeline, first.panes), pack_panes(pipeline, second.panes)
    merged: Panes = {}
    merge_panes(pipeline, merged, first.panes)
    merge_panes(pipeline, merged, second.panes)
    merge_panes(pipeline, merged, first.panes)
    assert before == (pack_panes(pipeline, first.panes), pack_panes(pipeline, second.panes))


@given(
    window=st.sampled_from((Tumbling(5), Tumbling(1e-6), Hopping(6, 4))),
    times=st.lists(st.integers(-20, 20).map(lambda second: second * SECOND // 2)),
)
def test_records_are_parted_where_their_panes_are_in_order(
    window: Tumbling | Hopping, times: list[int]
) -> None:
    """Records need not be put in order where pane follows pane, whatever their order within it."""
    panes = [time // window.pane_us for time in times]
    assert are_parted(window, times) == (panes == sorted(panes))
    assert are_parted(window, sorted(times))


def test_an_empty_batch_adds_nothing() -> None:
    """That a shard has ended is a batch without records."""
    assert _fold(_pipeline(Tumbling(5)), []) == Folded({}, Counts(), [])


def test_records_by_count_go_on_from_batch_to_batch() -> None:
    """A window by count has so many records of its key, whatever the batches, in their order."""
    pipeline = _pipeline(CountOf(3), ("page",), aggregates={"least": Min("bytes")})
    hits = [Hit(-at, "a", None, at, 0.0) for at in range(8)]
    ordinals: dict[Any, int] = {}
    panes: Panes = {}
    for batch in (hits[:2], hits[2:7], hits[7:]):
        merge_panes(pipeline, panes, _fold(pipeline, batch, ordinals=ordinals).panes)
    assert [cells[("a",)][0] for _, cells in sorted(panes.items())] == [3, 3, 2]
    assert [cells[("a",)][-1] for _, cells in sorted(panes.items())] == [0, 3, 6]
    assert ordinals == {("a",): 8}


def test_a_column_is_not_computed_of_what_is_left_out() -> None:
    """`where` protects the functions that it does not need from records that they cannot take."""
    pipeline = _pipeline(
        Tumbling(60),
        where=lambda size: size > 0,
        columns={
            "size": lambda bytes: bytes or 0,  # noqa: A006 - the field's name
            "share": lambda size: 100 // size,
            "twice": lambda share: 2 * share,
        },
        aggregates={"twice": Sum("twice")},
    )
    hits = [Hit(0, "a", None, size, 0.0) for size in (None, 0, 1, 4)]
    folded = _fold(pipeline, hits)
    assert folded.panes == {0: {(): [2, 250]}}
    assert folded.counts == Counts(records=4, on_time=2, skipped=2)


def _raises(bytes: int | None) -> int:  # noqa: A002 - the field's name
    return 1 // (bytes or 0)


_OTHERWISE: dict[str, Callable[..., Any]] = {
    "nan": lambda seconds: float("nan") if seconds else 1.0,
    "mixed": lambda bytes: str(bytes) if bytes else 0,  # noqa: A006 - the field's name
    "list": lambda bytes: [bytes],  # noqa: A006 - the field's name
    "half": lambda bytes: (bytes or 0) / 2,  # noqa: A006 - the field's name
    "text": lambda page: page,
    "constant": lambda: 1 // 0,
}


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"columns": {"a": _raises}}, BadRequestError, r"\$\[1\]\.a.*'hits': 'a' .*ZeroDivision"),
        ({"where": _raises}, BadRequestError, r"\$\[1\]\.where.*'where' .*ZeroDivision"),
        ({"columns": {"a": _OTHERWISE["constant"]}}, BadRequestError, r"\$\[0\]\.a.*ZeroDivision"),
        (
            {"columns": {"a": _OTHERWISE["nan"]}, "aggregates": {"a": Min("a")}},
            BadRequestError,
            r"\$\[1\]\.a.*no number",
        ),
        ({"columns": {"a": _OTHERWISE["mixed"]}}, UsageError, "'hits': 'a' is of int, str"),
        ({"columns": {"a": _OTHERWISE["list"]}}, UsageError, "'hits': 'a' is of list"),
        ({"columns": {"a": _OTHERWISE["half"]}}, UsageError, "'hits': 'of_a' is a Sum of 'a'.*flo"),
        ({"columns": {"a": _OTHERWISE["text"]}}, UsageError, "str, not int"),
        ({"aggregates": {"a": TopK("page", weight="bytes")}}, BadRequestError, "'hits'.*weight"),
        ({"aggregates": {"a": Distinct("double")}}, BadRequestError, "'hits'.*64 bits"),
        ({"key": ("double",)}, BadRequestError, r"\$\[0\]\.double.*'hits'.*64 bits"),
        (
            {"key": ("long",), "columns": {"long": lambda: "\u20ac" * 668}},
            BadRequestError,
            "'hits': a key of 2,008 bytes",
        ),
        (
            {"key": ("half",), "columns": {"half": lambda: "\ud800"}},
            BadRequestError,
            "'hits': the key .* is not UTF-8",
        ),
    ],
)
def test_what_a_function_does_wrong_is_named(
    changed: dict[str, Any], error: type[Exception], named: str
) -> None:
    """A fold that cannot be ends in the pipeline, the column and, if it is known, the row."""
    figures = {"of_a": Sum("a")} if "a" in changed.get("columns", {}) else {"hits": Count()}
    pipeline = _pipeline(Tumbling(60), **({"aggregates": figures} | changed))
    hits = [Hit(0, "a", None, 2**63 - 1, 0.0), Hit(0, "a", None, 0, 1.0), Hit(0, "a", "", -1, 0.0)]
    ordinals: dict[Any, int] = {}
    with pytest.raises(error, match=named):
        _fold(pipeline, hits, ordinals=ordinals)
    assert not ordinals


def test_a_whole_number_among_floats_is_one() -> None:
    """`total / count if count else 0` makes a column of floats."""
    share = {"share": lambda bytes: bytes / 2 if bytes else 0}  # noqa: A006 - the field's name
    pipeline = _pipeline(Tumbling(60), columns=share, aggregates={"least": Min("share")})
    panes = _fold(pipeline, [Hit(0, "a", None, 1, 0.0), Hit(0, "a", None, 0, 0.0)]).panes
    assert [(0.0, float)] == [(one, type(one)) for one in [panes[0][()][1]]]


@pytest.mark.parametrize("blob", [b"", b"\xc1", b"\x93\x90\x90\x90", b"\x93\x91\x01\x90\x90"])
def test_what_are_no_panes_is_refused(blob: bytes) -> None:
    """Bytes that are no panes of the pipeline end in an error that says so."""
    with pytest.raises(BadRequestError, match="no panes of 'hits'"):
        unpack_panes(_pipeline(Tumbling(5)), blob)
