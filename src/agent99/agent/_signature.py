"""From a method's signature to the type of its payload and back: the annotations are the schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect as types

from agent99.envelope import AnswerCodec, BodyCodec
from agent99.errors import UsageError

_OBJECTS = (types.StructType, types.TypedDictType, types.DataclassType, types.DictType)
_PLAIN = (bool, int, float, str, bytes, type(None))
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

Unpack = Callable[[Any], tuple[tuple[Any, ...], dict[str, Any]]]


class Signature:
    """How a method is called with a payload.

    Args:
        function: The method.
        takes_self: Its first parameter is no field.
        of: What to call it in errors.
        given: Parameters that somebody else fills in: they are no fields either.

    Raises:
        UsageError: the signature cannot be a schema; names the method and why.
    """

    __slots__ = ("answer", "body", "fields", "keyword_fields", "of", "whole")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        takes_self: bool,
        of: str,
        given: frozenset[str] = frozenset(),
    ) -> None:
        self.of = of
        hints = _hints(function, of)
        every = _parameters(function, takes_self=takes_self, of=of)
        parameters = [parameter for parameter in every if parameter.name not in given]
        for parameter in parameters:
            if parameter.name not in hints:
                raise UsageError(f"{of}: the parameter {parameter.name!r} has no annotation")
        if "return" not in hints:
            raise UsageError(f"{of}: the return type has no annotation (-> None is one)")
        self.whole = len(parameters) == 1 and _is_object(hints[parameters[0].name], of)
        """The payload itself is the one argument."""
        self.fields: tuple[str, ...] = ()
        named = _by_name(every, given)
        self.keyword_fields = tuple(p.name for p in parameters if p.name in named)
        """Those that are passed by name, the one argument among them."""
        if self.whole:
            body_type = hints[parameters[0].name]
        else:
            body_type = _struct(function, parameters, hints, of)
            self.fields = tuple(p.name for p in parameters if p.name not in named)
        _check_fields(parameters, hints, of)
        self.body: BodyCodec[Any] = BodyCodec(body_type, of=of)
        self.answer: AnswerCodec[Any] = AnswerCodec(hints["return"], of=of)

    def __repr__(self) -> str:
        return f"Signature({self.of})"

    def arguments(self, payload: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments that a decoded payload stands for."""
        if self.whole:
            return (
                ((), {self.keyword_fields[0]: payload}) if self.keyword_fields else ((payload,), {})
            )
        return (
            tuple(getattr(payload, field) for field in self.fields),
            {field: getattr(payload, field) for field in self.keyword_fields},
        )


def _hints(function: Callable[..., Any], of: str) -> Mapping[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise UsageError(f"{of}: an annotation cannot be read: {error}") from error


def _parameters(
    function: Callable[..., Any], *, takes_self: bool, of: str
) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())
    if takes_self:
        if not parameters:
            raise UsageError(f"{of} takes no self; make it a static method")
        parameters = parameters[1:]
    elif parameters and parameters[0].name == "self":
        raise UsageError(
            f"{of} takes self, which cannot travel to another process; make it a static method"
        )
    for parameter in parameters:
        if parameter.kind not in _NAMED:
            raise UsageError(
                f"{of}: {parameter} cannot be a field of the payload; give each parameter a name"
            )
        if parameter.name == "header":
            raise UsageError(
                f"{of}: the parameter 'header' stands where the envelope's own header stands;"
                " name it otherwise, and read headers from self.context.header"
            )
    return parameters


def _by_name(parameters: list[inspect.Parameter], given: frozenset[str]) -> set[str]:
    """Return the parameters that can only be passed by name: whoever fills in the given does so."""
    first = next((at for at, each in enumerate(parameters) if each.name in given), len(parameters))
    return {
        each.name
        for at, each in enumerate(parameters)
        if each.kind is each.KEYWORD_ONLY or at > first
    }


def _is_object(hint: Any, of: str) -> bool:
    try:
        info = types.type_info(hint)
    except (TypeError, NameError, RecursionError) as error:
        raise UsageError(f"{of}: {_shown(hint)} is no type that JSON can carry: {error}") from error
    while isinstance(info, types.Metadata):
        info = info.type
    parts = info.types if isinstance(info, types.UnionType) else (info,)
    return all(isinstance(part, _OBJECTS) for part in parts)


def _same(default: Any) -> Any:
    return default


def _check_fields(parameters: list[inspect.Parameter], hints: Mapping[str, Any], of: str) -> None:
    for parameter in parameters:
        try:
            msgspec.json.schema(hints[parameter.name])
        except (TypeError, ValueError, RecursionError) as error:
            why = str(error).partition("\n")[0]
            if why.endswith(":"):  # a list of msgspec's own remedies follows, none of them ours
                why = (
                    "it is, or holds, a class of its own; use a Struct, a dataclass or plain types"
                )
            raise UsageError(
                f"{of}: the parameter {parameter.name!r} of type {_shown(hints[parameter.name])}"
                f" cannot be read from JSON: {why}"
            ) from error


def _shown(hint: Any) -> str:
    """Return a type as its author writes it."""
    return hint.__qualname__ if isinstance(hint, type) else str(hint)


def _struct(
    function: Callable[..., Any],
    parameters: list[inspect.Parameter],
    hints: Mapping[str, Any],
    of: str,
) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any, Any]] = []
    for parameter in parameters:
        default = parameter.default
        value: Any = msgspec.NODEFAULT
        if isinstance(default, _PLAIN):
            value = default  # stands in the schema too
        elif default is not inspect.Parameter.empty:
            value = msgspec.field(default_factory=partial(_same, default))
        fields.append((parameter.name, hints[parameter.name], value))
    try:
        return msgspec.defstruct(
            f"{function.__name__}_payload", fields, kw_only=True, module=function.__module__
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"{of}: {error}") from error
