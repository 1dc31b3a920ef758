"""The subscriptions of a mesh: the bucket has the last word, and one bad entry stops no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from agent99 import Failure, Mesh
from agent99.errors import JournalError
from agent99.groups import list_groups
from agent99.journal import Bucket, Change, Entry, Snapshot
from agent99.systems.events import EventBusAgent, Subscription
from agent99.systems.events._subscriptions import REVISIONS_MAX, Board, key_of
from agent99.systems.events._words import Subscribe, Unsubscribed
from tests._wait import eventually
from tests.groups.conftest import OpenMesh
from tests.systems.events.test_bus import Heard, publish, subscribe

WANTED = Subscribe(event_type="order.*", subscriber="shipping")


async def host(mesh: Mesh, *more: Heard) -> tuple[Board, Bucket]:
    """Host a bus, and return its board and its bucket."""
    bus = EventBusAgent()
    await mesh.host(bus, *more)
    board = bus._board
    assert board._bucket is not None
    return board, board._bucket


def subscription(**words: str) -> Subscription:
    """Return a subscription as it is kept."""
    kept = {"group": "bus-x", "event_type": "order.*", "subscriber": "x", "mode": "group"}
    return msgspec.convert({**kept, "start": "new", **words}, Subscription)


async def kept_in(bucket: Bucket) -> list[str]:
    """Return the groups of the subscriptions that are kept."""
    entries = await bucket.snapshot()
    return [msgspec.json.decode(entry.value)["group"] for entry in entries]


class Instead:
    """Does something more, once, when a method of a bucket has done what it does."""

    def __init__(self, bucket: Bucket, name: str, act: Callable[[], Awaitable[None]]) -> None:
        self._bucket = bucket
        self._name = name
        self._act: Callable[[], Awaitable[None]] | None = act

    def __getattr__(self, name: str) -> Any:
        return self._call if name == self._name else getattr(self._bucket, name)

    async def _call(self, *how: Any, **more: Any) -> Any:
        answer = await getattr(self._bucket, self._name)(*how, **more)
        act, self._act = self._act, None
        if act is not None:
            await act()
        return answer


async def test_it_is_taken_back_elsewhere_and_wanted_again(open_mesh: OpenMesh) -> None:
    """What `subscribe` answers is in the bucket, though the bus has not heard of the end before."""
    (one, _), (two, bucket) = await host(await open_mesh()), await host(await open_mesh())
    old = await one.add(WANTED)
    await eventually(lambda: two.known)
    await one.remove(old.group)
    again = await two.add(WANTED)
    assert ([again.group], True) == (await kept_in(bucket), again.group != old.group)


async def test_an_entry_that_cannot_be_read(mesh: Mesh) -> None:
    """It keeps nobody from subscribing and unsubscribing; under its own key it is named."""
    board, bucket = await host(mesh)
    await bucket.put("00000000", b"{}")
    wanted = await subscribe(mesh)
    answer = await mesh.request(
        "event_bus", "unsubscribe", {"subscription": wanted.subscription}, returns=Unsubscribed
    )
    key = key_of(await board.add(WANTED))
    await bucket.put(key, b"{}")
    with pytest.raises(Failure, match=key) as caught:
        await subscribe(mesh)
    assert (True, "INVALID_SUBSCRIPTION") == (answer.unsubscribed, caught.value.code)


@pytest.mark.parametrize("bad", [{"start": "newest"}, {"event_type": "a..b"}, {"group": "a b"}])
async def test_an_entry_that_is_none(
    mesh: Mesh, bad: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """It is told of, and skipped: others are worked off."""
    heard = Heard()
    board, bucket = await host(mesh, heard)
    await bucket.put("00000000", msgspec.json.encode(subscription(**bad)))
    await eventually(lambda: board._troubles)
    await subscribe(mesh)
    await publish(mesh, 1)
    await eventually(lambda: heard.numbers == {"7": [1]})
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert (1, True) == (len(errors), "cannot be worked off" in errors[0])


async def test_a_board_that_breaks(
    mesh: Mesh, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours is told of as critical, and the board begins anew."""
    heard = Heard()
    board, _ = await host(mesh, heard)

    async def settle() -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(board, "_settle", settle)
    await subscribe(mesh)
    await publish(mesh, 1)
    await eventually(lambda: heard.numbers == {"7": [1]})
    broke = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert ["Board(1 subscriptions) broke, and begins anew"] == [
        each.getMessage() for each in broke
    ]


async def test_a_picture_from_before(mesh: Mesh) -> None:
    """A snapshot that is older than a subscription does not end its group."""
    board, _ = await host(mesh)
    wanted = await subscribe(mesh)
    await eventually(lambda: wanted.subscription in board._groups)
    group = board._groups[wanted.subscription]
    board._hear(Snapshot(()))
    await eventually(lambda: not board._doubted and not board._news.is_set())
    assert group is board._groups.get(wanted.subscription)


async def test_news_from_before(mesh: Mesh) -> None:
    """Of a key only what is newer counts: neither an old end of it, nor an old beginning."""
    board, bucket = await host(mesh)
    old = await board.add(WANTED)
    (entry,) = await bucket.snapshot()
    await board.remove(old.group)
    board._hear(Change("put", entry.key, entry.value, entry.revision))
    await eventually(lambda: not board._doubted)
    assert {} == board.known
    new = await board.add(WANTED)
    board._hear(Change("delete", entry.key, b"", entry.revision + 1))
    await eventually(lambda: not board._doubted)
    assert {entry.key: new} == board.known


async def test_a_bucket_that_was_made_anew(mesh: Mesh) -> None:
    """Its revisions begin anew, and what stands in it counts."""
    board, bucket = await host(mesh)
    kept = subscription()
    key = key_of(kept)
    board._revisions[key] = 1_000
    await bucket.put(key, msgspec.json.encode(kept))
    await eventually(lambda: board.known == {key: kept})


async def test_what_is_gone_is_forgotten(mesh: Mesh) -> None:
    """Of keys that are gone a bounded number is remembered."""
    board, _ = await host(mesh)
    for number in range(REVISIONS_MAX + 10):
        board._drop(f"k{number}", number + 1)
    assert (REVISIONS_MAX, True) == (len(board._revisions), "k0" not in board._revisions)


async def test_another_one_under_the_same_key(mesh: Mesh) -> None:
    """Taking one subscription back does not take back another one of the same words."""
    board, bucket = await host(mesh)
    old = await board.add(WANTED)
    fresh: list[Subscription] = []

    async def replace() -> None:
        board._bucket = bucket
        await board.remove(old.group)  # another instance of the bus
        fresh.append(await board.add(WANTED))

    board._bucket = Instead(bucket, "snapshot", replace)  # type: ignore[assignment] - stands in
    assert not await board.remove(old.group)
    assert [each.group for each in fresh] == await kept_in(bucket)


async def test_somebody_was_quicker(open_mesh: OpenMesh) -> None:
    """Of two that subscribe at once one is kept; both answer it, and one group is left."""
    mesh, other = await open_mesh(), await open_mesh()
    (one, bucket), (two, _) = await host(mesh), await host(other)
    first, second = await asyncio.gather(one.add(WANTED), two.add(WANTED))
    assert first == second
    assert ([first.group], [first.group]) == (
        await kept_in(bucket),
        list(await list_groups(mesh)),
    )


def test_keys() -> None:
    """Two subscriptions have two keys, though 32 bits of a sum would be the same."""
    names = [f"s{number}" for number in range(200_000)]  # of a CRC-32, some five would be
    keys = {key_of(subscription(subscriber=name)) for name in names}
    assert (len(names), {32}) == (len(keys), {len(key) for key in keys})
    assert len({key_of(subscription(mode=mode)) for mode in ("group", "every", "one")}) == 3


async def test_a_subscription_that_cannot_be_kept(mesh: Mesh) -> None:
    """It leaves no group behind."""
    board, bucket = await host(mesh)

    class Full:
        """Takes nothing."""

        async def get(self, _: str) -> Entry | None:
            return None

        async def create(self, *_: object) -> int:
            raise JournalError("the server is away")

    board._bucket = Full()  # type: ignore[assignment] - stands in
    with pytest.raises(JournalError, match="away"):
        await board.add(WANTED)
    board._bucket = bucket
    assert () == await list_groups(mesh)


async def test_an_answer_that_was_lost(mesh: Mesh) -> None:
    """What was kept though its answer was lost keeps its group; asked again it is the same one."""
    board, bucket = await host(mesh)

    async def lose() -> None:
        raise JournalError("the answer is lost")

    board._bucket = Instead(bucket, "create", lose)  # type: ignore[assignment] - stands in
    with pytest.raises(JournalError, match="lost"):
        await board.add(WANTED)
    board._bucket = bucket
    again = await board.add(WANTED)
    assert ([again.group], [again.group]) == (
        await kept_in(bucket),
        list(await list_groups(mesh)),
    )
