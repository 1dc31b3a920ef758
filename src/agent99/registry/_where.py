"""Filters over descriptions: `region=eu, version>=2`. Parsed once, then matched."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from agent99.errors import InvalidFilterError
from agent99.registry._description import STATES, Description

TEXT_CHARACTERS_MAX = 1_000
"""The longest expression."""
CLAUSES_MAX = 32
"""How many clauses an expression may have."""

_FIELD = re.compile(r"\s*(?:(metadata\.)?([A-Za-z0-9_][A-Za-z0-9_.-]*))")
_OPERATOR = re.compile(r"\s*(!=|>=|<=|==|=|>|<)")
_VALUE = re.compile(r'\s*(?:"([^"]*)"|([^\s",|<>=!]+(?:[ \t]+[^\s",|<>=!]+)*))')
_SEPARATOR = re.compile(r"\s*([,|]|\Z)")

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_FOLDED = frozenset({"name", "kind", "state", "capability"})  # compared without regard to case
_FIELDS = _FOLDED | {"version", "host", "instance"}
_UNORDERED = _FOLDED | {"host", "instance"}


class Clause(msgspec.Struct, frozen=True):
    """One comparison: a field, an operator, and the values of which one must fit."""

    field: str
    """A field of the description, or `metadata.` and a label."""
    operator: str
    """`=`, `!=`, `>`, `>=`, `<` or `<=`."""
    values: tuple[str, ...]
    """At `=` one of them must be equal, at `!=` none may; the others take one value."""

    def matches(self, description: Description) -> bool:
        """Whether the description fits. A label that is not there fits nothing but `!=`."""
        found = _read(description, self.field)
        if self.operator == "=":
            return any(_equal(self.field, have, value) for have in found for value in self.values)
        if self.operator == "!=":
            return not any(
                _equal(self.field, have, value) for have in found for value in self.values
            )
        compare = _COMPARE[self.operator]
        return any(compare(*_comparable(self.field, have, self.values[0])) for have in found)


class Where(msgspec.Struct, frozen=True):
    """A filter: all of its clauses must fit."""

    text: str
    """The expression as it was written."""
    clauses: tuple[Clause, ...]

    def matches(self, description: Description) -> bool:
        """Whether the description fits every clause."""
        return all(clause.matches(description) for clause in self.clauses)

    def apply(self, descriptions: Iterable[Description]) -> tuple[Description, ...]:
        """Return those that fit, in their order."""
        return tuple(d for d in descriptions if self.matches(d))


def where(text: str) -> Where:
    """Return the filter that `text` means.

    Clauses are joined by commas and all must fit: `region=eu, version>=2`. A clause is a field, one
    of `= != > >= < <=`, and a value; after `=` and `!=` several values may stand, joined by `|`.
    Fields are `name version state kind capability host instance`; any other is a label of the
    metadata, as is `metadata.` and anything. A value with a comma or the like stands in double
    quotes. Versions compare by the rules of semantic versioning, where missing parts are 0; labels
    compare as numbers or versions where both sides are, else as text.

    Raises:
        InvalidFilterError: with the place at which `text` breaks these rules.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        rule = f"an expression has at most {TEXT_CHARACTERS_MAX} characters"
        raise InvalidFilterError(text[:80], TEXT_CHARACTERS_MAX, rule)
    clauses: list[Clause] = []
    at = 0
    while at < len(text) or not clauses:
        if len(clauses) >= CLAUSES_MAX:
            raise InvalidFilterError(text, at, f"an expression has at most {CLAUSES_MAX} clauses")
        clause, at = _parse_clause(text, at)
        clauses.append(clause)
    return Where(text, tuple(clauses))


def _parse_clause(text: str, at: int) -> tuple[Clause, int]:
    match = _FIELD.match(text, at)
    if match is None:
        raise InvalidFilterError(text, _next(text, at), "a clause begins with the name of a field")
    label = match[2]
    field = label if not match[1] and label in _FIELDS else f"metadata.{label}"
    at = match.end()
    match = _OPERATOR.match(text, at)
    if match is None:
        rule = f"one of = != > >= < <= stands after {label!r}"
        raise InvalidFilterError(text, _next(text, at), rule)
    sign = "=" if match[1] == "==" else match[1]
    if sign in _COMPARE and field in _UNORDERED:
        rule = f"{field!r} has no order: only = and != can be asked of it"
        raise InvalidFilterError(text, match.start(1), rule)
    values, at = _parse_values(text, match.end(), field, sign)
    return Clause(field, sign, values), at


def _parse_values(text: str, at: int, field: str, sign: str) -> tuple[tuple[str, ...], int]:
    values: list[str] = []
    while True:
        match = _VALUE.match(text, at)
        if match is None:
            raise InvalidFilterError(text, _next(text, at), f"a value stands after {sign!r}")
        group = 1 if match[1] is not None else 2
        value, place = match[group], match.start(group)
        _check_value(text, place, field, value)
        values.append(value.lower() if field in _FOLDED else value)
        end = _SEPARATOR.match(text, match.end())
        if end is None:
            rule = "a comma or the end stands after a value"
            raise InvalidFilterError(text, _next(text, match.end()), rule)
        at = end.end()
        if end[1] == "|":
            if sign not in ("=", "!="):
                raise InvalidFilterError(text, end.start(1), "'|' stands only after = or !=")
            continue
        if end[1] == "," and not text[at:].strip():
            raise InvalidFilterError(text, end.start(1), "a clause stands after a comma")
        return tuple(values), at


def _check_value(text: str, place: int, field: str, value: str) -> None:
    if field == "version" and _version(value) is None:
        raise InvalidFilterError(text, place, "a version is numbers joined by dots, such as 2.1")
    if field == "state" and value.lower() not in STATES:
        raise InvalidFilterError(text, place, f"a state is one of {', '.join(STATES)}")


def _next(text: str, at: int) -> int:
    """Return the index of the next character that is no white space."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _read(description: Description, field: str) -> tuple[str, ...]:
    if field == "capability":
        return tuple(capability.lower() for capability in description.capabilities)
    if field in _FIELDS:
        value = str(getattr(description, field))
        return (value.lower() if field in _FOLDED else value,)
    label = description.metadata.get(field.removeprefix("metadata."))
    return () if label is None else (label,)


def _equal(field: str, have: str, value: str) -> bool:
    if field == "version":
        left, right = _comparable(field, have, value)
        return bool(left == right)
    return have == value


def _comparable(field: str, have: str, value: str) -> tuple[Any, Any]:
    """Return both sides in a form in which they can be compared."""
    left, right = _version(have), _version(value)
    if field == "version":
        return left or _NO_VERSION, right or _NO_VERSION
    try:
        return float(have), float(value)
    except ValueError:
        pass
    if left is not None and right is not None:
        return left, right
    return have, value


_Version = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,7})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_NO_VERSION: _Version = ((), False, ())  # before every version


def _version(text: str) -> _Version | None:
    """Return a version in the order of semantic versioning, or None when `text` is none.

    A pre-release comes before its release; build metadata does not count.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    parts = tuple(
        (False, int(part), "") if part.isdecimal() else (True, 0, part)
        for part in (match[2] or "").split(".")
        if part
    )
    return tuple(numbers), not parts, parts
