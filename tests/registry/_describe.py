"""Descriptions for tests."""

from __future__ import annotations

from typing import Any

from agent99.registry import Description, OperationInfo


def describe(
    instance: str = "i1", name: str = "orders", *capabilities: str, **fields: Any
) -> Description:
    """Return a description that is ready and offers what is named."""
    operations = fields.pop("operations", ("request",))
    fields.setdefault("state", "ready")
    return Description(
        instance=instance,
        name=name,
        capabilities=capabilities or ("order_processing",),
        operations=tuple(OperationInfo(operation) for operation in operations),
        **fields,
    )
