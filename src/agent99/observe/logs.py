"""Structured logs: what the mesh does as lines of `logging`, without secrets.

    from agent99.observe.logs import log_records, set_up_logging

`set_up_logging` decides how lines look; `log_records` writes one for each record.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from agent99.errors import UsageError, text_of
from agent99.observe._hooks import Hooks
from agent99.observe._records import (
    OK,
    MessageDropped,
    RequestFinished,
    RequestReceived,
    RequestRetried,
    RequestSent,
    trace_id_of,
)
from agent99.observe._trace import digits_of
from agent99.observe.redact import redact, redact_text

Form = Literal["console", "json"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every log record has; all others were given as `extra`."""
_encode = msgspec.json.Encoder(enc_hook=text_of).encode


class JsonFormatter(logging.Formatter):
    """Writes a log record as one JSON object on one line, without secrets.

    It has `time` (ISO 8601, UTC), `level`, `logger`, `message`, then everything given as `extra`
    that is not empty (`agent`, `instance`, `event_id`, `trace_id`, …), and `exception`.
    """

    def __repr__(self) -> str:
        return "JsonFormatter()"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": _time_of(record).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **_extra(record),
        }
        trace = _traceback(self, record)
        if trace:
            fields["exception"] = trace
        try:
            return _encode(fields).decode()
        except (ValueError, OverflowError, msgspec.MsgspecError):  # a number that JSON has not
            return _encode({name: text_of(value) for name, value in fields.items()}).decode()


class ConsoleFormatter(logging.Formatter):
    """Writes a log record as a line for people, without secrets.

    An instance is shortened; a trace's id that is that of the request itself is left out.
    """

    def __repr__(self) -> str:
        return "ConsoleFormatter()"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        moment = _time_of(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = _extra(record)
        if "instance" in fields:
            fields["instance"] = _plain(fields["instance"])[:8]
        event_id, trace_id = fields.get("event_id"), fields.get("trace_id")
        if event_id and trace_id == digits_of(_plain(event_id)):
            del fields["trace_id"]
        about = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        line = f"{moment} {record.levelname:<7} {_message(record)}{f'  {about}' if about else ''}"
        trace = _traceback(self, record)
        return f"{line}\n{trace}" if trace else line


def set_up_logging(
    form: Form = "console",
    *,
    level: int | str = logging.INFO,
    stream: TextIO | None = None,
    logger: str = "agent99",
) -> Callable[[], None]:
    """Write a logger's lines, and those beneath it, to a stream; returns what undoes it.

    Args:
        form: `console` for people, `json` for machines.
        level: What is less important is not written.
        stream: Standard error by default.
        logger: Its name; an empty one means everything that the process logs.

    Raises:
        UsageError: an unknown form or level.
    """
    forms: dict[str, type[logging.Formatter]] = {"console": ConsoleFormatter, "json": JsonFormatter}
    if form not in forms:
        raise UsageError(f"the form of a log is 'console' or 'json', not {form!r}")
    target = logging.getLogger(logger)
    before = target.level, target.propagate
    try:
        target.setLevel(level)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{level!r} is no level of logging") from error
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(forms[form]())
    target.addHandler(handler)
    target.propagate = False

    def undo() -> None:
        if handler in target.handlers:
            target.removeHandler(handler)
            target.setLevel(before[0])
            target.propagate = before[1]

    return undo


def log_records(hooks: Hooks, logger: str = "agent99.mesh") -> Callable[[], None]:
    """Log what becomes of requests and messages; returns what ends that.

    Sent and received requests, and those that went well, at DEBUG; retries at INFO; failed requests
    and drops at WARNING. Ejections, lost connections, broken operations and blocked loops are
    logged in any case.
    """
    log = logging.getLogger(logger)
    lines = _Lines(log)
    ends = [
        hooks.listen(RequestSent, lines.sent),
        hooks.listen(RequestReceived, lines.received),
        hooks.listen(RequestFinished, lines.finished),
        hooks.listen(MessageDropped, lines.dropped),
        hooks.listen(RequestRetried, lines.retried),
    ]

    def forget() -> None:
        for end in ends:
            end()

    return forget


class _Lines:
    """One line for each kind of record."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def __repr__(self) -> str:
        return f"_Lines({self._log.name!r})"

    def sent(self, record: RequestSent) -> None:
        if self._log.isEnabledFor(logging.DEBUG):
            text = "asks %s %s"
            args = (record.target, record.operation)
            self._log.debug(text, *args, extra=_about(record))

    def received(self, record: RequestReceived) -> None:
        if self._log.isEnabledFor(logging.DEBUG):
            text = "took on %s %s from %s"
            args = (record.kind, record.operation, record.sender)
            self._log.debug(text, *args, extra=_about(record))

    def finished(self, record: RequestFinished) -> None:
        level = logging.DEBUG if record.code == OK else logging.WARNING
        if self._log.isEnabledFor(level):
            did = "was answered" if record.side == "caller" else "served"
            text = "%s %s %s: %s after %.1f ms"
            args = (did, record.target, record.operation, record.code, record.duration_s * 1000)
            self._log.log(level, text, *args, extra=_about(record))

    def dropped(self, record: MessageDropped) -> None:
        text = "dropped %d: %s %s"
        args = (record.count, record.reason, record.operation)
        self._log.warning(text, *args, extra=_about(record))

    def retried(self, record: RequestRetried) -> None:
        text = "asks %s %s again, attempt %d in %.3f s, after %s"
        args = (record.target, record.operation, record.attempt, record.delay_s, record.code)
        self._log.info(text, *args, extra=_about(record))


def _about(
    record: RequestSent | RequestReceived | RequestFinished | MessageDropped | RequestRetried,
) -> dict[str, str]:
    traceparent: str | None = getattr(record, "traceparent", None)
    return {
        "agent": getattr(record, "agent", ""),
        "instance": getattr(record, "instance", ""),
        "event_id": record.event_id,
        "trace_id": trace_id_of(record.event_id, traceparent) if record.event_id else "",
    }


def _message(record: logging.LogRecord) -> str:
    """Return what a record says, without secrets.

    An agent's log begins each text with who speaks, and of which request: here that stands in
    fields of its own.
    """
    agent, instance = getattr(record, "agent", ""), getattr(record, "instance", "")
    event_id = getattr(record, "event_id", "")
    about = f"{agent} {_plain(instance)[:8]} " + (f"[{event_id}] " if event_id else "")
    return redact_text(record.getMessage().removeprefix(about))


def _time_of(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as `extra` and is not empty, without secrets."""
    given = {name: value for name, value in vars(record).items() if name not in _OWN}
    clean: dict[str, Any] = redact(given)
    return {name: value for name, value in clean.items() if value not in ("", None)}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return redact_text("\n".join(parts))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else text_of(value)
