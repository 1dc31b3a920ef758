"""Agents that the tests run."""

from __future__ import annotations

CREW = '''
import asyncio
import time

import msgspec

from agent99 import Agent, Failure, control, operation


class Greeter(Agent):
    """Greets people by name.

    And has more to say.
    """

    capabilities = ("greeter", "hello_world")
    metadata = {"region": "eu"}

    class Config(msgspec.Struct):
        greeting: str = "Hello"

    @operation(idempotent=True)
    async def greet(self, name: str = "World") -> str:
        """Say hello."""
        return f"{self.config.greeting}, {name}!"

    @operation
    async def wait(self, seconds: float) -> str:
        print("waiting", flush=True)
        await asyncio.sleep(seconds)
        return "waited"

    @operation
    async def refuse(self) -> None:
        raise Failure("not today", code="NOT_TODAY", details={"day": "Monday"})

    @operation
    async def breaks(self) -> None:
        raise ValueError("oh")

    @operation
    def freeze(self, seconds: float) -> str:
        print("frozen", flush=True)
        time.sleep(seconds)
        return "thawed"

    @operation(runs_in="process")
    @staticmethod
    def crunch(n: int) -> int:
        return sum(range(n))

    @control
    async def wave(self, hand: str = "left") -> str:
        return f"waves the {hand} hand"


class Echo(Agent):
    """Says what it hears."""

    capabilities = ("echo",)
    uses = ("missing_thing",)
    version = "2.1.0"

    async def process_request(self, payload: dict) -> dict:
        return payload


class Base(Agent):
    """No agent: only a base."""

    @operation
    async def shared(self) -> None:
        return None
'''

SLOW_START = """
import asyncio

from agent99 import Agent, operation


class Sleeper(Agent):
    capabilities = ("sleeper",)

    async def start(self) -> None:
        print("starting", flush=True)
        await asyncio.sleep(60)

    @operation
    async def sleep(self) -> None:
        return None
"""

DIES_AT_START = """
import os

from agent99 import Agent, operation


class Mayfly(Agent):
    capabilities = ("mayfly",)

    async def start(self) -> None:
        print("hatched", flush=True)
        os._exit(7)

    @operation
    async def work(self) -> None:
        return None
"""

NO_START = """
from agent99 import Agent, operation


class Broken(Agent):
    capabilities = ("broken",)

    async def start(self) -> None:
        raise RuntimeError("no database")

    @operation
    async def work(self) -> None:
        return None
"""

CHAIN = """
from agent99 import Agent, Failure, on, operation


class Front(Agent):
    capabilities = ("front",)

    @operation
    async def order(self, sku: str) -> str:
        found = await self.request("back", "pack", {"sku": sku})
        await self.publish("order.packed", {"sku": sku})
        return found


class Back(Agent):
    capabilities = ("back",)

    @operation
    async def pack(self, sku: str) -> str:
        if sku == "none":
            raise Failure("sold out", code="SOLD_OUT")
        return f"packed {sku}"


class Bell(Agent):
    @on("order.packed")
    async def ring(self, event: dict) -> None:
        print("ding", flush=True)
"""
