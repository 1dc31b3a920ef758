"""Agents that tests host."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent99 import Agent, Failure, control, on, operation


class Item(msgspec.Struct):
    """One line."""

    sku: str
    quantity: Annotated[int, Meta(ge=1)]


class Order(msgspec.Struct):
    """What is asked for."""

    items: list[Item]


class Receipt(msgspec.Struct):
    """What is answered."""

    order_id: str
    count: int


class Greeter(Agent):
    """Greets people by name."""

    capabilities = ("greeter", "hello_world")

    @operation
    async def greet(self, name: str = "World") -> str:
        """Say hello."""
        return f"Hello, {name}!"


class Shop(Agent):
    """Takes orders.

    A second paragraph that the registry does not carry.
    """

    capabilities = ("shop",)
    metadata = {"region": "eu"}
    version = "1.2.3"

    class Config(msgspec.Struct):
        """Its settings."""

        discount: Annotated[float, Meta(ge=0, le=1)] = 0.0
        banner: str = "welcome"

    async def start(self) -> None:
        """Count what is heard."""
        self.heard: list[tuple[str, Any]] = []
        self.gate = asyncio.Event()
        self.cancelled: list[str] = []

    async def process_request(self, order: Order) -> Receipt:
        """Take an order."""
        return Receipt(self.context.event_id, sum(item.quantity for item in order.items))

    @operation(name="quote")
    async def make_quote(self, quantity: int, *, discount: float = 0.0) -> float:
        """Answer with a price."""
        return quantity * (1 - discount - self.config.discount)

    @operation
    async def refuse(self, reason: str) -> None:
        """Say no."""
        raise Failure(reason, code="SHOP_CLOSED", details={"until": 9}, retryable=True)

    @operation
    async def wait(self) -> str:
        """Wait for the gate."""
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(self.context.event_id)
            raise
        return "open"

    @operation
    async def whoami(self) -> dict[str, Any]:
        """Tell what the context says."""
        header = self.context.header
        return {
            "sender": self.context.sender,
            "agent": header.get("user_agent"),
            "id": self.instance,
        }

    @operation
    def block(self, text: str) -> dict[str, Any]:
        """Run on a thread, and ask another agent from there."""
        greeting = self.blocking.request("greeter", "greet", {"name": text}, returns=str)
        return {"greeting": greeting, "event_id": self.context.event_id}

    @operation(runs_in="process")
    @staticmethod
    def crunch(n: int) -> tuple[int, int]:
        """Work in another process."""
        return os.getpid(), sum(range(n))

    @operation(runs_in="process")
    @staticmethod
    def die() -> None:
        """End its process."""
        os._exit(3)

    @operation
    async def relay(self, timeout_s: float) -> float:
        """Tell how much time a nested request would have."""
        await self.request("greeter", "greet", timeout_s=timeout_s)
        return self.context.remaining_s()

    @on("order.*")
    async def hear(self, event: dict[str, Any]) -> None:
        """Remember."""
        self.heard.append((self.context.operation, event))

    @control
    async def open_gate(self) -> str:
        """Let those who wait go on."""
        self.gate.set()
        return "opened"

    @control
    async def nap(self) -> None:
        """Wait for the gate."""
        await self.gate.wait()


class Watcher(Agent):
    """Only calls others."""

    uses = ("greeter",)
