"""A caller may choose one instance itself."""

from __future__ import annotations

import asyncio

import pytest

from agent99 import Mesh, hash_of, least_loaded, pick, sticky
from agent99.errors import Agent99Error, InvalidNameError, NoAgentError
from tests._wait import PATIENCE_S
from tests.agent._agents import Shop


class American(Shop):
    """The same shop elsewhere, and newer."""

    metadata = {"region": "us"}
    version = "2.0.0"


@pytest.fixture
async def shops(mesh: Mesh, client: Mesh) -> dict[str, Shop]:
    """Give two European shops and an American one, known to the client."""
    made = [Shop(), Shop(), American()]
    await mesh.host(*made)
    await client.registry.wait_until(lambda t: len(t.discover("shop")) == 3, timeout_s=PATIENCE_S)
    return {shop.instance: shop for shop in made}


async def ask(client: Mesh, target: object) -> str:
    """Return which instance answers."""
    answer = await client.request(target, "whoami")  # type: ignore[call-overload] - any target will do
    return str(answer["id"])


async def test_a_filter_leaves_those_that_fit(client: Mesh, shops: dict[str, Shop]) -> None:
    """Labels and versions are compared; when none fits, the error says what was asked for."""
    newer = {await ask(client, pick("shop", where="region=us, version>=2")) for _ in range(5)}
    assert {type(shops[instance]) for instance in newer} == {American}
    with pytest.raises(NoAgentError, match="none of the 3 instances .* 'region=mars'"):
        await ask(client, pick("shop", where="region=mars"))
    with pytest.raises(NoAgentError, match="nobody offers"):
        await ask(client, pick("nothing", where="region=eu"))
    with pytest.raises(NoAgentError, match="nobody offers"):
        await ask(client, pick("nothing"))


async def test_the_same_key_goes_to_the_same_instance(
    client: Mesh, mesh: Mesh, shops: dict[str, Shop]
) -> None:
    """From every process, and different keys spread."""
    for key in ("ada", "grace"):
        chosen = {await ask(asker, pick("shop", hash_of(key))) for asker in (client, mesh)}
        assert len(chosen) == 1
    spread = {await ask(client, pick("shop", hash_of(f"k{n}"))) for n in range(40)}
    assert spread == set(shops)


async def test_sticky_stays_until_its_instance_is_gone(
    client: Mesh, mesh: Mesh, shops: dict[str, Shop]
) -> None:
    """One choice is kept while it is there; then another is."""
    kept = {await ask(client, pick("shop", sticky())) for _ in range(10)}
    assert len(kept) == 1
    first = kept.pop()
    await mesh.stop(shops[first])
    await client.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=PATIENCE_S)
    again = {await ask(client, pick("shop", sticky())) for _ in range(10)}
    assert len(again) == 1
    assert again.pop() != first


async def test_the_least_loaded_is_the_one_with_nothing_in_flight(
    client: Mesh, shops: dict[str, Shop]
) -> None:
    """Requests that wait count; when they end they count no more."""
    waiting = [
        asyncio.ensure_future(client.request(pick("shop", least_loaded()), "wait"))
        for _ in range(3)
    ]
    async with asyncio.timeout(PATIENCE_S):
        while not all(
            shop._running and shop._running.dispatcher.statistics().in_flight == 1
            for shop in shops.values()
        ):
            await asyncio.sleep(0)
    for shop in shops.values():
        shop.gate.set()
    assert await asyncio.gather(*waiting) == ["open"] * 3


def test_a_bad_pick_is_refused_where_it_is_written() -> None:
    """Names and filters are checked before anything is asked."""
    with pytest.raises(InvalidNameError):
        pick("a.b")
    with pytest.raises(Agent99Error):
        pick("shop", where="region~eu")
