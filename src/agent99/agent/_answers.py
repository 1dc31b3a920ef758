"""What came back of a request."""

from __future__ import annotations

from asyncio import Future
from typing import Any

from agent99.agent._ask import Ask
from agent99.agent._link import Link
from agent99.dispatch import Call
from agent99.envelope import AnswerCodec, decode_error, peek_header, split_message
from agent99.errors import (
    DID_NOT_RUN,
    BadAnswerError,
    BadRequestError,
    DeadlineExceededError,
    NoRespondersError,
    RequestError,
    UsageError,
)
from agent99.wire import Message

KEY_CHARACTERS_MAX = 256
SUSPECT_S = 10.0
"""How long an instance that did not answer is avoided."""


def checked_key(idempotency_key: str | None) -> str | None:
    """Return a key as it travels.

    Raises:
        UsageError: it is empty or too long.
    """
    if idempotency_key is not None and not 0 < len(idempotency_key) <= KEY_CHARACTERS_MAX:
        raise UsageError(f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters")
    return idempotency_key


def outcome_of(error: NoRespondersError | RequestError, ask: Ask, link: Link) -> RequestError:
    """Return what the caller is told of an attempt that failed."""
    destination = ask.destination
    if isinstance(error, NoRespondersError):
        return link.explain(destination)
    if not isinstance(error, DeadlineExceededError):
        return error
    if destination.instance:
        link.registry.suspect(destination.instance, SUSPECT_S)
    return DeadlineExceededError(
        f"no answer to {destination.text!r} within {ask.deadline_s - ask.sent_s:.3g} s;"
        " whether it ran, in part or whole, is unknown",
        details={"target": destination.target, "operation": destination.operation},
    )


def of_event(error: RequestError, ask: Ask) -> RequestError:
    """Return an error that names its request, as the agent's log does."""
    error.event_id = ask.event_id
    attempts = f", after {ask.attempt} attempts" if ask.attempt > 1 else ""
    error.add_note(f"event {ask.event_id}{attempts}")
    return error


def pass_on(future: Future[Message], second: Future[Message]) -> None:
    """Give the first attempt the answer to the second; a refusal says no more than its silence.

    The first may run meanwhile: that nothing ran is then not known.
    """
    if second.cancelled() or second.exception() is not None or future.done():
        return
    answer = second.result()
    header = peek_header(answer.payload)
    is_error = header is not None and header.outcome == "error"
    if not is_error or decode_error(answer.payload).code not in DID_NOT_RUN:
        future.set_result(answer)


def local_result(call: Call, codec: AnswerCodec[Any]) -> Any:
    """Return the result of a call in this process.

    Raises:
        RequestError: it ended with one.
    """
    if call.outcome == "error":
        raise decode_error(call.answer)
    return codec.decode_body(call.outcome, call.answer)


def read_answer(data: bytes, ask: Ask) -> Any:
    """Return the result that an answer holds.

    Raises:
        BadAnswerError: it cannot be read, or answers something else.
        RequestError: it is an error.
    """
    try:
        header, body = split_message(data)
    except BadRequestError as error:
        raise BadAnswerError(
            f"the answer cannot be read: {error.message}", details=error.details
        ) from error
    if header.type != "response" or header.event_uuid != ask.event_id:
        raise BadAnswerError("what came back is no answer to this request")
    if header.outcome == "error":
        ask.refused_by = header.from_uuid
        raise decode_error(data)
    return ask.codec.decode_body(header.outcome, body)
