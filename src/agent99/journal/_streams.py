"""What a stream is told to be: JetStream's form of `StreamConfig` and `BucketConfig`."""

from __future__ import annotations

from typing import Any

from agent99.journal._api import STREAM_NAME_IN_USE, StreamInfo, error_of, nanoseconds
from agent99.journal._client import JetStreamClient
from agent99.journal._port import BucketConfig, StreamConfig

MARKER_TTL_S = 60
"""How long the notice of a deleted or expired key stays, so that followers hear of it."""
_DUPLICATE_WINDOW_S = 120.0


def stream_settings(config: StreamConfig) -> dict[str, Any]:
    """Return the API's form of a stream's configuration."""
    window_s = min(config.duplicate_window_s, config.age_s_max or config.duplicate_window_s)
    return {
        "name": config.name,
        "subjects": list(config.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs": config.messages_max,
        "max_bytes": config.bytes_max,
        "max_age": nanoseconds(config.age_s_max),
        "duplicate_window": nanoseconds(window_s),
        "num_replicas": config.replicas,
        "allow_direct": True,
    }


def bucket_settings(config: BucketConfig) -> dict[str, Any]:
    """Return the API's form of a bucket's configuration: what every client's key-value expects."""
    return {
        "name": f"KV_{config.name}",
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


async def _ensure(
    client: JetStreamClient, settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    name = settings["name"]
    deadline_s = client.deadline_s()
    made = await client.call(f"STREAM.CREATE.{name}", settings, StreamInfo, deadline_s=deadline_s)
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
