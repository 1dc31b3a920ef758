"""The verbs whose messages are stored: `append` and `post`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent99.agent._answers import checked_key
from agent99.envelope import (
    Header,
    Key,
    Name,
    encode_message,
    encode_user_headers,
    parse_event_id,
    parse_key,
    parse_name,
    parse_topic,
)
from agent99.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent99.agent._caller import Caller
    from agent99.agent._link import Link


class Label(msgspec.Struct, frozen=True, gc=False):
    """What stands on an event beside its topic; see `Mesh.append`."""

    key: str | None
    headers: Mapping[str, str] | None
    event_id: str | None


async def append(caller: Caller, link: Link, topic: str, event: Any, label: Label) -> str:
    """Store an event, and return its id; see `Mesh.append`."""
    parsed = parse_topic(topic)
    body = caller.body(event)
    user = encode_user_headers(label.headers) if label.headers else b""
    if label.event_id is not None:
        event_id = parse_event_id(label.event_id)
        token = parse_key(event_id if label.key is None else label.key)
    else:
        event_id = link.ids.uuid()
        token = Key(event_id) if label.key is None else parse_key(label.key)
    header = Header(
        type="event",
        from_uuid=caller.from_uuid,
        to_uuid=parsed,
        event_uuid=event_id,
        timestamp=link.clock.wall_us(),
        traceparent=caller.traceparent(),
    )
    message = encode_message(header, body, user)
    await link.durable.log.append(parsed, token, message, message_id=event_id)
    return event_id


async def post(
    caller: Caller,
    link: Link,
    capability: str,
    operation: str,
    payload: Any,
    *,
    headers: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> str:
    """Store work for a capability, and return its id; see `Mesh.post`."""
    target, verb = parse_name("capability", capability), parse_name("operation", operation)
    body = caller.body(payload)
    user = encode_user_headers(headers) if headers else b""
    _check_job(link, target, verb)
    event_id = link.ids.uuid()
    header = Header(
        type="request",
        from_uuid=caller.from_uuid,
        to_uuid=target,
        event_uuid=event_id,
        timestamp=link.clock.wall_us(),
        operation=verb,
        traceparent=caller.traceparent(),
        idempotency_key=checked_key(idempotency_key),
    )
    message = encode_message(header, body, user)
    await link.durable.jobs.post(target, verb, message, message_id=event_id)
    return event_id


def _check_job(link: Link, capability: Name, operation: Name) -> None:
    """Refuse what those who offer the capability would never take in hand.

    With nobody there it is stored: somebody may come.

    Raises:
        UsageError
    """
    known = link.registry.table.candidates(capability)
    jobs = {info.name for one in known for info in one.operations if info.is_job}
    if known and operation not in jobs:
        those = f"there are: {', '.join(sorted(jobs))}" if jobs else "mark one with @job"
        raise UsageError(f"no operation {operation!r} of {capability!r} takes jobs; {those}")
