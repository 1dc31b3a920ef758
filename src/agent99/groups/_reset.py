"""Have a group begin elsewhere, whoever has its partitions; or be no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent99.agent import Agent
from agent99.envelope import Name, Pattern, parse_name
from agent99.errors import JournalError, UsageError, WrongSequenceError
from agent99.groups._parts import Parts, open_bucket, parts_of, subjects_of
from agent99.groups._place import Charter, Place, Progress, decode, encode, reset
from agent99.groups._start import Beginning, Start, check_start, find_beginning
from agent99.groups._view import Keys
from agent99.journal import Bucket

if TYPE_CHECKING:
    from agent99.agent import Mesh

_TRIES_MAX = 100
"""An owner writes once a second, and when it hands out what is suspect."""


class ResetPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a group would have before it, were it reset now."""

    position: int
    """The sequence behind which it would go on."""
    lag: int
    """Events that would come to it."""


async def reset_group(of: Mesh | Agent, name: str, start: Start) -> int:
    """Have a group go on from elsewhere, back or forth; other groups notice nothing.

    Its members may be at work: each lets go of what it has in hand, within a moment, and goes on
    from there. What was appended then comes to them once more, or is left out.

    Args:
        of: The open mesh, or an agent that runs on it.
        name: The group's.
        start: Where it goes on.

    Returns:
        The sequence behind which it goes on.

    Raises:
        UsageError: there is no such group; its positions are in a store of its members, where they
            stay; or `start` is none, or in the future.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError: some
            partitions may have been reset: do it again.
    """
    aim = await _aim(of, name, start)
    bucket, keys = await open_bucket(aim.parts), Keys(aim.group)
    for partition in range(aim.charter.partitions):
        await place_at(bucket, keys, partition, aim.beginning.progress(partition))
    return aim.beginning.position


async def preview_reset(of: Mesh | Agent, name: str, start: Start) -> ResetPreview:
    """Return what `reset_group` would do, and do nothing.

    Args:
        of: The open mesh, or an agent that runs on it.
        name: The group's.
        start: Where it would go on.

    Raises:
        as `reset_group`.
    """
    aim = await _aim(of, name, start)
    parts, beginning = aim.parts, aim.beginning
    behind = await parts.journal.backlog(
        parts.streams.log,
        subjects_of(parts.subjects, aim.group, aim.charter.topics),
        from_sequence=beginning.position + 1,
    )
    still_open = sum(map(len, beginning.open.values()))
    return ResetPreview(position=beginning.position, lag=still_open + behind.count)


class _Aim(NamedTuple):
    """Which group is meant, and where it shall go on."""

    parts: Parts
    group: Name
    charter: Charter
    beginning: Beginning


async def _aim(of: Mesh | Agent, name: str, start: Start) -> _Aim:
    parts, group = parts_of(of), parse_name("group", name)
    check_start(start)
    charter = await read_charter(await open_bucket(parts), group)
    if charter.is_in_store:
        raise UsageError(
            f"the positions of group {group!r} are in a store of its members, with its effects:"
            " begin anew under another name"
        )
    beginning = await find_beginning(
        parts.journal,
        parts.streams.log,
        [parts.subjects.log_listen(Pattern(topic)) for topic in charter.topics],
        start,
        now_us=parts.clock.wall_us(),
        partitions=charter.partitions,
    )
    return _Aim(parts, group, charter, beginning)


async def delete_group(of: Mesh | Agent, name: str) -> None:
    """Forget a group that has no members any more: how far it was, and that it was.

    Raises:
        UsageError: there is no such group, or it has members.
        InvalidNameError: the name breaks the grammar.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    group = parse_name("group", name)
    bucket, keys = await open_bucket(parts_of(of)), Keys(group)
    charter = await bucket.get(keys.charter)
    if charter is None:
        raise UsageError(no_group(group))
    await bucket.delete(keys.charter, revision=charter.revision)
    entries = await bucket.snapshot(keys.everything)
    members = [entry.key for entry in entries if entry.key.startswith(keys.member(""))]
    if members:  # looked for now, so that none can join unseen: it looks for the charter then
        await bucket.create(keys.charter, charter.value)
        raise UsageError(f"group {group!r} has {len(members)} members: it cannot be deleted")
    for entry in entries:
        await bucket.delete(entry.key)


async def read_charter(bucket: Bucket, group: str) -> Charter:
    """Return what a group is.

    Raises:
        UsageError: there is none of this name.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    entry = await bucket.get(Keys(group).charter)
    charter = None if entry is None else decode(entry.value, Charter)
    if charter is None:
        raise UsageError(no_group(group))
    return charter


def no_group(group: str) -> str:
    """Return in words that there is no such group."""
    return f"there is no group {group!r} on this mesh"


async def place_at(bucket: Bucket, keys: Keys, partition: int, progress: Progress) -> None:
    """Have a partition begin elsewhere, whoever owns it.

    Raises:
        JournalError: its entry changes all the time.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    key = keys.place(partition)
    for _ in range(_TRIES_MAX):
        entry = await bucket.get(key)
        place = None if entry is None else decode(entry.value, Place)
        value = encode(reset(place or Place(), progress))
        try:
            if entry is None:
                await bucket.create(key, value)
            else:
                await bucket.update(key, value, revision=entry.revision)
        except WrongSequenceError:
            continue
        return
    raise JournalError(f"{key!r} changes all the time")
