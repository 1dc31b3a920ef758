"""An instance's life as one table. Every change of state is a look-up here."""

from __future__ import annotations

import enum
from collections.abc import Callable

from agent99.errors import UsageError


class State(enum.Enum):
    """Where an instance stands."""

    CREATED = "created"
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPED = "stopped"


class LifecycleEvent(enum.Enum):
    """What may happen to an instance."""

    START = "start"
    STARTED = "started"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    STOPPED = "stopped"


_S, _E = State, LifecycleEvent

TRANSITIONS: dict[State, dict[LifecycleEvent, State]] = {
    _S.CREATED: {_E.START: _S.STARTING},
    _S.STARTING: {_E.STARTED: _S.READY, _E.STOP: _S.DRAINING, _E.STOPPED: _S.STOPPED},
    _S.READY: {_E.PAUSE: _S.PAUSED, _E.RESUME: _S.READY, _E.STOP: _S.DRAINING},
    _S.PAUSED: {_E.PAUSE: _S.PAUSED, _E.RESUME: _S.READY, _E.STOP: _S.DRAINING},
    _S.DRAINING: {_E.STOP: _S.DRAINING, _E.STOPPED: _S.STOPPED},
    _S.STOPPED: {_E.STOP: _S.STOPPED, _E.STOPPED: _S.STOPPED},
}
"""Pausing and resuming are idempotent, and so is stopping; nothing leaves `STOPPED`."""


class Lifecycle:
    """The state of one instance, and who wants to know of its changes.

    Invariant: `state` changes only along `TRANSITIONS`.
    """

    def __init__(self) -> None:
        self._state = State.CREATED
        self._listeners: list[Callable[[State], None]] = []

    def __repr__(self) -> str:
        return f"Lifecycle({self._state.value})"

    @property
    def state(self) -> State:
        """Where the instance stands."""
        return self._state

    def on_change(self, listen: Callable[[State], None]) -> None:
        """Call `listen` after each change of state."""
        self._listeners.append(listen)

    def fire(self, event: LifecycleEvent) -> bool:
        """Let `event` happen; returns whether the state changed.

        Raises:
            UsageError: it cannot happen in this state.
        """
        target = TRANSITIONS[self._state].get(event)
        if target is None:
            raise UsageError(f"an instance that is {self._state.value} cannot {event.value}")
        if target is self._state:
            return False
        self._state = target
        for listen in self._listeners:
            listen(target)
        return True
