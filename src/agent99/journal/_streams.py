"""What a stream is told to be, and what it says of itself, in JetStream's form and in ours."""

from __future__ import annotations

from typing import Any

from agent99.errors import JournalError
from agent99.journal._api import (
    STREAM_NAME_IN_USE,
    Cluster,
    Done,
    StreamInfo,
    StreamList,
    error_of,
    nanoseconds,
)
from agent99.journal._client import JetStreamClient
from agent99.journal._port_buckets import BucketConfig
from agent99.journal._port_streams import Replica, StreamConfig, StreamState

BUCKET_PREFIX = "KV_"
MARKER_TTL_S = 60
"""How long the notice of a deleted or expired key stays, so that followers hear of it."""
_DUPLICATE_WINDOW_S = 120.0
CONSUMERS_MAX = 65_536
"""Of one stream. Each group has one for each partition in hand, and a server from 2.15 on allows a
thousand where it is not told."""
_TOO_MANY_CONSUMERS = 10026
_NO_SUCH = 10043
_NO_MESSAGE = frozenset({"no message found", "stream store EOF"})
"""In these words, under a code for any failure, a message is missed that is gone, or not yet."""


def stream_settings(config: StreamConfig) -> dict[str, Any]:
    """Return the API's form of a stream's configuration."""
    window_s = min(config.duplicate_window_s, config.age_s_max or config.duplicate_window_s)
    return {
        "name": config.name,
        "subjects": list(config.subjects),
        "retention": "workqueue" if config.retention == "work" else "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs": config.messages_max,
        "max_bytes": config.bytes_max,
        "max_msg_size": config.message_bytes_max,
        "max_age": nanoseconds(config.age_s_max),
        "duplicate_window": nanoseconds(window_s),
        "num_replicas": config.replicas,
        "allow_direct": True,
        **({"deny_delete": True, "deny_purge": True} if config.is_permanent else {}),
    }


def bucket_settings(config: BucketConfig) -> dict[str, Any]:
    """Return the API's form of a bucket's configuration: what every client's key-value expects."""
    return {
        "name": BUCKET_PREFIX + config.name,
        "subjects": [f"$KV.{config.name}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs": -1,
        "max_msgs_per_subject": 1,
        "deny_delete": True,
        **_bucket_changes(config),
    }


def _bucket_changes(config: BucketConfig) -> dict[str, Any]:
    """Return what is also put right in a bucket that another client made."""
    window_s = min(_DUPLICATE_WINDOW_S, config.ttl_s or _DUPLICATE_WINDOW_S)
    return {
        "max_bytes": config.bytes_max,
        "max_age": nanoseconds(config.ttl_s),
        "duplicate_window": nanoseconds(window_s),
        "num_replicas": config.replicas,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": nanoseconds(MARKER_TTL_S),
    }


async def ensure_stream(client: JetStreamClient, config: StreamConfig) -> None:
    """Create the stream, or change it to fit `config`."""
    settings = stream_settings(config)
    await _ensure(client, settings, settings)


async def ensure_bucket(client: JetStreamClient, config: BucketConfig) -> None:
    """Create the bucket, or change it to fit `config`; an existing one keeps its history."""
    await _ensure(client, bucket_settings(config), _bucket_changes(config))


async def stream_info(client: JetStreamClient, name: str, *, deadline_s: float) -> StreamInfo:
    """Return what the server says of a stream.

    Raises:
        StreamNotFoundError, and as `JetStreamClient.call`.
    """
    info = await client.call(f"STREAM.INFO.{name}", None, StreamInfo, deadline_s=deadline_s)
    if info.error is not None:
        raise error_of(info.error, f"stream {name!r}")
    return info


async def list_streams(client: JetStreamClient, prefix: str) -> tuple[StreamState, ...]:
    """Return the streams whose names begin with `prefix`, by name, buckets left out.

    Raises:
        JournalError: the servers that have some of them do not answer; and as the client's `call`.
    """
    found: dict[str, StreamState] = {}
    deadline_s, seen, total = client.deadline_s(), 0, 1
    while seen < total:
        page = await client.demand(
            "STREAM.LIST", {"offset": seen}, StreamList, deadline_s=deadline_s
        )
        if page.missing:
            raise JournalError(f"no word of the streams {', '.join(page.missing)}")
        for info in page.streams or ():
            name = info.config["name"]
            if name.startswith(prefix) and not name.startswith(BUCKET_PREFIX):
                found[name] = stream_state_of(info)
        seen, total = seen + len(page.streams or ()), page.total if page.streams else 0
    return tuple(found[name] for name in sorted(found))


async def delete_message(client: JetStreamClient, stream: str, sequence: int) -> None:
    """Delete one message; to delete none is fine.

    The server is not asked to overwrite it: for that it rewrites a whole block of messages, and
    where the disk has no room for one, the stream is frozen until the server is restarted.
    """
    request = {"seq": sequence, "no_erase": True}
    answer = await client.call(
        f"STREAM.MSG.DELETE.{stream}", request, Done, deadline_s=client.deadline_s()
    )
    error = answer.error
    if error is not None and error.description not in _NO_MESSAGE and error.err_code != _NO_SUCH:
        raise error_of(error, f"stream {stream!r}")


def stream_state_of(info: StreamInfo) -> StreamState:
    """Return our form of what the server says of a stream."""
    counts, config = info.state, info.config
    return StreamState(
        config=StreamConfig(
            name=config["name"],
            subjects=tuple(config.get("subjects") or ()),
            retention="work" if config.get("retention") == "workqueue" else "limits",
            messages_max=config.get("max_msgs", -1),
            bytes_max=config.get("max_bytes", -1),
            message_bytes_max=config.get("max_msg_size", -1),
            age_s_max=config.get("max_age", 0) / 1e9,
            duplicate_window_s=config.get("duplicate_window", 0) / 1e9,
            replicas=config.get("num_replicas", 1),
            is_permanent=config.get("deny_delete", False) and config.get("deny_purge", False),
        ),
        messages=counts.messages,
        bytes=counts.bytes,
        first_sequence=counts.first_seq if counts.messages else counts.last_seq + 1,
        last_sequence=counts.last_seq,
        replicas=_replicas(info.cluster),
    )


def _replicas(cluster: Cluster | None) -> tuple[Replica, ...]:
    if cluster is None:
        return ()
    followers = (
        Replica(peer.name, is_leader=False, is_current=peer.current and not peer.offline)
        for peer in cluster.replicas or ()
    )
    leader = (Replica(cluster.leader, is_leader=True, is_current=True),) if cluster.leader else ()
    return (*leader, *followers)


async def _ensure(
    client: JetStreamClient, settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    name = settings["name"]
    deadline_s = client.deadline_s()
    widest = settings | {"max_consumers": CONSUMERS_MAX}
    made = await client.call(f"STREAM.CREATE.{name}", widest, StreamInfo, deadline_s=deadline_s)
    if made.error is not None and made.error.err_code == _TOO_MANY_CONSUMERS:
        # The account allows fewer, and that is its operator's wish.
        made = await client.call(
            f"STREAM.CREATE.{name}", settings, StreamInfo, deadline_s=deadline_s
        )
    if made.error is None:
        return
    if made.error.err_code != STREAM_NAME_IN_USE:
        raise error_of(made.error, f"stream {name!r}")
    known = await client.demand(f"STREAM.INFO.{name}", None, StreamInfo, deadline_s=deadline_s)
    merged = known.config | changes
    # More copies than this process knows of are an operator's wish: they are not taken back.
    merged["num_replicas"] = max(merged["num_replicas"], known.config.get("num_replicas", 1))
    if merged != known.config:
        await client.demand(f"STREAM.UPDATE.{name}", merged, StreamInfo, deadline_s=deadline_s)
