"""Plain SQL: checked once, put in the driver's form once, then kept."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

from agent99.errors import UsageError

_KEPT_MAX = 512
_SPACE_AND_COMMENTS = re.compile(r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_CONTROL = re.compile(
    r"(?:begin|start|commit|end|rollback|abort|savepoint|release|attach|detach)\b", re.IGNORECASE
)
# What must be passed over, then a type cast, a parameter, and the driver's own mark.
_PARTS = re.compile(
    r"(?P<kept>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|::)"
    r"|:(?P<name>[A-Za-z_]\w*)|(?P<percent>%)",
    re.DOTALL,
)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
RowMaker = Callable[[Sequence[Any]], Any]


def check_statement(sql: str) -> None:
    """Refuse what would end or split the transaction, which belongs to the store.

    Raises:
        UsageError
    """
    start = _SPACE_AND_COMMENTS.match(sql)
    found = _CONTROL.match(sql, start.end() if start else 0)
    if found is not None:
        message = (
            f"{found[0].upper()} is not for a transaction: return to commit, raise to roll back"
        )
        raise UsageError(message)


def percent_form(sql: str) -> str:
    """Return `sql` with `:name` as `%(name)s`, for psycopg; quotes and comments stay."""

    def change(part: re.Match[str]) -> str:
        if part["kept"] is not None:
            return part["kept"].replace("%", "%%")
        return "%%" if part["percent"] else f"%({part['name']})s"

    return _PARTS.sub(change, sql)


class Statements:
    """One connection's plain SQL and the shapes of its rows, the last few hundred of them."""

    __slots__ = ("_convert", "_forms", "_makers")

    def __init__(self, *, percent: bool) -> None:
        self._convert: Final = percent
        self._forms: dict[str, str] = {}
        self._makers: dict[tuple[str, ...], RowMaker] = {}

    def __repr__(self) -> str:
        return f"Statements(kept={len(self._forms)})"

    def form(self, sql: str) -> str:
        """Return the driver's form of a statement with parameters.

        Raises:
            UsageError: it would end the transaction.
        """
        form = self._forms.get(sql)
        if form is None:
            check_statement(sql)
            form = percent_form(sql) if self._convert else sql
            _keep(self._forms, sql, form)
        return form

    def row_maker(self, names: tuple[str, ...]) -> RowMaker:
        """Return what makes rows with these columns."""
        maker = self._makers.get(names)
        if maker is None:
            maker = _row_maker(names)
            _keep(self._makers, names, maker)
        return maker


def _row_maker(names: tuple[str, ...]) -> RowMaker:
    # `rename`: a column such as `count(*)` is read by its index.
    make_class: Any = collections.namedtuple  # noqa: PYI024 - columns known at run time
    return cast("RowMaker", make_class("Row", names, rename=True)._make)


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(kept) >= _KEPT_MAX:
        kept.pop(next(iter(kept)))  # the oldest; a programme with more statements builds them
    kept[key] = value
