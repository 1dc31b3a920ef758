"""The registry's records as this process reads them, and those that it wants to be there. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from agent99.journal import Change, Entry
from agent99.registry._description import Description, decode_description
from agent99.registry._table import Table, TableChange


class Directory:
    """Keeps the table in step with the bucket's records.

    A record's key is `{sender}.{process}.{instance}`: the sender so that the server's permissions
    can bind a record to who writes it, the process so that the records of a dead one are found even
    if a newer release wrote them and this one cannot read them.

    What this process itself wants to be there is in the table whatever the bucket says; `unsettled`
    names the keys where the two differ.

    Invariant: every wanted description is in the table; a process in `processes` has a record.
    """

    def __init__(self, process: str) -> None:
        self.table = Table()
        self.unsettled: set[str] = set()
        """Keys of this process whose record is not, or may not be, as wanted."""
        self.unreadable = 0
        """Records that could not be read, so far."""
        self.lost = 0
        """Wanted records that were found missing, so far."""
        self._process = process
        self._wanted: dict[str, Description] = {}
        self._records: dict[str, dict[str, int]] = {}

    def __repr__(self) -> str:
        return f"Directory(wanted={len(self._wanted)}, processes={len(self._records)})"

    # --- what this process wants ------------------------------------------------------------------

    def want(self, key: str, description: Description) -> TableChange | None:
        """Have the record be this description."""
        self._wanted[key] = description
        self.unsettled.add(key)
        return self.table.put(description)

    def unwant(self, key: str) -> TableChange | None:
        """Have no such record."""
        if self._wanted.pop(key, None) is None:
            return None
        self.unsettled.add(key)
        return self.table.remove(_instance_of(key))

    def wanted(self, key: str) -> Description | None:
        """Return what the record should be; None when it should not be there."""
        return self._wanted.get(key)

    def wanted_keys(self) -> tuple[str, ...]:
        """Return the keys of everything that should be there."""
        return tuple(self._wanted)

    def settle(self, key: str, written: Description | None) -> None:
        """The record was made to be `written`: settled, unless another is wanted meanwhile."""
        if self._wanted.get(key) is written:
            self.unsettled.discard(key)

    def unsettle(self) -> None:
        """Doubt every record of this process: the bucket may have lost them."""
        self.unsettled.update(self._wanted)

    # --- what the bucket says ---------------------------------------------------------------------

    def processes(self) -> tuple[str, ...]:
        """Return the processes that have records."""
        return tuple(self._records)

    def records(self, process: str) -> tuple[tuple[str, int], ...]:
        """Return the keys and revisions of a process's records."""
        return tuple(self._records.get(process, {}).items())

    def snapshot(self, entries: Iterable[Entry]) -> list[TableChange]:
        """These records are there, and no others."""
        self._records = {}
        descriptions: list[Description] = []
        for entry in entries:
            process = self._note(entry.key, entry.revision)
            if process is None or process == self._process:
                continue
            description = self._read(entry.key, entry.value)
            if description is not None:
                descriptions.append(description)
        self._compare_own()
        return self.table.replace_all([*descriptions, *self._wanted.values()])

    def change(self, change: Change) -> TableChange | None:
        """One record was written or removed."""
        if change.kind != "put":
            return self._removed(change.key)
        process = self._note(change.key, change.revision)
        if process is None:
            return None
        if process == self._process:
            if change.key not in self._wanted:
                self.unsettled.add(change.key)
            return None
        description = self._read(change.key, change.value)
        if description is None:
            return self.table.remove(_instance_of(change.key))
        return self.table.put(description)

    # --- inside -----------------------------------------------------------------------------------

    def _removed(self, key: str) -> TableChange | None:
        process = _process_of(key)
        if process is None:
            return None
        records = self._records.get(process, {})
        if records.pop(key, None) is not None and not records:
            del self._records[process]
        if process != self._process:
            return self.table.remove(_instance_of(key))
        if key in self._wanted:
            self.lost += 1
            self.unsettled.add(key)
        else:
            self.unsettled.discard(key)
        return None

    def _compare_own(self) -> None:
        present = self._records.get(self._process, {}).keys()
        missing = self._wanted.keys() - present
        self.lost += len(missing - self.unsettled)
        self.unsettled |= missing
        self.unsettled |= present - self._wanted.keys()

    def _note(self, key: str, revision: int) -> str | None:
        process = _process_of(key)
        if process is None:
            self.unreadable += 1
            return None
        self._records.setdefault(process, {})[key] = revision
        return process

    def _read(self, key: str, value: bytes) -> Description | None:
        description = decode_description(value)
        if description is None or not key.endswith(
            f".{description.process}.{description.instance}"
        ):
            self.unreadable += 1
            return None
        return description

    def _check(self) -> None:
        for description in self._wanted.values():
            assert self.table.get(description.instance) == description
        assert all(self._records.values()), "a process without a record"


def record_key(sender: str, process: str, instance: str) -> str:
    """Return the key of an instance's record."""
    return f"{sender}.{process}.{instance}"


def _process_of(key: str) -> str | None:
    parts = key.split(".")
    return parts[1] if len(parts) == 3 else None


def _instance_of(key: str) -> str:
    return key[key.rfind(".") + 1 :]
