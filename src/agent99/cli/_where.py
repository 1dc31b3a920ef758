"""Which records of the quarantine a person means: `capability=mail, older=1h`. Pure."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from agent99.cli._exits import RefusalError

if TYPE_CHECKING:
    from agent99.work import Quarantined

Where = Callable[["Quarantined"], bool]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_FIELDS = {
    **{field: field for field in ("capability", "operation", "reason", "code", "topic", "id")},
    "trace": "trace_id",
}
_AGES = ("older", "newer")
_KNOWN = (*_FIELDS, *_AGES)


def parse_where(text: str, now_us: int) -> Where:
    """Return what tells whether a record is meant; every condition must hold.

    Args:
        text: `name=value` parted by commas.
        now_us: What `older` and `newer` are counted from: how long it has been in quarantine.

    Raises:
        RefusalError: it is no condition, or none at all.
    """
    conditions: list[Where] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value:
            raise RefusalError(f"{part!r} is no condition such as capability=mail or older=1h")
        conditions.append(_condition(name, value, now_us))
    if not conditions:
        raise RefusalError(f"--where is empty; it takes {', '.join(_KNOWN)}")
    return lambda record: all(holds(record) for holds in conditions)


def _condition(name: str, value: str, now_us: int) -> Where:
    if name in _AGES:
        border_us = now_us - round(parse_age_s(value) * 1e6)
        if name == "older":
            return lambda record: record.last_us <= border_us
        return lambda record: record.last_us > border_us
    field = _FIELDS.get(name)
    if field is None:
        near = get_close_matches(name, _KNOWN, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_KNOWN)}"
        raise RefusalError(f"{name!r} is nothing to choose by; {hint}")
    if field == "reason":
        _check_reason(value)
    if field == "trace_id":
        value = value.replace("-", "")
    if field in ("capability", "operation"):
        value = value.lower()
    return lambda record: getattr(record, field) == value


def _check_reason(value: str) -> None:
    from typing import get_args

    from agent99.work import Reason

    if value not in get_args(Reason):
        raise RefusalError(f"{value!r} is no reason; there are: {', '.join(get_args(Reason))}")


def parse_age_s(text: str) -> float:
    """Return the seconds that `30s`, `5m`, `1h` or `2d` are.

    Raises:
        RefusalError: it is no such time.
    """
    number, unit = text[:-1], _UNITS_S.get(text[-1:])
    if unit is None or not number.replace(".", "", 1).isdecimal() or not number.isascii():
        raise RefusalError(f"{text!r} is no time such as 30s, 5m, 1h or 2d")
    return float(number) * unit
