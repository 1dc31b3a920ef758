"""The registry's periods and bounds, and what it counts."""

from __future__ import annotations

import msgspec

from agent99.errors import UsageError


class RegistryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Every period and bound of the registry. All processes of a mesh use the same.

    With the defaults a process that was killed is gone from every table within 8 s, the keeper too:
    its lease ends after 7 s at the latest, and the keeper removes it. When the keeper died as well,
    the 8 s count from the last death: a successor is there after 4 s, and needs one round more.
    A server tells of what ran out a quarter of a second late.
    """

    lease_s: int = 7
    """Whole seconds without a refresh after which a process counts as dead; at least 1."""
    lease_refresh_s: float = 2.25
    """Seconds between refreshes, with a tenth of jitter: three of them must fit into a lease."""
    keeper_s: int = 3
    """Whole seconds without a refresh after which the keeper is replaced; at least 1."""
    keeper_refresh_s: float = 0.9
    """Seconds between the keeper's refreshes, and between looks whether there is one."""
    keeper_lookers: int = 16
    """How many processes, of however many, look each period whether there is a keeper."""
    rejoin_jitter_s: float = 1.0
    """At most this many seconds, drawn, between the link's return and the first writes."""
    retry_s_min: float = 0.1
    """Seconds before a failed background task starts again; doubled each time, with full jitter."""
    retry_s_max: float = 2.0
    """The longest such wait in seconds."""
    start_s: float = 10.0
    """Seconds within which `start` must have read the registry."""
    suspect_s: float = 10.0
    """Seconds for which an instance stands behind the others after a request to it failed."""
    writes_max: int = 64
    """How many writes of this process are under way at once."""
    replicas: int = 1
    """Copies of the buckets in a cluster."""

    def __post_init__(self) -> None:
        """Refuse periods that do not fit each other.

        Raises:
            UsageError: naming the field.
        """
        positive = ("lease_s", "lease_refresh_s", "keeper_s", "keeper_refresh_s", "retry_s_min")
        for name in (*positive, "start_s", "suspect_s", "writes_max", "keeper_lookers"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0")
        if self.lease_refresh_s * 3 > self.lease_s:
            raise UsageError("lease_refresh_s must be at most a third of lease_s")
        if self.keeper_refresh_s * 2 > self.keeper_s:
            raise UsageError("keeper_refresh_s must be at most half of keeper_s")
        if self.retry_s_max < self.retry_s_min:
            raise UsageError("retry_s_max must be at least retry_s_min")


class RegistryStatistics(msgspec.Struct, frozen=True):
    """Counts since the registry was made."""

    instances: int
    """Descriptions in the table now."""
    processes: int
    """Processes that hold them."""
    is_keeper: bool
    """Whether this process removes the dead now."""
    unreadable: int
    """Records that this release could not read and skipped."""
    refreshes: int
    """Times that this process's lease was refreshed."""
    written: int
    """Descriptions of this process written, again and again included."""
    lost: int
    """Times that a description of this process was missing and had to be written again."""
    removed: int
    """Descriptions of the dead that this process removed, as keeper."""
    failures: int
    """Times that a background task failed and started again."""
