"""An agent whose sagas come to rest wherever a test wants them, and sagas that it has begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from agent99 import Mesh, Settings
from agent99.clock import SystemClock
from agent99.saga import Desk, SagaView
from tests.cli._cli import TIMEOUT_S, Cli
from tests.saga._journals import Hand, done, id_of, intent, stuck

TRIPS = '''
import asyncio

import msgspec

from agent99 import Agent, Failure
from agent99.saga import Saga, Step, Undo, _patrol, saga

_patrol.PING_S, _patrol.LOOK_S = 0.05, 0.1  # else tests would wait until an owner looks


class Ticket(msgspec.Struct, frozen=True):
    number: int
    to: str


class Trips(Agent):
    """Books trips."""

    capabilities = ("trips",)

    class Config(msgspec.Struct):
        mended: list[str] = []
        """Places to which everything works."""

    @saga(version=2)
    async def book(self, to: str, how: str, saga: Saga) -> str:
        flight = await saga.step("flight", self.fly, to, undo=self.cancel_flight)
        if how == "waits":
            await saga.sleep(3600)
        if how == "runs":
            await saga.step("room", self.stay)
        if how == "doubts":
            await saga.step("room", self.stay, timeout_s=0.01)
        if how == "undoes":
            raise Failure("no room", code="NO_ROOM")
        if how == "sticks":
            await saga.pivot("payment", self.pay, flight)
            await saga.step("print", self.print_out, to)
        return f"to {to}"

    async def fly(self, step: Step, to: str) -> Ticket:
        return Ticket(1, to)

    async def stay(self, step: Step) -> None:
        await asyncio.Event().wait()

    async def pay(self, step: Step, flight: Ticket) -> int:
        return 17

    async def print_out(self, step: Step, to: str) -> None:
        if to not in self.config.mended:
            raise Failure("no paper", code="NO_PAPER")

    async def cancel_flight(self, undo: Undo[Ticket], to: str) -> None:
        if to == "Rome":
            raise ConnectionError("the airline is closed")
'''


class Rest(NamedTuple):
    """A request for a saga, and where that comes to rest; to Rome nothing can be undone."""

    to: str
    how: str
    state: str
    at: tuple[str, ...] = ()
    code: str | None = None


BEGUN = {
    "waits": Rest("Rome", "waits", "waiting", ("sleep",)),
    "runs": Rest("Rome", "runs", "running", ("room",)),
    "doubts": Rest("Rome", "doubts", "running", ("room",), "HANDLER_ERROR"),
    "undoes": Rest("Rome", "undoes", "undoing", ("flight",), "HANDLER_ERROR"),
    "sticks": Rest("Rome", "sticks", "stuck", ("print",), "NO_PAPER"),
    "done": Rest("Rome", "", "done"),
    "failed": Rest("Oslo", "undoes", "failed", (), "NO_ROOM"),
    "is to be cancelled": Rest("Oslo", "waits", "waiting", ("sleep",)),
    "is to be mended": Rest("Oslo", "sticks", "stuck", ("print",), "NO_PAPER"),
}
"""By what they are for, which is their key too."""


async def begin(cli: Cli, wanted: Mapping[str, Rest]) -> dict[str, str]:
    """Begin sagas; returns their ids when all have come to rest."""
    async with mesh_of(cli) as mesh:
        desk, clock = Desk(mesh), SystemClock()
        how: dict[str, Any] = {"timeout_s": 0.2}
        calls = [
            mesh.request(
                "trips", "book", {"to": each.to, "how": each.how}, **how, idempotency_key=key
            )
            for key, each in wanted.items()
        ]
        await asyncio.gather(*calls, return_exceptions=True)
        until_s = time.monotonic() + TIMEOUT_S
        while True:
            views = (await desk.last_sagas("trips")).sagas
            found = {view.history.started.key: view for view in views if view.history.started}
            now_us = clock.wall_us()
            rests = {key: _rest(found[key], wanted[key], now_us) for key in found}
            if rests == wanted:
                return {key: view.saga_id for key, view in found.items()}
            assert time.monotonic() < until_s, rests


def _rest(view: SagaView, asked: Rest, now_us: int) -> Rest:
    code = view.error.code if view.error is not None else None
    return Rest(asked.to, asked.how, view.standing(now_us), view.at(now_us), code)


async def write_others(cli: Cli) -> dict[str, str]:
    """Write journals of sagas that nobody runs; returns their ids."""
    async with mesh_of(cli) as mesh:
        hand = Hand(mesh)
        one, other = _twins()
        stuck_one = (intent("flight"), stuck("flight"))
        return {
            "nobody's": await hand.open(1, intent("flight"), agent="ghosts"),
            "unreadable": await hand.open(2, intent("flight"), b"no record", agent="ghosts"),
            "of spirits": await hand.open(3, *stuck_one, agent="spirits"),
            "of shades": await hand.open(4, *stuck_one, agent="shades"),
            "twin": await hand.open(one, agent="twins"),
            "other twin": await hand.open(other, agent="twins"),
            "of long ago": await hand.write(5, done(), agent="ghosts"),
        }


def mesh_of(cli: Cli) -> Mesh:
    """Return the mesh of a project, not yet entered."""
    return Mesh(settings=Settings(project=cli.folder, state_folder=cli.folder / "state"))


def _twins() -> tuple[int, int]:
    """Return two sagas whose ids begin with the same four characters."""
    seen: dict[str, int] = {}
    for number in range(1_000):
        first = seen.setdefault(id_of(number)[:4], number)
        if first != number:
            return first, number
    raise AssertionError("the birthday paradox is off today")
