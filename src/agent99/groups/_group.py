"""A group that is handed batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent99.agent import Agent
from agent99.groups._batch_lane import BatchLane, Handler
from agent99.groups._lane import Hold, Lane
from agent99.groups._member import Member
from agent99.groups._options import GroupOptions
from agent99.groups._place import Progress

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.store import Store


class Group(Member):
    """One member of a group that works on the stored events of some topics, in order per key.

    The keys are spread over 64 partitions. The members of a group, in as many processes as there
    are, share these evenly; each partition has one owner at a time, who hands its events to the
    handler in the order of the log, one batch at a time. Members may come, go and die at any time.

        async with Group(mesh, "billing", ("order.*",), handle):
            ...

    Args:
        of: The open mesh, or an agent that runs on it.
        name: The group's, by the grammar of names.
        topics: Patterns of the topics that it reads; they must not overlap. What a group reads is
            fixed when its first member creates it.
        handler: Is given a `Batch`; returned = done. Batches of different partitions are handed to
            it side by side. What it raises is logged, and the batch comes again, after a pause that
            grows: what lies behind it in its partition waits.
        store: Where the effects are: the position that its transactions keep (`Batch.fresh`) is
            the one that counts.
        options: The bounds, and how it works.

    Delivery: at least once, in the order of the log per key. After a crash the events of the last
        `commit_s` come again. A member that stood still may, when it goes on, do once more what it
        was at, beside the new owner: an effect in the store is refused then, since it carries the
        epoch (`Batch.fresh`), and so takes place exactly once and in order; one elsewhere is not.
        An event of the group's that is redriven from quarantine comes to it alone, as the next of
        its key.

    Raises:
        UsageError, InvalidNameError: the name or the topics; nothing was sent.
        ClosedError: the mesh is not open.
    """

    def __init__(
        self,
        of: Mesh | Agent,
        name: str,
        topics: Iterable[str],
        handler: Handler,
        *,
        store: Store | None = None,
        options: GroupOptions | None = None,
    ) -> None:
        super().__init__(of, name, topics, store=store, options=options or GroupOptions())
        self.handler = handler
        """What it hands batches to."""
        self.is_in_store = store is not None

    def lane(self, partition: int, tenure: Hold, progress: Progress) -> Lane:
        """Private to the room: return what works off a partition."""
        return BatchLane(self, partition, tenure, progress, self.handler)
