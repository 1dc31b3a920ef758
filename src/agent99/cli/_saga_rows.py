"""Sagas, each on one line of a table, or as one short object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agent99.cli._show import count, duration, moment, print_table, short, shortened
from agent99.clock import SystemClock

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.saga import SagaEvent, SagaView, StepView

ERROR_CHARACTERS = 60
_COLUMNS = ("saga", "agent", "operation", "state", "step", "owner", "age", "error")

OwnerState = Literal["there", "suspect", "gone"]
"""`suspect`: its process gives no sign of life; `gone`: nobody of that id is listed."""

AgentOption = Annotated[
    str, typer.Option("--agent", metavar="NAME", help="Of the agent of this name alone.")
]


def parse_agent(word: str) -> str:
    """Return the agent's name that is meant, or `*` for all.

    Raises:
        InvalidNameError: it can be no agent's.
    """
    from agent99.envelope import parse_name

    return parse_name("agent", word) if word else "*"


class Scene:
    """What sagas are seen against: the time, and who is there."""

    def __init__(self, mesh: Mesh) -> None:
        is_suspect = mesh.registry.table.is_suspect
        self.now_us = SystemClock().wall_us()
        self._doubtful = {peer.instance: is_suspect(peer.instance) for peer in mesh.peers()}
        self.names = frozenset(
            peer.name for peer in mesh.peers() if not self._doubtful.get(peer.instance, True)
        )
        """Of the agents that are there, without a doubt."""

    def __repr__(self) -> str:
        return f"Scene(instances={len(self._doubtful)})"

    def age(self, since_us: int) -> str:
        """Return how long ago something was, for people."""
        return duration((self.now_us - since_us) / 1e6)

    def owner_state(self, view: SagaView) -> OwnerState:
        """Return whether the owner of a saga is there."""
        is_doubtful = self._doubtful.get(view.history.owner)
        if is_doubtful is None:
            return "gone"
        return "suspect" if is_doubtful else "there"

    def missing(self, view: SagaView) -> str:
        """Return what is to be said of the owner of a saga that is not at rest; empty: nothing."""
        state = self.owner_state(view)
        return "" if view.is_settled or state == "there" else state


def print_sagas(views: Iterable[SagaView], scene: Scene) -> None:
    """Draw a table of sagas."""
    print_table(_COLUMNS, [_row(view, scene) for view in views])


def _row(view: SagaView, scene: Scene) -> tuple[str, ...]:
    started = view.history.started
    owner, missing = view.history.owner, scene.missing(view)
    return (
        view.saga_id,
        view.agent,
        started.operation if started is not None else "?",
        state_text(view, scene),
        ", ".join(view.at(scene.now_us)) or "-",
        f"{short(owner) or '?'} {missing}".rstrip(),
        scene.age(started.at_us) if started is not None else "?",
        error_line(view, scene),
    )


def state_text(view: SagaView, scene: Scene) -> str:
    """Return where a saga stands, for people."""
    text: str = view.standing(scene.now_us)
    waits = view.waits(scene.now_us)
    if waits and text == "waiting":
        text = f"waiting until {moment(min(waits.values()))}"
    return f"{text}, cancel asked" if view.history.is_cancelled else text


def where_text(view: SagaView, scene: Scene) -> str:
    """Return where a saga stands, and at which step, for people."""
    at = ", ".join(view.at(scene.now_us))
    return f"{state_text(view, scene)}{f', at {at}' if at else ''}"


def error_line(view: SagaView, scene: Scene, *, characters_max: int = ERROR_CHARACTERS) -> str:
    """Return the last error of a saga, shortened; empty: there is none."""
    if view.unreadable:
        return view.unreadable
    text = error_text(view, characters_max=characters_max)
    if view.history.state == "undoing":
        for step in view.steps(scene.now_us):
            if step.state == "undo fails":
                return f"undo of {step.name} failed {times(step)}: {text}"
    return text


def times(step: StepView) -> str:
    """Return how often the undo of a step failed; only each doubling is written down."""
    more = " or more" if step.undo_attempts > 2 else ""
    return f"{count(step.undo_attempts, 'time')}{more}"


def error_text(
    of: SagaView | StepView | SagaEvent, *, characters_max: int = ERROR_CHARACTERS
) -> str:
    """Return an error for people: what it says, shortened, and its code."""
    error = of.error
    return "" if error is None else f"{shortened(error.message, characters_max)} ({error.code})"


def error_object(of: SagaView | StepView | SagaEvent) -> dict[str, Any] | None:
    """Return an error as JSON, whole."""
    error = of.error
    if error is None:
        return None
    return {field: getattr(error, field) for field in ("code", "message", "details", "retryable")}


def summary(view: SagaView, scene: Scene) -> dict[str, Any]:
    """Return a saga as JSON, without its request and its steps."""
    history, started = view.history, view.history.started
    return {
        "saga_id": view.saga_id,
        "agent": view.agent,
        "operation": started.operation if started is not None else None,
        "version": started.version if started is not None else None,
        "key": (started.key or None) if started is not None else None,
        "state": view.standing(scene.now_us),
        "at": view.at(scene.now_us),
        "waits": view.waits(scene.now_us),
        "cancel_asked": history.is_cancelled,
        "owner": history.owner or None,
        "owner_state": scene.owner_state(view),
        "started_us": started.at_us if started is not None else None,
        "last_us": history.last_us,
        "error": error_object(view),
        "unreadable": view.unreadable or None,
    }
