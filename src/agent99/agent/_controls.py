"""The control actions that every agent has: `status`, `pause`, `shutdown` and so on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent99.agent._blueprint import Blueprint
from agent99.agent._traced import newest
from agent99.dispatch import Context, Dispatcher, Route, State, Statistics
from agent99.envelope import AnswerCodec, BodyCodec, parse_name
from agent99.errors import BadRequestError, Failure
from agent99.observe import Ring
from agent99.registry import Description
from agent99.wire import WireStatistics

if TYPE_CHECKING:
    from agent99.agent._duties import Duties
    from agent99.work import Worker

ID_CHARACTERS_MAX = 128
"""As long as an id may be in a message's header."""
Action = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Work(msgspec.Struct, frozen=True):
    """What an instance says of the stored messages for one of its methods."""

    capability: str
    """Of a follower, the agent's name."""
    operation: str
    stream: str
    in_hand: int
    done: int
    """This and what follows: since it was hosted."""
    retried: int
    quarantined: int
    unfinished: int
    """Whose end the server could not be told: they come again."""


class Status(msgspec.Struct, frozen=True):
    """What an instance says of itself when it is asked for its status."""

    name: str
    instance: str
    state: str
    """As in the registry; `degraded` while something is missing, or full."""
    missing: tuple[str, ...]
    """What it uses and nobody offers."""
    full: tuple[str, ...]
    """The streams that refuse what its process stores."""
    uptime_s: float
    config: dict[str, Any]
    operations: Statistics
    events: Statistics
    control: Statistics
    """Of control actions and cancellations."""
    connection: WireStatistics
    """Of the process's connection, which its agents share."""
    work: tuple[Work, ...] = ()
    """Of stored messages: empty where nothing is marked with `@job` or `@follow`."""


class Controlled(Protocol):
    """A running instance, as far as controlling it needs."""

    config: Any
    instance: str
    blueprint: Blueprint
    dispatcher: Dispatcher
    events: Dispatcher
    control: Dispatcher
    duties: Duties

    def connection(self) -> WireStatistics:
        """Return the counts of the process's connection."""
        ...

    @property
    def ring(self) -> Ring | None:
        """The last requests that ended in the process; None: they are not kept."""
        ...

    @property
    def answer_bytes_max(self) -> int:
        """What an answer may be long."""
        ...

    @property
    def description(self) -> Description:
        """What it says of itself now."""
        ...

    def uptime_s(self) -> float:
        """Return the seconds since it was hosted."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether it stops, or is about to."""
        ...

    async def pause(self) -> bool:
        """Leave the queue groups; returns whether that was a change."""
        ...

    async def resume(self) -> bool:
        """Join the queue groups again; returns whether that was a change."""
        ...

    def begin_stop(self) -> object:
        """Stop in the background."""
        ...


class Controls:
    """The built-in actions of one instance, as routes."""

    def __init__(self, running: Controlled) -> None:
        self._running = running

    def __repr__(self) -> str:
        return f"Controls({self._running!r})"

    def routes(self) -> list[Route]:
        """Return one route for each action."""
        actions: dict[str, Action] = {
            "pause": self._pause,
            "resume": self._resume,
            "shutdown": self._shutdown,
            "status": self._status,
            "trace": self._trace,
            "update_config": self._update_config,
        }
        return [_route(name, action) for name, action in actions.items()]

    async def _pause(self, _payload: dict[str, Any]) -> dict[str, Any]:
        return await self._change(self._running.pause, State.PAUSED)

    async def _resume(self, _payload: dict[str, Any]) -> dict[str, Any]:
        return await self._change(self._running.resume, State.READY)

    async def _change(self, change: Callable[[], Awaitable[bool]], to: State) -> dict[str, Any]:
        if self._running.is_stopping:  # a change would wait until it has drained
            return {"state": State.DRAINING.value, "changed": False}
        return {"state": to.value, "changed": await change()}

    async def _shutdown(self, _payload: dict[str, Any]) -> dict[str, Any]:
        self._running.begin_stop()
        return {"state": State.DRAINING.value, "changed": True}

    async def _status(self, _payload: dict[str, Any]) -> dict[str, Any]:
        running = self._running
        status = Status(
            name=running.blueprint.name,
            instance=running.instance,
            state=running.description.state,
            missing=running.description.missing,
            full=running.description.full,
            uptime_s=round(running.uptime_s(), 3),
            config=msgspec.to_builtins(running.config, str_keys=True),
            operations=running.dispatcher.statistics(),
            events=running.events.statistics(),
            control=running.control.statistics(),
            connection=running.connection(),
            work=tuple(_work(worker) for worker in running.duties.workers),
        )
        built: dict[str, Any] = msgspec.to_builtins(status)
        return built

    async def _trace(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Answer with the process's records of a trace, not this instance's alone."""
        wanted = payload.get("id")
        if not isinstance(wanted, str) or not 0 < len(wanted) <= ID_CHARACTERS_MAX:
            rule = f"a trace's id, or a request's event id: text, {ID_CHARACTERS_MAX} characters"
            raise _refused("$.id", f"{rule} at most")
        ring = self._running.ring
        if ring is None:
            raise Failure(
                "this process keeps no records of requests: its setting trace_records_max is 0",
                code="NO_RECORDS",
            )
        return newest(ring.find(wanted), bytes_max=self._running.answer_bytes_max)

    async def _update_config(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Check the whole of the new settings before any of them is applied."""
        running = self._running
        config_class = running.blueprint.config_class
        known = {field.encode_name for field in msgspec.structs.fields(config_class)}
        for key in payload:
            if key not in known:
                rule = f"no such setting; there are: {', '.join(sorted(known)) or 'none'}"
                raise _refused(f"$.{key}", rule)
        merged = {**msgspec.to_builtins(running.config, str_keys=True), **payload}
        try:
            config = msgspec.convert(merged, config_class)
        except msgspec.ValidationError as error:
            rule, _, path = str(error).partition(" - at `")
            raise _refused(path.rstrip("`") or "$", rule) from error
        running.config = config
        applied: dict[str, Any] = msgspec.to_builtins(config, str_keys=True)
        return {"config": applied}


def _work(worker: Worker) -> Work:
    assignment, counts = worker.assignment, worker.statistics()
    return Work(
        capability=assignment.capability,
        operation=assignment.task.operation,
        stream=assignment.consumer.stream,
        **msgspec.structs.asdict(counts),
    )


def _refused(path: str, rule: str) -> Failure:
    details = {"path": path, "rule": rule}
    return Failure(f"{path}: {rule}", code=BadRequestError.code, details=details)


def _route(name: str, action: Action) -> Route:
    async def handle(_context: Context, payload: Any) -> dict[str, Any]:
        return await action(payload)

    of = f"control action {name}"
    return Route(
        parse_name("action", name),
        body=BodyCodec(dict[str, Any], of=of),
        answer=AnswerCodec(dict[str, Any], of=of),
        handle=handle,
    )
