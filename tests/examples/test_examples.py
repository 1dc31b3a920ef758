"""Every example does what its first lines say."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from agent99 import Agent, Mesh, RemoteError, Settings, named
from agent99.testing import MemoryEngine
from tests._wait import PATIENCE_S

FOLDER = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """Return an example as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Give a mesh in memory."""
    settings = Settings(project=tmp_path, state_folder=tmp_path)
    async with Mesh(settings=settings, engine=MemoryEngine()) as opened:
        yield opened


def test_each_example_has_its_test() -> None:
    """A new example needs a test here."""
    here = Path(__file__).read_text()
    missing = [path.stem for path in FOLDER.glob("*.py") if f'load("{path.stem}")' not in here]
    assert missing == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_each_example_tells_how_to_run_it(path: Path) -> None:
    """The first lines have the commands."""
    module = load(path.stem)
    assert module.__doc__ is not None
    assert f"$ agent99 run examples/{path.name}" in module.__doc__
    agents = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Agent)]
    assert any(agent is not Agent for agent in agents)


async def test_greeter(mesh: Mesh) -> None:
    """It greets by name."""
    await mesh.host(load("greeter").Greeter())
    assert await mesh.request("greeter", "greet", {"name": "Ada"}) == "Hello, Ada!"


async def test_echo(mesh: Mesh) -> None:
    """It sends back what came, headers included."""
    example = load("echo")
    await mesh.host(example.EchoAgent())
    echo = await mesh.request(
        "echo", payload={"a": 1}, headers={"user_agent": "x"}, returns=example.Echo
    )
    assert (echo.payload, echo.headers["user_agent"]) == ({"a": 1}, "x")
    assert 0 < echo.remaining_s <= 5


async def test_calculator(mesh: Mesh) -> None:
    """It calculates, and refuses with a code."""
    await mesh.host(load("calculator").Calculator())
    assert await mesh.request("calculator", "add", {"numbers": [0.1] * 10}) == 1.0
    with pytest.raises(RemoteError) as caught:
        await mesh.request("calculator", "divide", {"dividend": 1, "divisor": 0})
    assert caught.value.code == "DIVISION_BY_ZERO"


@pytest.mark.parametrize(("below", "count"), [(0, 0), (1, 0), (2, 0), (3, 1), (100, 25)])
def test_calculator_counts_primes(below: int, count: int) -> None:
    """The sieve is right at its edges."""
    assert load("calculator").Calculator.primes(below) == count


async def test_weather_proxy(mesh: Mesh) -> None:
    """It asks every station, and remembers for when none is there."""
    example = load("weather_proxy")
    stations = [example.WeatherStation(), example.WeatherStation()]
    await mesh.host(example.WeatherProxy(), *stations)
    await mesh.registry.wait_until(
        lambda table: len(table.discover("weather_station")) == 2, timeout_s=5
    )
    live = await mesh.request("weather", "forecast", {"city": "Oslo"}, returns=example.Forecast)
    assert (live.stations, live.source) == (2, "live")
    for station in stations:
        await mesh.stop(station)
    later = await mesh.request("weather", "forecast", {"city": "OSLO"}, returns=example.Forecast)
    assert (later.celsius, later.source) == (live.celsius, "remembered")
    with pytest.raises(RemoteError) as caught:
        await mesh.request("weather", "forecast", {"city": "Rome"})
    assert caught.value.code == "NO_READING"


@pytest.mark.parametrize("by", ["any", "least_loaded", "hash", "sticky"])
async def test_load_balancer(mesh: Mesh, by: str) -> None:
    """Every way brings every request to a backend; sticky to one, the others to several."""
    example = load("load_balancer")
    await mesh.host(example.Balancer(), *(example.Backend() for _ in range(3)))
    await mesh.registry.wait_until(
        lambda table: len(table.discover("backend")) == 3, timeout_s=PATIENCE_S
    )
    shares = await mesh.request("balancer", "spread", {"requests": 60, "by": by}, timeout_s=20)
    assert sum(shares.values()) == 60
    assert (len(shares) == 1) == (by == "sticky")


async def test_worker_pool(mesh: Mesh) -> None:
    """More frames than the workers can hold are all rendered, by all of them."""
    example = load("worker_pool")
    await mesh.host(example.Boss(), *(example.Worker() for _ in range(3)))
    await mesh.registry.wait_until(
        lambda table: len(table.discover("worker")) == 3, timeout_s=PATIENCE_S
    )
    shares = await mesh.request("boss", "render", {"frames": 60}, timeout_s=20)
    assert sum(shares.values()) == 60
    assert len(shares) == 3


async def test_producer_consumer(mesh: Mesh) -> None:
    """What is published is heard, in order."""
    example = load("producer_consumer")
    await mesh.host(example.Thermometer(), example.Thermostat())
    assert await mesh.request("thermometer", "measure", {"count": 5}) == 5
    async with asyncio.timeout(PATIENCE_S):
        while len(await mesh.request("thermostat", "heard")) < 5:
            await asyncio.sleep(0)
    heard = await mesh.request(named("thermostat"), "heard", returns=list[example.Measured])
    assert [round(event.celsius, 1) for event in heard] == [20, 20.1, 20.2, 20.3, 20.4]


async def test_session_store(mesh: Mesh) -> None:
    """Instances share sessions: puts at once are all in the basket, and who logs out has none."""
    example = load("session_store")
    await mesh.host(example.SessionNode(), example.ShopFront(), example.ShopFront())
    await mesh.registry.wait_until(
        lambda table: len(table.discover("shop_front")) == 2, timeout_s=5
    )
    visits = [
        await mesh.request("shop_front", "visit", {"user": "ada"}, returns=example.Visit)
        for _ in range(2)
    ]
    assert [1, 2] == [visit.visits for visit in visits]
    token = visits[0].token
    puts = [{"token": token, "item": f"item-{number}"} for number in range(5)]
    baskets = await asyncio.gather(
        *(mesh.request("shop_front", "put", put, returns=list[str]) for put in puts)
    )
    assert {put["item"] for put in puts} == set(max(baskets, key=len))
    assert 2 == await mesh.request("shop_front", "log_out", {"user": "ada"})
    with pytest.raises(RemoteError) as caught:
        await mesh.request("shop_front", "put", puts[0])
    assert caught.value.code == "NO_SESSION"
