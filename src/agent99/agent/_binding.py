"""How a room above this one gives a kind of method its life, without this room knowing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from agent99.agent._link import Link
    from agent99.agent._log import AgentLog
    from agent99.agent._signature import Signature
    from agent99.dispatch import Handler
    from agent99.envelope import Name


class Duty(Protocol):
    """What an instance does besides answering; it begins, pauses and ends with the instance."""

    def start(self) -> None:
        """Take things in hand from now on, or again. Idempotent."""
        ...

    async def leave(self) -> None:
        """Take nothing new in hand; what is, goes on. Idempotent."""
        ...

    async def stop(self, timeout_s: float) -> bool:
        """Let what is in hand end; returns False when it did not in time, and goes on elsewhere."""
        ...


DutyT = TypeVar("DutyT", bound=Duty)


class Host:
    """One instance, as its bindings see it.

    Args:
        agent: The user's object.
        name: The agent's name.
        instance: The instance's id.
    """

    def __init__(self, agent: Any, name: Name, instance: str, link: Link, log: AgentLog) -> None:
        self.agent = agent
        self.name = name
        self.instance = instance
        self.link = link
        self.log = log
        self._duties: dict[Callable[[Host], Duty], Duty] = {}

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {self.instance!r})"

    @property
    def duties(self) -> tuple[Duty, ...]:
        """What its bindings have made."""
        return tuple(self._duties.values())

    def duty(self, make: Callable[[Host], DutyT]) -> DutyT:
        """Return the one duty of its kind that this instance has; it is made when first needed."""
        known = self._duties.get(make)
        if known is None:
            known = self._duties[make] = make(self)
        return cast("DutyT", known)


class Binding(Protocol):
    """What a decorator of another room notes on a method: how requests for it are served."""

    @property
    def given(self) -> frozenset[str]:
        """The method's parameters that are no part of the payload: the binding fills them in."""
        ...

    def bind(self, host: Host, operation: Name, attribute: str, signature: Signature) -> Handler:
        """Return the handler of a method's requests, at one instance.

        Args:
            attribute: The method's name in its class.
        """
        ...
