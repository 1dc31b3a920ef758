"""One step, as its caller wants it: what to run, with what, and how to let go of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, get_type_hints
from zlib import crc32

import msgspec

from agent99.envelope import AnswerCodec
from agent99.errors import UsageError
from agent99.saga._records import Intent, Result, StepId

Call = Callable[..., Awaitable[Any]]
NAME_CHARACTERS_MAX = 64
PATIENCE_S = 60.0
PATIENCE_S_MAX = 30 * 86_400.0
TIMEOUT_S = 30.0

_encode = msgspec.json.Encoder(order="deterministic").encode


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is run, given up, and let go of."""

    undo: Call | None = None
    query: Call | None = None
    patience_s: float = PATIENCE_S
    timeout_s: float = TIMEOUT_S
    is_pivot: bool = False


class Plan:
    """One call of `Saga.step` or `Saga.pivot`, checked.

    Raises:
        UsageError: names the step and what is wrong.
    """

    __slots__ = ("arguments", "checksum", "codec", "run", "step", "terms")

    def __init__(self, step: StepId, run: Call, arguments: tuple[Any, ...], terms: Terms) -> None:
        self.step = step
        self.run = run
        self.arguments = arguments
        self.terms = terms
        _check(step, terms)
        self.codec = codec_of(getattr(run, "__func__", run), str(step))
        try:
            self.checksum = crc32(_encode(arguments))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UsageError(
                f"the arguments of step {step} cannot be written as JSON, so that nobody can tell"
                f" after a crash whether they are the same: {error}"
            ) from error

    def __repr__(self) -> str:
        return f"Plan({str(self.step)!r})"

    def intent(self, at_us: int) -> Intent:
        """Return what is stored before it runs."""
        return Intent(
            step=self.step,
            arguments=self.checksum,
            has_undo=self.terms.undo is not None,
            is_pivot=self.terms.is_pivot,
            at_us=at_us,
        )

    def read(self, result: Result) -> Any:
        """Return what the step returned, as its function declares it.

        Raises:
            BadAnswerError: the journal's is of another type.
        """
        return self.codec.decode_body("value" if result.is_value else "ok", bytes(result.value))


def _check(step: StepId, terms: Terms) -> None:
    name = step.name
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable() or {*name} & {*"#:"}:
        # `#` and `:` are what its key has between its name, its number, and whether it is undone.
        raise UsageError(
            f"a step's name has 1 to {NAME_CHARACTERS_MAX} printable characters, none of them # or"
            f" :, not {name!r}"
        )
    for what, value in (("patience_s", terms.patience_s), ("timeout_s", terms.timeout_s)):
        if not 0 < value <= PATIENCE_S_MAX:
            raise UsageError(
                f"step {step}: {what} is {value}; it must be above 0 and up to {PATIENCE_S_MAX:g}"
            )


@lru_cache(1024)
def codec_of(function: Callable[..., Any], of: str) -> AnswerCodec[Any]:
    """Return the codec of what a step's function returns.

    Raises:
        UsageError: it has no return type, or one that JSON cannot carry.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise UsageError(f"step {of}: an annotation cannot be read: {error}") from error
    if "return" not in hints:
        raise UsageError(
            f"step {of}: its function declares no return type, so that nobody could read its"
            " result after a crash"
        )
    return AnswerCodec(hints["return"], of=f"step {of}")
