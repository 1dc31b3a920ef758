"""One saga, all of it: as text, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent99.cli._saga_rows import (
    Scene,
    error_line,
    error_object,
    error_text,
    summary,
    times,
    where_text,
)
from agent99.cli._show import (
    compact,
    duration,
    moment,
    pretty,
    print_table,
    short,
    shortened,
    tell,
)

if TYPE_CHECKING:
    from agent99.saga import SagaEvent, SagaView, StepView

RESULT_CHARACTERS = 60
"""Of what a step returned; --json has it whole."""
ERROR_CHARACTERS = 1_000
"""Of the error at the top."""
_COLUMNS = ("step", "state", "result or error", "begun", "took", "undone")


def one_document(view: SagaView, scene: Scene) -> dict[str, Any]:
    """Return all of a saga as JSON."""
    started = view.history.started
    return {
        **summary(view, scene),
        "sender": started.sender if started is not None else None,
        "event_id": started.event_id if started is not None else None,
        "trace_id": _trace_id(view),
        "request": started.request if started is not None else None,
        "steps": [_step_document(step) for step in view.steps(scene.now_us)],
        "events": [_event_document(event) for event in view.events()],
        "answer": view.answer,
    }


def _step_document(step: StepView) -> dict[str, Any]:
    return {**msgspec.structs.asdict(step), "error": error_object(step)}


def _event_document(event: SagaEvent) -> dict[str, Any]:
    return {**msgspec.structs.asdict(event), "error": error_object(event)}


def _trace_id(view: SagaView) -> str | None:
    from agent99.observe import trace_id_of

    started = view.history.started
    return trace_id_of(started.event_id, started.traceparent) if started is not None else None


def print_one(view: SagaView, scene: Scene) -> None:
    """Print all of a saga for people; results and errors are shortened."""
    for line in _head(view, scene):
        tell(line)
    steps = view.steps(scene.now_us)
    tell("")
    if steps:
        print_table(_COLUMNS, [_step_row(step, view, scene) for step in steps])
    else:
        tell("no step was begun")
    tell("")
    for event in view.events():
        tell(_event_line(event))
    started, answer = view.history.started, view.answer
    for title, document in (("request", started and started.request), ("answer", answer)):
        if document is not None:
            tell(f"\nthe {title}:\n{pretty(document)}")
    if view.history.stuck is not None:
        tell(f"\nmend what is in its way, then: agent99 saga retry {view.saga_id}")


def _head(view: SagaView, scene: Scene) -> list[str]:
    history, started = view.history, view.history.started
    operation = f" {started.operation}" if started is not None else ""
    missing = scene.missing(view)
    note = f", {missing}: another instance of the agent goes on, once there is one"
    lines = [
        f"{view.agent}{operation}: saga {view.saga_id}",
        f"state     {where_text(view, scene)}",
    ]
    error = error_line(view, scene, characters_max=ERROR_CHARACTERS)
    lines += [f"error     {error}"] if error else []
    lines.append(f"owner     {history.owner or 'unknown'}{note if missing else ''}")
    if started is None:
        return [*lines, "its beginning is deleted: it ended more than seven days ago"]
    return [
        *lines,
        f"started   {moment(started.at_us)}, {scene.age(started.at_us)} ago",
        f"version   {started.version}",
        f"key       {started.key or 'none'}",
        f"asked by  {started.sender or 'unknown'}",
        f"event     {started.event_id}",
        f"trace     {_trace_id(view)}",
    ]


def _step_row(step: StepView, view: SagaView, scene: Scene) -> tuple[str, ...]:
    is_pivot = " (pivot)" if step.kind == "pivot" else ""
    state: str = step.state
    if step.state == "undo fails":
        state = f"{state} ({times(step)})"
    undone = moment(step.undone_us) if step.undone_us else ""
    return (
        f"{step.name}{is_pivot}",
        state,
        _outcome(step),
        moment(step.begun_us),
        _took(step, view, scene),
        undone,
    )


def _outcome(step: StepView) -> str:
    if step.until_us is not None:
        return f"until {moment(step.until_us)}"
    if step.error is not None:
        return error_text(step)
    return shortened(compact(step.result), RESULT_CHARACTERS) if step.result is not None else ""


def _took(step: StepView, view: SagaView, scene: Scene) -> str:
    """Return how long a step took, or takes so far."""
    if step.kind in ("wait", "time"):
        return ""
    if step.ended_us is None:
        is_tried = view.history.state == "running"
        return f"{scene.age(step.begun_us)} so far" if is_tried else ""
    took_us = max(0, step.ended_us - step.begun_us)
    return f"{took_us // 1_000} ms" if took_us < 1_000_000 else duration(took_us / 1e6)


def _event_line(event: SagaEvent) -> str:
    words: str = event.what
    if event.what in ("begun", "taken over"):
        words = f"{words} by {short(event.owner)}"
    if event.step:
        words = f"{words} at {event.step}"
    error = f": {error_text(event)}" if event.error is not None else ""
    return f"{moment(event.at_us)}  {words}{error}"
