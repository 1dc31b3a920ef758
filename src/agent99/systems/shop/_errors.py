"""What can go wrong in the shop apart from an order that is refused."""

from __future__ import annotations

from agent99.errors import Agent99Error, UsageError


class MoneyError(UsageError, ValueError):
    """An amount that is no sum of money; a `ValueError`, so that a decode adds the path."""

    code = "MONEY"

    def __init__(self, field: str, value: object, rule: str) -> None:
        shown = str(value)
        if len(shown) > 40:
            shown = f"{shown[:40]}…"
        super().__init__(f"`{field}` is {shown}: {rule}")
        self.field = field
        """The field that holds it."""
        self.value = value
        self.rule = rule
        """The rule that it breaks."""


class IllegalTransitionError(Agent99Error):
    """An event that has no place in the state that the order is in; nothing changed."""

    code = "ILLEGAL_TRANSITION"

    def __init__(self, state: str, event: str, legal: tuple[str, ...]) -> None:
        may = ", ".join(legal) if legal else "nothing: the state is final"
        super().__init__(f"an order that is {state!r} cannot take {event!r}; it may take {may}")
        self.state = state
        self.event = event
        self.legal = legal
        """The events that the state does take, sorted."""


class ProviderError(Agent99Error):
    """A channel did not carry a message, or did and could not say so; another may."""

    code = "PROVIDER"

    def __init__(self, channel: str, reason: str, *, retryable: bool = True) -> None:
        super().__init__(f"{channel} {reason}")
        self.channel = channel
        self.reason = reason
        """What is wrong with it, in words."""
        self.retryable = retryable
        """Whether the same channel may work later; not where it cannot reach this customer."""


class DataFileError(UsageError):
    """A file that is no year of retail; names the file, and the column where one is to blame."""

    code = "DATA_FILE"

    def __init__(self, path: str, rule: str, *, column: str | None = None) -> None:
        where = f"column {column!r} of {path}" if column else path
        super().__init__(f"{where}: {rule}")
        self.path = path
        self.column = column
        """The column, or None where the whole file is meant."""
        self.rule = rule
        """What is wrong, in words."""
