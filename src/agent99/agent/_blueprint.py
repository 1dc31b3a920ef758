"""From a class to what it offers, read and checked once, before anything is sent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, cast

import msgspec

from agent99.agent._attributes import check_attributes
from agent99.agent._operations import DEFAULT_METHOD, Mark, find_mark
from agent99.agent._signature import Signature
from agent99.dispatch import DEFAULT_OPERATION, Middleware
from agent99.envelope import Name, parse_name
from agent99.errors import UsageError
from agent99.registry import Description, OperationInfo

Kind = Literal["server", "client", "hybrid"]
_BUILT_IN_ACTIONS = frozenset({"shutdown", "pause", "resume", "status", "trace", "update_config"})


class Declared(Protocol):
    """What a class says of itself; `Agent` has the words."""

    name: ClassVar[str]
    kind: ClassVar[Kind | None]
    version: ClassVar[str]
    capabilities: ClassVar[tuple[str, ...]]
    uses: ClassVar[tuple[str, ...]]
    metadata: ClassVar[Mapping[str, str]]
    concurrency_max: ClassVar[int]
    waiting_max: ClassVar[int]
    middleware: ClassVar[tuple[Middleware, ...]]
    _blueprint: ClassVar[object | None]


class Method:
    """One marked method of an agent class."""

    __slots__ = ("attribute", "description", "is_static", "mark", "signature")

    def __init__(self, owner: type, attribute: str, member: Any, mark: Mark) -> None:
        self.attribute = attribute
        self.mark = mark
        self.is_static = isinstance(member, staticmethod)
        function = getattr(member, "__func__", member)
        of = f"{owner.__name__}.{attribute}"
        if mark.runs_in == "process" and not self.is_static:
            raise UsageError(
                f"{of} runs in a process of its own and takes self, which cannot travel there;"
                " make it a static method"
            )
        given = mark.binding.given if mark.binding is not None else frozenset[str]()
        self.signature = Signature(function, takes_self=not self.is_static, of=of, given=given)
        self.description = _first_paragraph(function)

    def __repr__(self) -> str:
        return f"Method({self.signature.of})"

    def info(self) -> OperationInfo:
        """Return the registry's record of it."""
        return OperationInfo(
            name=self.mark.name,
            description=self.description,
            request=self.signature.body.schema(),
            answer=self.signature.answer.schema(),
            idempotent=self.mark.idempotent,
            is_job=self.mark.curve is not None,
        )


class Blueprint:
    """What a class of agents offers.

    Raises:
        UsageError: the class cannot be an agent; names the class or method and why.
    """

    def __init__(self, agent_class: type[Declared]) -> None:
        self.agent_class = agent_class
        own = agent_class.__name__
        check_attributes(agent_class)
        self.name = parse_name(f"agent name for {own}", agent_class.name or _kebab(own))
        self.capabilities = _names(agent_class.capabilities, f"{own}.capabilities")
        self.uses = _names(agent_class.uses, f"{own}.uses")
        methods = list(_methods(agent_class))
        self.operations = _by_name(own, methods, "operation")
        self.controls = _by_name(own, methods, "control")
        self.listeners = [method for method in methods if method.mark.role == "event"]
        self.followers = [method for method in methods if method.mark.role == "follower"]
        self.jobs = [method for method in self.operations.values() if method.mark.curve]
        self.config_class = cast("type[msgspec.Struct]", getattr(agent_class, "Config", None))
        self.kind: Kind = self._kind(agent_class)
        self._check()

    def __repr__(self) -> str:
        return f"Blueprint({self.name!r}, operations={sorted(self.operations)})"

    def describe(self, instance: str) -> Description:
        """Return the registry's record of an instance that is about to start."""
        agent_class = self.agent_class
        return Description(
            instance=instance,
            name=self.name,
            kind=self.kind,
            version=agent_class.version,
            description=_first_paragraph(agent_class),
            capabilities=self.capabilities,
            operations=tuple(self.operations[name].info() for name in sorted(self.operations)),
            uses=self.uses,
            metadata=dict(agent_class.metadata),
        )

    def _kind(self, agent_class: type[Declared]) -> Kind:
        serves, calls = bool(self.operations), bool(self.uses)
        inferred: Kind = "hybrid" if serves and calls else "server" if serves else "client"
        stated = agent_class.kind
        if stated is None:
            return inferred
        if stated not in ("server", "client", "hybrid"):
            raise UsageError(
                f"{agent_class.__name__}.kind is 'server', 'client' or 'hybrid', not {stated!r}"
            )
        if stated != "client" and not serves:
            raise UsageError(f"{agent_class.__name__} says kind {stated!r} and has no operation")
        if stated == "client" and serves:
            raise UsageError(f"{agent_class.__name__} says kind 'client' and has operations")
        if stated == "hybrid" and not calls:
            raise UsageError(f"{agent_class.__name__} says kind 'hybrid' and `uses` is empty")
        return stated

    def _check(self) -> None:
        own = self.agent_class.__name__
        if not (self.capabilities or self.uses or self.listeners or self.followers):
            raise UsageError(
                f"{own} has neither capabilities nor uses: nobody can find it and it finds nobody"
            )
        if self.capabilities and not self.operations:
            raise UsageError(
                f"{own} offers {', '.join(self.capabilities)} and has no operation: write"
                " process_request, or mark methods with @operation"
            )
        if self.jobs and not self.capabilities:
            raise UsageError(
                f"{own}.{self.jobs[0].attribute} takes jobs, which are posted to a capability, and"
                f" {own} has none"
            )
        taken = _BUILT_IN_ACTIONS & set(self.controls)
        if taken:
            raise UsageError(f"{own}: the control action {min(taken)!r} is built in")
        if not (
            isinstance(self.config_class, type) and issubclass(self.config_class, msgspec.Struct)
        ):
            raise UsageError(f"{own}.Config must be a msgspec.Struct")
        try:
            self.config_class()
        except TypeError as error:
            raise UsageError(f"{own}.Config needs a default for every field: {error}") from error


def blueprint_of(agent_class: type[Declared]) -> Blueprint:
    """Return the class's blueprint, read once and kept on the class.

    Raises:
        UsageError: see `Blueprint`.
    """
    kept = agent_class.__dict__.get("_blueprint")
    if kept is None:
        kept = Blueprint(agent_class)
        agent_class._blueprint = kept  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - its cache
    return cast("Blueprint", kept)


def _methods(agent_class: type[Declared]) -> list[Method]:
    found: list[Method] = []
    for attribute in dir(agent_class):
        member = inspect.getattr_static(agent_class, attribute)
        mark = find_mark(agent_class, attribute)
        if mark is None and attribute == DEFAULT_METHOD and callable(member):
            runs_in: Literal["loop", "thread"] = (
                "loop" if inspect.iscoroutinefunction(member) else "thread"
            )
            mark = Mark(role="operation", name=DEFAULT_OPERATION, runs_in=runs_in)
        if mark is not None:
            found.append(Method(agent_class, attribute, member, mark))
    return found


def _by_name(own: str, methods: list[Method], role: str) -> dict[Name, Method]:
    named: dict[Name, Method] = {}
    for method in methods:
        if method.mark.role != role:
            continue
        other = named.get(method.mark.name)
        if other is not None:
            raise UsageError(
                f"{own}: {other.attribute} and {method.attribute} are both the {role}"
                f" {method.mark.name!r}"
            )
        named[method.mark.name] = method
    return named


def _names(texts: Any, of: str) -> tuple[Name, ...]:
    if isinstance(texts, str) or not isinstance(texts, (tuple, list)):
        raise UsageError(f"{of} is a tuple of names, such as ('greeter',), not {texts!r}")
    parsed = (parse_name(f"capability for {of}", text) for text in cast("tuple[Any, ...]", texts))
    return tuple(dict.fromkeys(parsed))


def _kebab(class_name: str) -> str:
    """`OrderProcessingAgent` → `order-processing`."""
    stem = class_name.removesuffix("Agent") or class_name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", stem).strip("_").lower()


def _first_paragraph(documented: Any) -> str:
    doc = inspect.cleandoc(documented.__doc__) if documented.__doc__ else ""
    return " ".join(doc.split("\n\n", 1)[0].split())
