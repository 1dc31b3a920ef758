"""Asking many at once: surveys, and control actions answered per instance."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from agent99.agent._ask import deadline_of
from agent99.agent._targets import Named, Peer, Target
from agent99.dispatch import DEFAULT_OPERATION, find_context
from agent99.envelope import (
    ALL,
    Header,
    Name,
    decode_error,
    encode_body,
    encode_message,
    parse_name,
    split_message,
)
from agent99.errors import (
    Agent99Error,
    BadAnswerError,
    BadRequestError,
    ClosedError,
    InvalidNameError,
    RequestError,
    UsageError,
)
from agent99.wire import is_no_responders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent99.agent._caller import Caller
    from agent99.agent._link import Link
    from agent99.envelope import AnswerCodec
    from agent99.registry import Description
    from agent99.wire import Message

INSTANCES_MAX = 10_000
"""Instances that one survey or control action reaches."""


class Answer(msgspec.Struct, frozen=True):
    """What one instance said."""

    instance: str
    name: str
    """The agent's name; empty where this process does not know the instance."""
    result: Any = None
    error: RequestError | None = None
    """Set when the instance answered no, or something that cannot be read."""

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.error is None


class Survey(msgspec.Struct, frozen=True):
    """Everything that came back by the deadline, and who did not answer."""

    answers: tuple[Answer, ...]
    """In order of arrival; refusals included."""
    silent: tuple[str, ...]
    """The instances that were asked and did not answer, or were not there any more."""

    @property
    def results(self) -> list[Any]:
        """The results alone, in order of arrival."""
        return [answer.result for answer in self.answers if answer.ok]

    @property
    def asked(self) -> int:
        """How many were asked, or answered."""
        return len(self.answers) + len(self.silent)

    def __str__(self) -> str:
        done = sum(answer.ok for answer in self.answers)
        return f"{done} of {self.asked} answered"


async def survey(
    caller: Caller,
    link: Link,
    capability: str,
    operation: str = DEFAULT_OPERATION,
    payload: Any = None,
    *,
    returns: Any = Any,
    timeout_s: float = 5.0,
    wanted: int | None = None,
) -> Survey:
    """Ask every instance that the table knows; see `Mesh.survey`."""
    if wanted is not None and wanted < 1:
        raise UsageError(f"wanted is a number above 0, or None for all, not {wanted!r}")
    caller.body(payload)
    link.answer_codec(returns)
    now_s = link.clock.monotonic_s()
    deadline_of(now_s, timeout_s, find_context(), link.destination(capability, operation))
    peers = caller.discover((capability,))[:INSTANCES_MAX]

    async def ask(peer: Peer) -> Answer | str:
        try:
            result = await caller.request(
                peer, operation, payload, returns=returns, timeout_s=timeout_s
            )
        except RequestError as error:
            if error.code in ("DEADLINE_EXCEEDED", "NO_AGENT"):
                return peer.instance
            return Answer(peer.instance, peer.name, error=error)
        except InvalidNameError:  # its record's, not the caller's: those were checked above
            return peer.instance
        except (UsageError, ClosedError):
            raise
        except Agent99Error:
            return peer.instance
        return Answer(peer.instance, peer.name, result)

    tasks = [asyncio.ensure_future(ask(peer)) for peer in peers]
    try:
        return await _collect(tasks, peers, wanted)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _collect(
    tasks: Sequence[asyncio.Future[Answer | str]], peers: list[Peer], wanted: int | None
) -> Survey:
    answers: list[Answer] = []
    heard: set[str] = set()
    for finished in asyncio.as_completed(tasks):
        outcome = await finished
        if isinstance(outcome, Answer):
            answers.append(outcome)
            heard.add(outcome.instance)
            if wanted is not None and sum(answer.ok for answer in answers) >= wanted:
                break
    silent = tuple(peer.instance for peer in peers if peer.instance not in heard)
    return Survey(tuple(answers), silent)


async def control(
    caller: Caller,
    link: Link,
    target: Target | None,
    action: str,
    payload: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 5.0,
) -> Survey:
    """Send a control action, and gather the answers; see `Mesh.control`."""
    verb = parse_name("action", action)
    agent, instance, expected = _addressed(link, target)
    body = encode_body(payload)
    now_s = link.clock.monotonic_s()
    deadline_s = deadline_of(now_s, timeout_s, find_context())
    gathering = _Gathering(expected, link.answer_codec(Any))
    header = Header(
        type="control",
        from_uuid=caller.from_uuid,
        to_uuid=instance if instance != ALL else agent,
        event_uuid=link.ids.uuid(),
        timestamp=link.clock.wall_us(),
        operation=verb,
        ttl_us=int((deadline_s - now_s) * 1e6),
    )
    with link.ended_by_close(gathering.close):
        inbox = link.wire.open_inbox(gathering.receive)
        ticket = link.deadlines.add(deadline_s, gathering.finish)
        try:
            subject = link.subjects.control(agent, instance, verb)
            data = encode_message(header, body)
            link.wire.publish(subject, data, reply=inbox, deadline_s=deadline_s)
            await gathering.done
        finally:
            link.deadlines.remove(ticket)
            link.wire.close_inbox(inbox)
    return gathering.survey()


def _addressed(link: Link, target: Target | None) -> tuple[Name, Name, dict[str, Description]]:
    table = link.registry.table
    if target is None:
        found = table.everybody()
        return ALL, ALL, {description.instance: description for description in found}
    if isinstance(target, Peer):
        name = parse_name("agent name", target.name)
        instance = parse_name("instance", target.instance)
        return name, instance, {instance: target.description}
    if isinstance(target, Named):
        # In whatever state: those that are paused hear it too, and are the ones to resume.
        found = tuple(d for d in table.everybody() if d.name == target.name)
        return target.name, ALL, {description.instance: description for description in found}
    raise UsageError(
        "a control action goes to named('…'), to a peer from discover, or to None for all;"
        f" not to {target!r}"
    )


class _Gathering:
    """The answers to one broadcast.

    Invariant: `done` is set once, when all that were expected have answered, the time is up or the
    mesh closes.
    """

    def __init__(self, expected: dict[str, Description], codec: AnswerCodec[Any]) -> None:
        self._codec = codec
        self._expected = expected
        self._answers: dict[str, Answer] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(self, message: Message) -> None:
        if is_no_responders(message):
            self.finish()
            return
        try:
            header, body = split_message(message.payload)
        except BadRequestError:
            return  # nobody's answer: whoever sent it stays among the silent
        if header.type != "response" or len(self._answers) >= INSTANCES_MAX:
            return
        known = self._expected.get(header.from_uuid)
        name = known.name if known is not None else ""
        self._answers[header.from_uuid] = self._read(header, message.payload, body, name)
        if self._expected.keys() <= self._answers.keys():
            self.finish()

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        if not self.done.done():
            self.done.set_exception(ClosedError("mesh"))

    def survey(self) -> Survey:
        silent = tuple(i for i in self._expected if i not in self._answers)
        return Survey(tuple(self._answers.values()), silent)

    def _read(self, header: Header, data: bytes, body: bytes, name: str) -> Answer:
        if header.outcome == "error":
            return Answer(header.from_uuid, name, error=decode_error(data))
        try:
            return Answer(header.from_uuid, name, self._codec.decode_body(header.outcome, body))
        except BadAnswerError as error:
            return Answer(header.from_uuid, name, error=error)
