"""The values of a class's attributes, checked when the class is read and not when they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from agent99.errors import UsageError

_Check = tuple[Callable[[Any], bool], str]


def check_attributes(agent_class: type) -> None:
    """Check what the type annotations of `Agent` say and Python does not hold anybody to.

    Raises:
        UsageError: names the class, the attribute, the rule and the value.
    """
    for attribute, (holds, rule) in _CHECKS.items():
        value = getattr(agent_class, attribute)
        if not holds(value):
            raise UsageError(f"{agent_class.__name__}.{attribute} is {rule}, not {value!r}")


def _is_text(value: Any) -> bool:
    """Whether it can travel: a text with half a surrogate pair cannot."""
    return isinstance(value, str) and value == value.encode(errors="ignore").decode()


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_labels(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    labels = cast("Mapping[object, object]", value)
    return all(_is_text(key) and _is_text(label) for key, label in labels.items())


def _are_callables(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(map(callable, cast("tuple[Any, ...]", value)))


_CHECKS: dict[str, _Check] = {
    "name": (lambda value: isinstance(value, str), "a text"),
    "version": (lambda value: _is_text(value) and value != "", "a text such as '1.2.3'"),
    "metadata": (_are_labels, "a dict of texts to texts, such as {'region': 'eu'}"),
    "concurrency_max": (lambda value: _is_count(value, 1), "a whole number from 1"),
    "waiting_max": (lambda value: _is_count(value, 0), "a whole number from 0"),
    "middleware": (_are_callables, "a tuple of async functions (context, payload, proceed)"),
}
