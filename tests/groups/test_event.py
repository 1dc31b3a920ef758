"""A stored event as its handler sees it, and as CloudEvents write it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from agent99 import UsageError
from agent99.envelope import Header, Subjects, encode_message, parse_key, parse_topic
from agent99.errors import BadRequestError, LeaseLostError
from agent99.groups import Event, event_of
from agent99.journal import Record
from agent99.store import Store, Transaction, claim_position, open_store

HEADER = Header(
    type="event", from_uuid="shop", to_uuid="order.placed", event_uuid="e1", timestamp=7
)
_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


class Placed(msgspec.Struct):
    """What the tests append."""

    total: Annotated[int, Meta(ge=0)]


def record(key: str = "order-7", body: bytes = b'{"total":5}', header: Header = HEADER) -> Record:
    """Return an event as it is stored."""
    subject = Subjects("main", "anna").log(parse_topic("order.placed"), parse_key(key))
    return Record(subject, 12, encode_message(header, body), 1_000_000)


@given(key=_texts, trace=st.sampled_from([None, "00-1-2-01"]), data=st.dictionaries(_texts, _texts))
def test_a_cloud_event(key: str, trace: str | None, data: dict[str, str]) -> None:
    """Its JSON has what CloudEvents 1.0 demands, and says what was appended, under which key."""
    data.pop("header", None)
    header = msgspec.structs.replace(HEADER, traceparent=trace)
    event = event_of(record(key, msgspec.json.encode(data), header))
    written: dict[str, Any] = msgspec.json.decode(event.cloud_event())
    assert {"specversion": "1.0", "id": "e1", "source": "shop", "type": "order.placed"}.items() <= (
        written.items()
    )
    assert datetime(1970, 1, 1, 0, 0, 0, 7, UTC) == datetime.fromisoformat(written["time"])
    assert ("12", data) == (written["sequence"], written["data"])
    assert (key, key, trace) == (
        written.get("subject"),
        written.get("partitionkey"),
        written.get("traceparent"),
    )


UUID = "6f0e1c9a-1b2c-4d3e-8f90-a1b2c3d4e5f6"


@pytest.mark.parametrize(
    ("event_id", "key", "subject"),
    [
        (UUID, UUID, ""),
        (UUID, "order-7", "order-7"),
        ("order-7", "order-7", "order-7"),
        (UUID.upper(), UUID.upper(), UUID.upper()),  # not one of ours
    ],
)
def test_its_subject(event_id: str, key: str, subject: str) -> None:
    """It has none where its key is an id that we made; a chosen id may be meant as the key, too."""
    header = msgspec.structs.replace(HEADER, event_uuid=event_id)
    assert subject == event_of(record(key, header=header)).subject


def test_what_it_holds() -> None:
    """What was appended is read as the type that is asked for, or a sentence says why not."""
    assert Placed(5) == event_of(record()).decode(Placed)
    with pytest.raises(BadRequestError, match=r"e1 \(order.placed\).*>= 0.*\$\.total"):
        event_of(record(body=b'{"total":-1}')).decode(Placed)


@pytest.mark.parametrize(
    "stored",
    [
        Record("a99.main.log.1.anna.k.order.placed", 3, b"no JSON", 0),
        Record("a99.main.log.1.anna.k.order.placed", 3, b'{"total":5}', 0),
        Record("orders.placed", 3, encode_message(HEADER, b"{}"), 0),
        Record("a99.main.log.1.anna.x-_.order.placed", 3, encode_message(HEADER, b"{}"), 0),
    ],
)
def test_what_is_no_event(stored: Record) -> None:
    """What nobody can read as an event is refused, and never half read."""
    with pytest.raises(BadRequestError):
        event_of(stored)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Give a store of one's own."""
    async with open_store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


async def test_an_effect_takes_place_once(store: Store) -> None:
    """An event is new once for each reader, and never for who was taken over from."""

    def is_new(event: Event) -> Any:
        return store.transaction(event.is_new)

    await store.transaction(lambda one: claim_position(one, "main/billing", 3, 2))
    event = event_of(record(), reader="main/billing", part=3, epoch=2)
    assert [True, False] == [await is_new(event), await is_new(event)]
    assert await is_new(event_of(record(), reader="main/other", part=3, epoch=1))
    with pytest.raises(LeaseLostError):
        await is_new(event_of(record(), reader="main/billing", part=3, epoch=1))
    with pytest.raises(UsageError, match="was not handed out by a group"):
        await is_new(event_of(record()))


async def test_an_effect_that_fails_is_new_again(store: Store) -> None:
    """What was remembered in a transaction that failed is forgotten with it."""
    event = event_of(record(), reader="main/billing", part=3, epoch=2)

    def fail(transaction: Transaction) -> None:
        assert event.is_new(transaction)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.transaction(fail)
    assert await store.transaction(event.is_new)
