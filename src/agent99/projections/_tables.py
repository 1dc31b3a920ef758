"""The tables of one generation, in the hands of a function: `{revenue}` stands for the table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import UsageError

if TYPE_CHECKING:
    from agent99.store import Rows, Transaction

_MARK: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_KEPT_MAX: Final = 512
_encode = msgspec.json.Encoder().encode


class Names:
    """What the tables of one generation are called.

    Invariant: two generations of a projection have no table in common.
    """

    def __init__(self, projection: str, generation: int, tables: Sequence[str]) -> None:
        self.generation = generation
        self._real = {table: f"{projection}_{generation}_{table}" for table in tables}
        self._kept: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Names({', '.join(self._real.values())})"

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables as their projection calls them."""
        return tuple(self._real)

    def of(self, table: str) -> str:
        """Return what a table is called in the database.

        Raises:
            UsageError: the projection has no such table.
        """
        name = self._real.get(table)
        if name is None:
            raise UsageError(f"no table {{{table}}}; there are {', '.join(self._real)}")
        return name

    def sql(self, statement: str) -> str:
        """Return a statement with the tables' names in it.

        Raises:
            UsageError: it names a table that the projection has not.
        """
        found = self._kept.get(statement)
        if found is None:
            found = _MARK.sub(lambda mark: self.of(mark[1]), statement)
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            self._kept[statement] = found
        return found


class Tables:
    """One generation's tables in a transaction; of no use after the function has returned.

    Args:
        transaction: Whose statements these are.
        names: What the tables are called.
        version: Of the code that made them.
    """

    __slots__ = ("_names", "transaction", "version")

    def __init__(self, transaction: Transaction, names: Names, version: int) -> None:
        self.transaction = transaction
        """For what has nothing to do with these tables."""
        self.version = version
        """Of the projection that made these tables: while a newer one is built, the one before."""
        self._names = names

    def __repr__(self) -> str:
        return f"Tables({self._names!r}, version={self.version})"

    @property
    def generation(self) -> int:
        """Which build of the tables this is; starts at 1."""
        return self._names.generation

    def name(self, table: str) -> str:
        """Return what a table of the projection is called in the database.

        Raises:
            UsageError: it has no such table.
        """
        return self._names.of(table)

    def execute(
        self,
        statement: str,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> Rows:
        """Run one statement, as `Transaction.execute`; `{table}` stands for a table.

        Raises:
            UsageError: it names a table that the projection has not.
            as `Transaction.execute`.
        """
        return self.transaction.execute(self._names.sql(statement), parameters)

    def digest(self) -> str:
        """Return a hash of all rows, whatever their order: of equal tables it is equal.

        Raises:
            StoreError: a table has more than `StoreOptions.rows_max` rows.
            as `Transaction.execute`.
        """
        whole = hashlib.sha256()
        for table in self._names.tables:
            rows = sorted(_encode(row) for row in self.execute(f"SELECT * FROM {{{table}}}"))  # noqa: S608 - a name that was checked
            whole.update(_encode([table, len(rows)]))
            for row in rows:
                whole.update(row + b"\n")
        return whole.hexdigest()
