"""Have a group begin elsewhere, whoever has its partitions; or be no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent99.agent import Agent
from agent99.envelope import Pattern, parse_name
from agent99.errors import JournalError, UsageError, WrongSequenceError
from agent99.groups._parts import open_bucket, parts_of
from agent99.groups._place import Charter, Place, Progress, decode, encode, reset
from agent99.groups._start import Start, check_start, find_beginning
from agent99.groups._view import Keys
from agent99.journal import Bucket

if TYPE_CHECKING:
    from agent99.agent import Mesh

_TRIES_MAX = 100
"""An owner writes once a second, and when it hands out what is suspect."""


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
    parts, group = parts_of(of), parse_name("group", name)
    check_start(start)
    bucket, keys = await open_bucket(parts), Keys(group)
    charter = await read_charter(bucket, group)
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
    for partition in range(charter.partitions):
        await place_at(bucket, keys, partition, beginning.progress(partition))
    return beginning.position


async def delete_group(of: Mesh | Agent, name: str) -> None:
    """Forget a group that has no members any more: how far it was, and that it was.

    Raises:
        UsageError: there is no such group, or it has members.
        InvalidNameError: the name breaks the grammar.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    group = parse_name("group", name)
    bucket, keys = await open_bucket(parts_of(of)), Keys(group)
    await read_charter(bucket, group)
    entries = await bucket.snapshot(keys.everything)
    members = [entry.key for entry in entries if entry.key.startswith(keys.member(""))]
    if members:
        raise UsageError(f"group {group!r} has {len(members)} members: it cannot be deleted")
    for entry in sorted(entries, key=lambda entry: entry.key == keys.charter):
        await bucket.delete(entry.key)  # the charter last: until then it can be tried again


async def read_charter(bucket: Bucket, group: str) -> Charter:
    """Return what a group is.

    Raises:
        UsageError: there is none of this name.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    entry = await bucket.get(Keys(group).charter)
    charter = None if entry is None else decode(entry.value, Charter)
    if charter is None:
        raise UsageError(f"there is no group {group!r} on this mesh")
    return charter


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
