"""What was looked up is in the records, and what a batch is known by is as it was sent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.systems.analytics import Enrichment, FromCache, Source
from agent99.systems.analytics._columns import ColumnBatch, columns_of, decode_batch
from agent99.systems.analytics._enriched import Room, Tally, enriched_pieces, filled, wanted
from agent99.systems.analytics._repeats import has_same_records, known_as
from tests.systems.analytics._goods import GOODS, Bought, Knowing, category

CODES = st.one_of(st.none(), st.sampled_from(["tea", "cup", "pot"]))
RECORDS = st.lists(
    st.builds(
        Bought,
        at_us=st.integers(0, 9),
        number=st.integers(0, 9),
        code=CODES,
        category=st.one_of(st.none(), st.sampled_from(["own", "brought"])),
        points=st.integers(0, 2),
    ),
    min_size=1,
    max_size=30,
)


class Good(msgspec.Struct):
    """What is known of a code."""

    category: Any
    points: Any


PLAIN = st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=5), st.just(2**70))
VALUES = st.one_of(
    PLAIN, st.builds(Good, PLAIN, PLAIN), st.fixed_dictionaries({}, optional={"points": PLAIN})
)
FOUND = st.dictionaries(st.sampled_from(["tea", "cup", "pot", "jar"]), VALUES)


def fits(column: str, value: Any) -> bool:
    """Tell by definition whether a value is of a column."""
    if column == "category":
        return isinstance(value, str)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def of_record(record: Bought, column: str, found: dict[str, Any]) -> tuple[Any, str]:
    """Return by definition what a record has in the end, and which count it is in."""
    own, value = getattr(record, column), found.get(record.code or "")
    if own != {"category": None, "points": 0}[column]:
        return own, ""
    if isinstance(value, Good):
        value = getattr(value, column)
    elif isinstance(value, dict):
        value = value.get(column)
    elif value is not None:  # of two columns it is neither
        return own, "misfit"
    if value is None:
        return own, "missed"
    return (value, "enriched") if fits(column, value) else (own, "misfit")


@settings(max_examples=25)
@given(RECORDS, FOUND)
def test_each_value_is_as_by_definition_and_in_one_count(
    records: list[Bought], found: dict[str, Any]
) -> None:
    """What a record brings stays; of the rest each is enriched, missed, or a misfit."""
    enrichment, tally = category(Knowing(), "category", "points"), Tally()
    full = filled(enrichment, columns_of(GOODS, records), found, tally)
    counts = dict.fromkeys(("enriched", "missed", "misfit", "left", ""), 0)
    for column in ("category", "points"):
        naive = [of_record(record, column, found) for record in records]
        assert [value for value, _ in naive] == full[column]
        for _, count in naive:
            counts[count] += 1
    counts.pop("")
    assert counts == msgspec.structs.asdict(tally)
    assert columns_of(GOODS, records)["code"] == full["code"]


@settings(max_examples=25)
@given(RECORDS)
def test_only_the_keys_of_records_that_lack_something_are_asked_for(records: list[Bought]) -> None:
    """Each once, in the order in which they first come; None is no key."""
    keys = wanted(category(Knowing()), columns_of(GOODS, records))
    lacking = (one.code for one in records if one.category is None and one.code is not None)
    assert sorted(dict.fromkeys(lacking)) == sorted(keys)
    both = wanted(category(Knowing(), "category", "points"), columns_of(GOODS, records))
    lack = {one.code for one in records if one.category is None or one.points == 0} - {None}
    assert lack == set(both)
    assert len(both) == len(lack)


def test_what_could_not_be_looked_up_is_left() -> None:
    """The columns are as they were sent, and what they lack is counted."""
    columns, tally = columns_of(GOODS, [Bought(1, 1, "tea"), Bought(2, 2, "tea", "own")]), Tally()
    assert columns == filled(category(Knowing()), columns, None, tally)
    assert Tally(left=1) == tally


@pytest.mark.parametrize("value", ["x" * 254, "é" * 127, b"ok"])
def test_a_text_fits_if_it_is_short_enough(value: Any) -> None:
    """It has 256 bytes as JSON at most; bytes of UTF-8 are a text."""
    assert Tally(enriched=1) == of_one(value)


@pytest.mark.parametrize("value", ["x" * 255, "é" * 128, b"\xff", "\ud800", 5, ["x"], object()])
def test_what_is_no_text_or_too_long_does_not_fit(value: Any) -> None:
    """It is counted, and the record has the default."""
    assert Tally(misfit=1) == of_one(value)


def of_one(value: Any) -> Tally:
    """Return what becomes of a value that is looked up."""
    tally = Tally()
    filled(category(Knowing()), columns_of(GOODS, [Bought(1, 1, "tea")]), {"tea": value}, tally)
    return tally


class Kinds(msgspec.Struct):
    """A record with a column of each kind."""

    at: datetime
    code: int
    share: float = 0.0
    is_new: bool = False
    small: Annotated[int, msgspec.Meta(le=9)] = 0
    since: datetime | None = None
    needed: str = msgspec.field(default_factory=str)


KINDS = Source("kinds", Kinds, time="at")


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("share", 1, 1.0),
        ("share", -0.0, 0.0),
        ("is_new", True, True),
        ("small", 9, 9),
        ("share", float("nan"), None),
        ("share", float("inf"), None),
        ("share", "1", None),
        ("is_new", 1, None),
        ("small", 10, None),
    ],
)
def test_numbers_fit_as_their_columns_say(column: str, value: Any, stored: Any) -> None:
    """Also by what the type says of them beside its kind; None: it does not fit."""
    enrichment = Enrichment(KINDS, "code", (column,), Knowing())
    if stored is None:
        with pytest.raises((ValueError, msgspec.ValidationError)):
            enrichment.fit(column, value)
    else:
        fitted = enrichment.fit(column, value)
        assert (repr(stored), type(stored)) == (repr(fitted), type(fitted))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"by": "share"}, "no int or str"),
        ({"by": "name"}, "has no 'name'"),
        ({"columns": ()}, "several names"),
        ({"columns": "share"}, "several names"),
        ({"columns": ("name",)}, "has no 'name'"),
        ({"columns": ("code",)}, "looked up"),
        ({"columns": ("at",)}, "when it was"),
        ({"columns": ("since",)}, "no int, float, str or bool"),
        ({"columns": ("needed",)}, "no constant default"),
        ({"lookup": None}, "no function"),
        ({"otherwise": "wait"}, "'refuse' or 'leave'"),
        ({"text_bytes_max": 1}, "at least 2"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_defined(
    wrong: dict[str, Any], says: str
) -> None:
    """Whoever defines it is told, and not whoever sends records."""
    right: dict[str, Any] = {
        "source": KINDS,
        "by": "code",
        "columns": ("share",),
        "lookup": FromCache("goods"),
    }
    Enrichment(**right)
    with pytest.raises(UsageError, match=says):
        Enrichment(**(right | wrong))


def test_no_column_that_says_the_shard_is_looked_up() -> None:
    """A repetition would go to another shard when another value is known."""
    sharded = Source("goods", Bought, time="at_us", shards=4, shard_by="category")
    with pytest.raises(UsageError, match="in which shard"):
        category(Knowing(), of=sharded)


# --- what a batch is known by ---------------------------------------------------------------------

ROOM = Room(bytes_max=900, row_bytes=256)


def pieces(records: list[Bought], found: dict[str, Any], event_id: str = "b") -> Any:
    """Return the events of a batch, with what was known when it came."""
    columns = columns_of(GOODS, records)
    full = filled(category(Knowing()), columns, found, Tally())
    batch = ColumnBatch(source="goods", shard=0, rows=len(records), columns=columns)
    return enriched_pieces(GOODS, batch, full, event_id, ROOM)


TEXTS = st.dictionaries(
    st.sampled_from(["tea", "cup", "pot"]), st.sampled_from(["", "x" * 60, "x" * 254])
)


@settings(max_examples=25)
@given(RECORDS, TEXTS, TEXTS)
def test_a_batch_is_known_by_what_was_sent(
    records: list[Bought], found: dict[str, Any], later: dict[str, Any]
) -> None:
    """When it comes again it has the same events, whatever is looked up by then; all have room."""
    first, again = pieces(records, found), pieces(records, later)
    assert [one.event_id for one in first] == [one.event_id for one in again]
    start = 0
    for one, other in zip(first, again, strict=True):
        assert len(one.body) <= ROOM.bytes_max
        assert has_same_records(one.event_id, one.body, other.body)
        sent = columns_of(GOODS, records[start : start + one.rows])
        batch = decode_batch(GOODS, one.body)
        assert known_as(one.event_id, sent) == batch.known_as
        expected = filled(category(Knowing()), sent, found, Tally())
        assert expected == batch.columns
        start += one.rows
    assert len(records) == start


@settings(max_examples=25)
@given(RECORDS, RECORDS)
def test_other_records_are_another_batch(records: list[Bought], others: list[Bought]) -> None:
    """Though they are the same once that is added which is looked up."""
    first, second = pieces(records, {}), pieces(others, {})
    is_same = has_same_records("b", first[0].body, second[0].body)
    if first[0].rows == len(records) and second[0].rows == len(others):
        assert (records == others) == is_same


def test_a_record_that_brings_what_another_one_gets_is_another() -> None:
    """Two batches are stored alike, and were sent differently."""
    (looked_up,) = pieces([Bought(1, 1, "tea")], {"tea": "drink"})
    (brought,) = pieces([Bought(1, 1, "tea", "drink")], {})
    assert decode_batch(GOODS, looked_up.body).columns == decode_batch(GOODS, brought.body).columns
    assert not has_same_records("b", looked_up.body, brought.body)


def test_a_batch_is_the_same_with_an_ingestion_that_enriches_and_one_that_does_not() -> None:
    """Who sends it again after that was changed has it stored once."""
    (there,) = pieces([Bought(1, 1, "tea")], {"tea": "drink"})
    columns = columns_of(GOODS, [Bought(1, 1, "tea")])
    plain = msgspec.json.encode(ColumnBatch(source="goods", shard=0, rows=1, columns=columns))
    assert has_same_records("b", there.body, plain)
    assert has_same_records("b", plain, there.body)
    assert known_as("b", columns) == decode_batch(GOODS, there.body).known_as
