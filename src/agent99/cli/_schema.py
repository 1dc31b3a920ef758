"""What the JSON Schema of a payload says of its fields. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from agent99.agent import Peer


def fields_of(schema: Mapping[str, Any]) -> dict[str, bool] | None:
    """Return the fields of a payload, and whether each must be there; None: it takes any."""
    root = schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        root = schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
    if "properties" not in root:
        return None
    required = set(root.get("required", ()))
    return {name: name in required for name in root["properties"]}


def unknown_fields(
    peers: Iterable[Peer], operation: str, payload: Mapping[str, Any]
) -> dict[str, str]:
    """Return the payload's fields that none of the peers knows, each with a sentence that says so.

    An agent ignores them, so that an older one understands a younger caller: a misspelt one is
    never refused.
    """
    offered = [about for peer in peers for about in peer.description.operations]
    found = [fields_of(about.request) for about in offered if about.name == operation.lower()]
    if not found or None in found:
        return {}
    known = {name: None for fields in found for name in fields or ()}
    return {
        name: f"{operation} has no field {name!r}; {_hint(name, known)}"
        for name in payload
        if name not in known
    }


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known) or 'none'}"
