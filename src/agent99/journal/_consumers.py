"""What a consumer is told to be, and what it says of itself, in JetStream's form and in ours."""

from __future__ import annotations

from typing import Any

from agent99.errors import JournalError
from agent99.journal._api import (
    CONSUMER_NAME_IN_USE,
    CONSUMER_NOT_FOUND,
    STREAM_NOT_FOUND,
    ConsumerInfo,
    ConsumerList,
    Done,
    error_of,
    microseconds,
    nanoseconds,
    rfc3339,
)
from agent99.journal._client import JetStreamClient
from agent99.journal._port_consumers import ConsumerConfig, ConsumerState
from agent99.journal._streams import stream_info

_WAITING_MAX = 2_048
"""Requests for messages that wait at the server: two of each process that consumes."""


def consumer_settings(config: ConsumerConfig) -> dict[str, Any]:
    """Return the API's form of a consumer's configuration."""
    return {
        "name": config.name,
        "durable_name": config.name,
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "max_waiting": _WAITING_MAX,
        **_start(config),
        **_consumer_changes(config),
    }


def _start(config: ConsumerConfig) -> dict[str, Any]:
    if config.from_sequence is not None:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": config.from_sequence}
    if config.from_us is not None:
        return {"deliver_policy": "by_start_time", "opt_start_time": rfc3339(config.from_us)}
    return {"deliver_policy": "new" if config.start == "new" else "all"}


def _consumer_changes(config: ConsumerConfig) -> dict[str, Any]:
    """Return what can be changed in a consumer that is there."""
    changes: dict[str, Any] = {
        "ack_wait": nanoseconds(config.ack_wait_s),
        "max_deliver": config.deliveries_max,
        "max_ack_pending": config.in_flight_max,
        "filter_subjects": list(config.subjects),
    }
    if config.inactive_s:
        changes["inactive_threshold"] = nanoseconds(config.inactive_s)
    return changes


async def ensure_consumer(
    client: JetStreamClient, config: ConsumerConfig, *, deadline_s: float
) -> ConsumerInfo:
    """Create the consumer, or change it to fit `config`, but for its start.

    Raises:
        StreamNotFoundError
        JournalError: it cannot be made, or changed so; and as `JetStreamClient.call`.
    """
    what = f"consumer {config.name!r} of stream {config.stream!r}"
    verb = f"CONSUMER.CREATE.{config.stream}.{config.name}"
    request = {"stream_name": config.stream, "config": consumer_settings(config)}
    made = await client.call(
        verb, request | {"action": "create"}, ConsumerInfo, deadline_s=deadline_s
    )
    if made.error is not None and made.error.err_code == CONSUMER_NAME_IN_USE:
        known = await client.demand(
            f"CONSUMER.INFO.{config.stream}.{config.name}",
            None,
            ConsumerInfo,
            deadline_s=deadline_s,
        )
        kept = {
            name: value
            for name, value in known.config.items()
            if name not in ("filter_subject", "filter_subjects", "inactive_threshold")
        }
        request["config"] = kept | _consumer_changes(config)
        made = await client.call(
            verb, request | {"action": "update"}, ConsumerInfo, deadline_s=deadline_s
        )
    if made.error is not None:
        raise error_of(made.error, what)
    return made


async def find_consumer(
    client: JetStreamClient, stream: str, name: str, *, deadline_s: float
) -> ConsumerInfo | None:
    """Return what the server says of a consumer, or None when there is none.

    Raises:
        StreamNotFoundError, and as `JetStreamClient.call`.
    """
    verb = f"CONSUMER.INFO.{stream}.{name}"
    info = await client.call(verb, None, ConsumerInfo, deadline_s=deadline_s)
    if info.error is None:
        return info
    if info.error.err_code == CONSUMER_NOT_FOUND:
        return None
    raise error_of(info.error, f"consumer {name!r} of stream {stream!r}")


async def list_consumers(
    client: JetStreamClient, stream: str, prefix: str
) -> tuple[ConsumerState, ...]:
    """Return the stream's durable pull consumers whose names begin with `prefix`, by name.

    Raises:
        StreamNotFoundError
        JournalError: the servers that have some of them do not answer; and as the client's `call`.
    """
    found: dict[str, ConsumerState] = {}
    deadline_s, seen, total = client.deadline_s(), 0, 1
    while seen < total:
        page = await client.demand(
            f"CONSUMER.LIST.{stream}", {"offset": seen}, ConsumerList, deadline_s=deadline_s
        )
        if page.missing:
            raise JournalError(f"no word of the consumers {', '.join(page.missing)}")
        for info in page.consumers or ():
            if info.name.startswith(prefix) and "durable_name" in info.config:
                found[info.name] = consumer_state_of(info)
        seen, total = seen + len(page.consumers or ()), page.total if page.consumers else 0
    if not seen:
        # A cluster says of a stream that is not there that it has no consumers.
        await stream_info(client, stream, deadline_s=deadline_s)
    return tuple(found[name] for name in sorted(found))


async def delete_consumer(client: JetStreamClient, stream: str, name: str) -> None:
    """Delete a consumer; deleting none is no error."""
    verb = f"CONSUMER.DELETE.{stream}.{name}"
    answer = await client.call(verb, None, Done, deadline_s=client.deadline_s())
    if answer.error is not None and answer.error.err_code not in (
        CONSUMER_NOT_FOUND,
        STREAM_NOT_FOUND,
    ):
        raise error_of(answer.error, f"consumer {name!r} of stream {stream!r}")


def floor_of(info: ConsumerInfo) -> int:
    """Return up to where all is finished; a cluster tells that only once something is."""
    if info.delivered.consumer_seq == 0:
        return info.delivered.stream_seq
    return info.ack_floor.stream_seq


def consumer_state_of(info: ConsumerInfo) -> ConsumerState:
    """Return our form of what the server says of a consumer."""
    config = info.config
    subjects = config.get("filter_subjects") or [config.get("filter_subject", "")]
    begin = config.get("opt_start_time", "")
    return ConsumerState(
        config=ConsumerConfig(
            stream=info.stream_name,
            name=info.name,
            subjects=tuple(filter(None, subjects)),
            start="new" if config.get("deliver_policy") == "new" else "first",
            from_sequence=config.get("opt_start_seq"),
            from_us=microseconds(begin.encode()) if begin else None,
            ack_wait_s=config.get("ack_wait", 0) / 1e9,
            deliveries_max=config.get("max_deliver", -1),
            in_flight_max=config.get("max_ack_pending", -1),
            inactive_s=config.get("inactive_threshold", 0) / 1e9,
        ),
        pending=info.num_pending,
        in_flight=info.num_ack_pending,
        redelivered=info.num_redelivered,
        delivered_sequence=info.delivered.stream_seq,
        acknowledged_sequence=floor_of(info),
    )
