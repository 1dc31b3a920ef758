"""What an instance offers, and which of it a message means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from agent99.dispatch._route import DEFAULT_OPERATION, Route
from agent99.envelope import WIRE_VERSION, Header
from agent99.errors import BadRequestError, UnknownOperationError
from agent99.observe import Kind


class _Action(msgspec.Struct):
    operation: Any = None
    action: Any = None


_decode_action = msgspec.json.Decoder(_Action).decode


class Routes:
    """The routes of one instance for one kind of message, by operation."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._routes: dict[str, Route] = {}

    def __repr__(self) -> str:
        return f"Routes({self._kind!r}, {sorted(self._routes)})"

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def __len__(self) -> int:
        return len(self._routes)

    def add(self, route: Route) -> None:
        """Offer a route."""
        self._routes[route.operation] = route

    def find(self, operation: str) -> Route | None:
        """Return the route of an operation, or None."""
        return self._routes.get(operation)

    def choose(self, route: Route | str, header: Header, body: bytes) -> Route:
        """Return the route that a message means.

        Args:
            route: By its subject: a route, or the name of an operation that is not offered.
            body: The message without its header.

        Raises:
            BadRequestError: another kind of message, or another version of the envelope.
            UnknownOperationError: neither subject nor payload names an operation that is offered.
        """
        if header.type != self._kind:
            raise _bad("$.header.type", f"Expected `{self._kind}`, got `{header.type}`")
        if header.wire != WIRE_VERSION:
            raise _bad(
                "$.header.wire", f"Expected version {WIRE_VERSION}, got version {header.wire}"
            )
        if isinstance(route, str):
            if route != DEFAULT_OPERATION:
                raise self._unknown(route)
            return self.choose_by_payload(body)
        if route.is_default and len(self._routes) > 1:
            return self.choose_by_payload(body)
        return route

    def choose_by_payload(self, body: bytes) -> Route:
        """Return the route that the payload's `operation` or `action` names, else the default one.

        Ruby peers name the operation in the payload.

        Raises:
            UnknownOperationError: it names none that is offered, and there is no default.
            BadRequestError: it is no JSON.
        """
        try:
            action = _decode_action(body)
        except msgspec.ValidationError:
            action = _Action()
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise _bad("$", str(error)) from error
        chosen = ""
        for word in (action.operation, action.action):
            if isinstance(word, str) and word:
                chosen = word.lower()
                if chosen in self._routes:
                    return self._routes[chosen]
        default = self._routes.get(DEFAULT_OPERATION)
        if default is None:
            raise self._unknown(chosen)
        return default

    def _unknown(self, operation: str) -> UnknownOperationError:
        known = sorted(self._routes)
        what = f"there is no operation {operation!r} here" if operation else "no operation is named"
        return UnknownOperationError(
            f"{what}; there are: {', '.join(known) or 'none'}",
            details={"operation": operation, "operations": known},
        )


def _bad(path: str, rule: str) -> BadRequestError:
    return BadRequestError(f"{path}: {rule}", details={"path": path, "rule": rule})
