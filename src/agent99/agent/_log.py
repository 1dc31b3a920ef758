"""The log of one instance: every line says who, and about which request."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from agent99.dispatch import find_context


class AgentLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds `agent`, `instance`, `event_id` and `trace_id` to each record.

    The first three stand in its text too.
    """

    def __init__(self, agent: str, instance: str) -> None:
        super().__init__(logging.getLogger(f"agent99.agent.{agent}"), {})
        self._agent = agent
        self._instance = instance

    def __repr__(self) -> str:
        return f"AgentLog({self._agent!r}, {self._instance!r})"

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add who speaks, and of which request."""
        context = find_context()
        event_id = context.event_id if context is not None else ""
        extra = {
            "agent": self._agent,
            "instance": self._instance,
            "event_id": event_id,
            "trace_id": context.trace.trace_id if context is not None else "",
        }
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        about = f" [{event_id}]" if event_id else ""
        return f"{self._agent} {self._instance[:8]}{about} {msg}", kwargs
