"""Everybody on the mesh, as this process knows it, by capability, name and instance. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from agent99.registry._description import Description
from agent99.registry._explain import Candidate, Explanation, Reason, near_misses

CACHED_MAX = 1_024
"""How many different questions to `discover` are remembered."""

_EVERYBODY = ""  # the dependency of `discover()` without a capability: no capability is empty

_Found = tuple[Description, ...]


class TableChange(msgspec.Struct, frozen=True):
    """What happened to one instance; `before` is None when it came, `after` when it went."""

    before: Description | None
    after: Description | None

    @property
    def instance(self) -> str:
        """The instance's UUID."""
        known = self.after or self.before
        return known.instance if known is not None else ""


class Table:
    """Who is there and what they offer.

    Does no I/O and reads no clock: time comes in. Answers of `discover` are remembered until
    something that they depend on changes, so that asking again is one look-up.

    Invariant: the three indexes hold the same descriptions; no index holds an empty entry; only
    instances in the table are suspects; a remembered answer equals a fresh one and is found by
    everything that it depends on.
    """

    def __init__(self) -> None:
        self._instances: dict[str, Description] = {}
        self._capabilities: dict[str, dict[str, Description]] = {}
        self._names: dict[str, dict[str, Description]] = {}
        self._suspects: dict[str, float] = {}
        self._answers: dict[tuple[str, ...], _Found] = {}
        self._depends: dict[str, set[tuple[str, ...]]] = {}

    def __repr__(self) -> str:
        return f"Table(instances={len(self._instances)}, capabilities={len(self._capabilities)})"

    def __len__(self) -> int:
        return len(self._instances)

    # --- changing it ------------------------------------------------------------------------------

    def put(self, description: Description) -> TableChange | None:
        """Add or replace one instance; returns what changed, or None when nothing did."""
        before = self._instances.get(description.instance)
        if before == description:
            return None
        if before is not None:
            self._unlink(before)
        self._link(description)
        return TableChange(before, description)

    def remove(self, instance: str) -> TableChange | None:
        """Remove one instance; returns what changed, or None when it was not there."""
        before = self._instances.get(instance)
        if before is None:
            return None
        self._unlink(before)
        self._suspects.pop(instance, None)
        return TableChange(before, None)

    def replace_all(self, descriptions: Iterable[Description]) -> list[TableChange]:
        """Make the table hold exactly these; returns what changed, who went first.

        Of several descriptions of one instance the last counts.
        """
        wanted = {description.instance: description for description in descriptions}
        gone = [instance for instance in self._instances if instance not in wanted]
        changes = [self.remove(instance) for instance in gone]
        changes.extend(self.put(description) for description in wanted.values())
        return [change for change in changes if change is not None]

    def suspect(self, instance: str, until_s: float) -> bool:
        """Put an instance behind the others, after a request to it failed; false if it is unknown.

        Args:
            instance: Its UUID.
            until_s: Monotonic time at which `forgive_expired` forgets it.
        """
        known = self._instances.get(instance)
        if known is None:
            return False
        is_new = instance not in self._suspects
        self._suspects[instance] = until_s
        if is_new:
            self._forget_answers(known)
        return True

    def forgive(self, instance: str) -> None:
        """Trust an instance again: a request to it succeeded."""
        if self._suspects.pop(instance, None) is not None:
            self._forget_answers(self._instances[instance])

    def forgive_expired(self, now_s: float) -> float | None:
        """Trust those again whose time is over; returns when to call next, None if never."""
        for instance in [i for i, until_s in self._suspects.items() if until_s <= now_s]:
            self.forgive(instance)
        return min(self._suspects.values(), default=None)

    # --- asking it --------------------------------------------------------------------------------

    def discover(self, *capabilities: str) -> _Found:
        """Return everybody who takes requests and offers all of these; empty when nobody does.

        Without a capability: everybody who takes requests. Case does not matter. Those who start,
        pause or drain are left out (see `explain`). Order: suspects last, ready before degraded,
        then by name and instance. Never raises.
        """
        found = self._answers.get(capabilities)
        if found is None:
            found = self._search(capabilities)
        return found

    def candidates(self, *capabilities: str) -> _Found:
        """Return what `discover` does, without the suspects while there are others."""
        found = self.discover(*capabilities)
        if not self._suspects:
            return found
        trusted = tuple(d for d in found if d.instance not in self._suspects)
        return trusted or found

    def get(self, instance: str) -> Description | None:
        """Return the instance, in whatever state, or None."""
        return self._instances.get(instance)

    def named(self, name: str) -> _Found:
        """Return the instances of an agent that take requests, ordered as by `discover`."""
        known = self._names.get(name.lower(), {})
        return tuple(sorted((d for d in known.values() if d.is_routable), key=self._order))

    def everybody(self) -> _Found:
        """Return every instance in every state, by name and instance."""
        return tuple(sorted(self._instances.values(), key=lambda d: (d.name, d.instance)))

    def capabilities(self) -> dict[str, int]:
        """Return how many instances offer each capability, in every state, by capability."""
        return {key: len(self._capabilities[key]) for key in sorted(self._capabilities)}

    def missing(self, uses: Iterable[str]) -> tuple[str, ...]:
        """Return those that nobody offers who takes requests, in their order."""
        return tuple(capability for capability in uses if not self.discover(capability))

    def is_suspect(self, instance: str) -> bool:
        """Whether a request to the instance failed from here a moment ago."""
        return instance in self._suspects

    def explain(
        self,
        target: str,
        operation: str = "",
        *,
        kind: Literal["capability", "name"] | None = None,
    ) -> Explanation:
        """Say why a request would, or would not, reach somebody.

        Args:
            target: A capability or an agent's name.
            operation: What it is to be asked; empty asks for the target alone.
            kind: What the target is; None tries it as a capability, then as a name.
        """
        target = target.lower()
        operation = operation.lower()
        known: dict[str, Description] = {}
        if kind != "name":
            known = self._capabilities.get(target, {})
        if not known and kind != "capability":
            known = self._names.get(target, {})
            kind = "name" if known else kind
        if not known:
            return Explanation(
                target=target,
                operation=operation,
                kind=kind or "capability",
                reason="nobody",
                near=near_misses(target, self._words(kind)),
            )
        return self._explain_known(target, operation, kind or "capability", known)

    # --- inside -----------------------------------------------------------------------------------

    def _explain_known(
        self,
        target: str,
        operation: str,
        kind: Literal["capability", "name"],
        known: dict[str, Description],
    ) -> Explanation:
        descriptions = sorted(known.values(), key=lambda d: (not d.is_routable, *self._order(d)))
        operations = sorted({o.name for d in descriptions for o in d.operations})
        offering = [d for d in descriptions if not operation or d.operation(operation)]
        reason: Reason = "reachable"
        if not offering:
            reason = "unknown_operation"
        elif not any(d.is_routable for d in offering):
            reason = "paused"
        return Explanation(
            target=target,
            operation=operation,
            kind=kind,
            reason=reason,
            candidates=tuple(
                Candidate(
                    instance=d.instance,
                    name=d.name,
                    version=d.version,
                    state=d.state,
                    offers=not operation or d.operation(operation) is not None,
                    suspect=d.instance in self._suspects,
                    missing=d.missing,
                )
                for d in descriptions
            ),
            operations=tuple(operations),
            near=near_misses(operation, operations) if reason == "unknown_operation" else (),
        )

    def _words(self, kind: Literal["capability", "name"] | None) -> list[str]:
        words: list[str] = []
        if kind != "name":
            words += self._capabilities
        if kind != "capability":
            words += self._names
        return words

    def _order(self, description: Description) -> tuple[bool, bool, str, str]:
        return (
            description.instance in self._suspects,
            description.state != "ready",
            description.name,
            description.instance,
        )

    def _search(self, asked: tuple[str, ...]) -> _Found:
        capabilities = {capability.lower() for capability in asked}
        if capabilities:
            # The rarest capability first: the rest is membership.
            sets = sorted((self._capabilities.get(key, {}) for key in capabilities), key=len)
        else:
            sets = [self._instances]
        found = [
            description
            for instance, description in sets[0].items()
            if description.is_routable and all(instance in others for others in sets[1:])
        ]
        answer = tuple(sorted(found, key=self._order))
        if len(self._answers) >= CACHED_MAX:
            self._answers.clear()
            self._depends.clear()
        self._answers[asked] = answer
        for key in capabilities or (_EVERYBODY,):
            self._depends.setdefault(key, set()).add(asked)
        return answer

    def _link(self, description: Description) -> None:
        instance = description.instance
        self._instances[instance] = description
        self._names.setdefault(description.name.lower(), {})[instance] = description
        for capability in description.capabilities:
            self._capabilities.setdefault(capability.lower(), {})[instance] = description
        self._forget_answers(description)

    def _unlink(self, description: Description) -> None:
        instance = description.instance
        del self._instances[instance]
        _discard(self._names, description.name.lower(), instance)
        for capability in description.capabilities:
            _discard(self._capabilities, capability.lower(), instance)
        self._forget_answers(description)

    def _forget_answers(self, description: Description) -> None:
        if not self._answers:
            return
        for key in (_EVERYBODY, *description.capabilities):
            for asked in tuple(self._depends.get(key.lower(), ())):
                self._forget_answer(asked)

    def _forget_answer(self, asked: tuple[str, ...]) -> None:
        del self._answers[asked]
        for key in {capability.lower() for capability in asked} or (_EVERYBODY,):
            self._depends[key].discard(asked)
            if not self._depends[key]:
                del self._depends[key]

    def _check(self) -> None:
        linked = {i for index in self._names.values() for i in index}
        assert linked == set(self._instances), "an instance is missing from the names"
        for index in (self._names, self._capabilities):
            for entries in index.values():
                assert entries, "an index holds an empty entry"
                assert all(self._instances.get(i) is d for i, d in entries.items())
        assert set(self._suspects) <= set(self._instances), "a suspect is not in the table"
        assert {asked for keys in self._depends.values() for asked in keys} == set(self._answers)
        for asked, answer in list(self._answers.items()):
            self._forget_answer(asked)
            assert answer == self._search(asked), f"a stale answer to {asked}"


def _discard(index: dict[str, dict[str, Description]], key: str, instance: str) -> None:
    entries = index.get(key)
    if entries is None:
        return
    entries.pop(instance, None)  # a capability named twice in one description is there once
    if not entries:
        del index[key]
