"""Records become columns and bytes, and come back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics import Source
from agent99.systems.analytics._columns import (
    ColumnBatch,
    Origin,
    check_columns,
    columns_of,
    columns_read,
    decode_batch,
    encode_batch,
    records_decoder,
    shard_key,
    split_by_shard,
)


class Line(msgspec.Struct, kw_only=True):
    """A record with a field of each type."""

    sold_at: datetime
    country: str
    quantity: int
    price: float
    is_gift: bool | None = None
    paid_at: datetime | None = None


LINES = Source("lines", Line, time="sold_at", shards=4, shard_by="country")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)  # noqa: DTZ001 - hypothesis adds the zone
RECORDS = st.builds(
    Line,
    sold_at=MOMENTS,
    country=st.text(st.characters(codec="utf-8"), max_size=3),
    quantity=st.integers(-(2**63), 2**63 - 1),
    price=st.floats(allow_nan=False, allow_infinity=False),
    is_gift=st.none() | st.booleans(),
    paid_at=st.none() | MOMENTS,
)


def _line(**changed: Any) -> Line:
    right: dict[str, Any] = {"sold_at": EPOCH, "country": "France", "quantity": 3, "price": 1.5}
    return Line(**(right | changed))


def _batch(records: list[Line], **changed: Any) -> ColumnBatch:
    columns = columns_of(LINES, records)
    right: dict[str, Any] = {
        "source": "lines",
        "shard": 1,
        "rows": len(records),
        "columns": columns,
    }
    return ColumnBatch(**(right | changed))


def _naive_us(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - EPOCH) // timedelta(microseconds=1)


@given(st.lists(RECORDS, max_size=5))
def test_columns_hold_what_records_hold(records: list[Line]) -> None:
    """A column has a field's values in the order of the records, moments as microseconds."""
    columns = columns_of(LINES, records)
    assert list(columns) == list(LINES.fields)
    assert columns["sold_at"] == [_naive_us(one.sold_at) for one in records]
    assert columns["paid_at"] == [_naive_us(one.paid_at) for one in records]
    for name in ("country", "quantity", "price", "is_gift"):
        assert columns[name] == [getattr(one, name) for one in records]


@given(st.lists(RECORDS, max_size=5), st.booleans())
def test_a_batch_comes_back_as_it_was(records: list[Line], is_final: bool) -> None:
    """What is encoded can be decoded, to the same batch."""
    origin = Origin(data_id="d", rows=len(records), ingested_us=5, source_ip="::1", user_agent="x")
    batch = _batch(records, origins=(origin,), is_final=is_final)
    assert decode_batch(LINES, encode_batch(LINES, batch)) == batch


@given(st.lists(RECORDS, max_size=5))
def test_records_are_read_from_json(records: list[Line]) -> None:
    """An array of objects is several records, an object is one."""
    decode = records_decoder(LINES)
    read = decode(msgspec.json.encode(records))
    assert all(isinstance(one, Line) for one in read)
    assert columns_of(LINES, read) == columns_of(LINES, records)
    assert columns_read(LINES, read) == columns_of(LINES, records)
    for record in records:
        assert columns_of(LINES, decode(msgspec.json.encode(record))) == columns_of(LINES, [record])


@given(st.lists(RECORDS, max_size=20))
def test_each_record_goes_to_the_shard_of_its_value(records: list[Line]) -> None:
    """The parts have all records, each where its value belongs, in their order."""
    expected: dict[int, list[Line]] = {}
    for record in records:
        expected.setdefault(crc32(record.country.encode()) % 4, []).append(record)
    parts = split_by_shard(LINES, columns_of(LINES, records))
    assert parts == [(shard, columns_of(LINES, expected[shard])) for shard in sorted(expected)]


def test_without_a_field_to_shard_by_all_is_one_part() -> None:
    """Where any shard will do, the records stay together."""
    source = Source("lines", Line, time="sold_at", shards=4)
    columns = columns_of(source, [_line(), _line(country="Spain")])
    assert split_by_shard(source, columns) == [(0, columns)]
    assert shard_key(source, 3) == "lines.3"


def _json(changed: dict[str, Any]) -> bytes:
    right = {"sold_at": "2010-01-01T00:00:00Z", "country": "France", "quantity": 3, "price": 1.5}
    return msgspec.json.encode([right, right | changed])


@pytest.mark.parametrize(
    ("data", "path", "named"),
    [
        (b"", "$", "truncated"),
        (b"3", "$", "int"),
        (b"[" * 100_000, "$[0]", "array"),
        (b'{"country": "\xff"}', "$", "utf-8"),
        (_json({"quantity": "3"}), "$[1].quantity", "str"),
        (_json({"quantity": True}), "$[1].quantity", "bool"),
        (_json({"quantity": None}), "$[1].quantity", "null"),
        (_json({"quantity": 2**63}), "$[1].quantity", "9223372036854775807"),
        (_json({"quantity": -(2**63) - 1}), "$[1].quantity", "-9223372036854775808"),
        (_json({"sold_at": "today"}), "$[1].sold_at", "datetime"),
        (_json({"colour": "red"}), "$[1]", "colour"),
        (b'[{"country": "France"}]', "$[0]", "sold_at"),
        (_json({}).replace(b"1.5", b"1e999"), "$[0].price", "range"),
    ],
)
def test_a_bad_record_is_named(data: bytes, path: str, named: str) -> None:
    """JSON that is no record ends in the row, the field and the rule."""
    with pytest.raises(BadRequestError, match=named) as caught:
        records_decoder(LINES)(data)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("record", "path"),
    [
        (_line(sold_at=datetime(2010, 1, 1)), "$[1].sold_at"),  # noqa: DTZ001 - that is what is refused
        (_line(sold_at=None), "$[1].sold_at"),
        (_line(sold_at=5), "$[1].sold_at"),
        (_line(paid_at="now"), "$[1].paid_at"),
        (_line(country=None), "$[1].country"),
        (_line(quantity=True), "$[1].quantity"),
        (_line(quantity=1.0), "$[1].quantity"),
        (_line(quantity=2**63), "$[1].quantity"),
        (_line(price=float("nan")), "$[1].price"),
        (_line(price=float("-inf")), "$[1].price"),
        (_line(price=True), "$[1].price"),
        (_line(price=10**400), "$[1].price"),
        (_line(is_gift=1), "$[1].is_gift"),
        ({"country": "France"}, "$[1]"),
    ],
)
def test_a_value_that_no_record_may_have_is_named(record: Any, path: str) -> None:
    """Records made in Python are checked as those from JSON are."""
    with pytest.raises(BadRequestError) as caught:
        columns_of(LINES, [_line(), record])
    assert caught.value.path == path


def test_a_whole_number_is_a_float_where_one_is_meant() -> None:
    """A price of 2 is 2.0, as it is when it comes from JSON; and -0.0 is 0.0."""
    prices = columns_of(LINES, [_line(price=2), _line(price=-0.0)])["price"]
    assert list(map(str, prices)) == ["2.0", "0.0"]


def test_time_has_bounds() -> None:
    """A time is of the years 1 to 9999."""

    class Tick(msgspec.Struct):
        """A record whose time is a number."""

        at: int

    source = Source("ticks", Tick, time="at")
    moment = _naive_us(datetime.max.replace(tzinfo=UTC))
    assert moment is not None
    assert columns_of(source, [Tick(moment)]) == {"at": [moment]}
    with pytest.raises(BadRequestError, match="9999") as caught:
        columns_of(source, [Tick(0), Tick(moment + 1)])
    assert caught.value.path == "$[1].at"


def _required(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: batch["columns"][name] for name in ("sold_at", "country", "quantity", "price")}


@pytest.mark.parametrize(
    ("spoil", "path"),
    [
        (lambda batch: batch.update(source="others"), "$.source"),
        (lambda batch: batch.update(shard=64), "$.shard"),
        (lambda batch: batch.update(rows=3), "$.columns.sold_at"),
        (lambda batch: batch.update(rows=10**15, columns=_required(batch)), "$.columns.sold_at"),
        (lambda batch: batch.pop("rows"), "$"),
        (lambda batch: batch["columns"].pop("country"), "$.columns"),
        (lambda batch: batch["columns"]["country"].append("Spain"), "$.columns.country"),
        (lambda batch: batch["columns"]["quantity"].__setitem__(1, "3"), "$.columns.quantity[1]"),
        (lambda batch: batch["columns"].update(price=None), "$.columns.price"),
        (lambda batch: batch["columns"]["quantity"].__setitem__(1, 2**63), "$.columns.quantity[1]"),
        (
            lambda batch: batch["columns"]["quantity"].__setitem__(0, -(2**63) - 1),
            "$.columns.quantity[0]",
        ),
        (lambda batch: batch["columns"]["sold_at"].__setitem__(0, 2**62), "$.columns.sold_at[0]"),
    ],
)
def test_a_bad_batch_is_named(spoil: Callable[[dict[str, Any]], None], path: str) -> None:
    """A stored event that is no batch of the source ends in the path and the rule."""
    data = msgspec.json.decode(encode_batch(LINES, _batch([_line(), _line()])))
    spoil(data)
    with pytest.raises(BadRequestError) as caught:
        decode_batch(LINES, msgspec.json.encode(data))
    assert caught.value.path == path


def test_what_cannot_be_read_is_not_encoded() -> None:
    """A batch of another source, or with a text that UTF-8 lacks, is refused before it is sent."""
    with pytest.raises(BadRequestError, match="others"):
        encode_batch(LINES, _batch([_line()], source="others"))
    with pytest.raises(BadRequestError, match="UTF-8"):
        encode_batch(LINES, _batch([_line(country="\ud800")]))
    with pytest.raises(BadRequestError, match="none where there are 1"):
        check_columns(LINES, {"sold_at": [1]})


def test_a_batch_outlives_the_fields_of_its_records() -> None:
    """A field that came later has its default, and one that is gone is left out."""

    class Before(msgspec.Struct):
        """What was stored."""

        at: int
        colour: str

    class After(msgspec.Struct):
        """What is read."""

        at: int
        size: int = 7
        weight: int = msgspec.field(default_factory=int)
        made: datetime = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)

    before, after = Source("s", Before, time="at"), Source("s", After, time="at")
    columns = columns_of(before, [Before(1, "red"), Before(2, "blue")])
    data = encode_batch(before, ColumnBatch(source="s", shard=0, rows=2, columns=columns))
    later = {"size": [7, 7], "weight": [0, 0], "made": [1_000_000] * 2}
    assert decode_batch(after, data).columns == {"at": [1, 2]} | later
    with pytest.raises(BadRequestError, match="colour"):
        decode_batch(before, encode_batch(after, decode_batch(after, data)))


def test_an_integer_has_64_bits_whatever_its_rules() -> None:
    """Rules that a field has already, names and defaults stay as they are, and bounds are added."""

    class Tick(msgspec.Struct, rename="upper"):
        """A record with integers of all kinds."""

        at: int
        even: Annotated[int, msgspec.Meta(multiple_of=2)]
        size: int = 7
        weight: int | None = msgspec.field(default_factory=lambda: 8)

    source = Source("ticks", Tick, time="at")
    decode = records_decoder(source)
    least = columns_read(source, decode(b'[{"AT": 1, "EVEN": 2}]'))
    assert {"at": [1], "even": [2], "size": [7], "weight": [8]} == least
    none = columns_read(source, decode(b'[{"AT": 1, "EVEN": 2, "WEIGHT": null}]'))
    assert [None] == none["weight"]
    for name, value in (("EVEN", 2**63), ("EVEN", 3), ("SIZE", 2**63), ("WEIGHT", 2**63)):
        record = {"AT": 1, "EVEN": 2} | {name: value}
        with pytest.raises(BadRequestError) as caught:
            columns_read(source, decode(msgspec.json.encode([record])))
        assert caught.value.path.upper() == f"$[0].{name}"


def test_a_type_that_json_cannot_be_told_by_is_refused() -> None:
    """Records that are arrays in JSON cannot be told from an array of records."""

    class Pair(msgspec.Struct, array_like=True):
        """A record that is an array."""

        at: int

    with pytest.raises(UsageError, match="Pair"):
        records_decoder(Source("pairs", Pair, time="at"))
