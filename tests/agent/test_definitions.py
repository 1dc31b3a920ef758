"""A class that cannot be an agent is refused by name, before anything is sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent99 import Agent, Mesh, control, job, on, operation
from agent99.agent._blueprint import blueprint_of
from agent99.envelope import Name
from agent99.errors import InvalidNameError, UsageError
from tests.agent._agents import Greeter, Order, Receipt, Shop, Watcher


def test_the_record_of_a_class_has_its_schemas() -> None:
    """`info` gives what the registry carries: names, kinds, operations with JSON Schema."""
    info = Shop.info()
    assert (info.name, info.kind, info.version) == ("shop", "server", "1.2.3")
    assert info.capabilities == ("shop",)
    assert info.metadata == {"region": "eu"}
    assert info.description == "Takes orders."
    quote = info.operation("quote")
    assert quote is not None
    assert quote.description == "Answer with a price."
    assert quote.answer == {"type": "number"}
    properties = next(iter(quote.request["$defs"].values()))["properties"]
    assert properties["quantity"] == {"type": "integer"}
    assert properties["discount"] == {"type": "number", "default": 0.0}
    assert info.operation("request") is not None
    assert Watcher.info().kind == "client"


def test_a_marked_process_request_stays_the_default_operation() -> None:
    """The mark says more of it; only a name takes it away."""

    class Marked(Agent):
        capabilities = ("marked",)

        @job(attempts_max=3)
        async def process_request(self) -> None:
            """Do it."""

    class Named(Agent):
        capabilities = ("named",)

        @operation(name="other")
        async def process_request(self) -> None:
            """Do it."""

    (info,) = Marked.info().operations
    assert ("request", True) == (info.name, info.is_job)
    assert ["other"] == [info.name for info in Named.info().operations]


def test_a_method_that_overrides_is_what_the_other_one_was() -> None:
    """Its mark is inherited, not where it runs; `None` takes an operation away."""

    class Base(Agent):
        capabilities = ("base",)

        @job(name="file", attempts_max=3)
        async def work(self) -> None:
            """Do it."""

        @operation(idempotent=True)
        async def look(self) -> int:
            """Look."""
            return 1

    class Own(Base):
        async def work(self) -> None:
            """Do it otherwise."""

        def look(self) -> int:  # type: ignore[override]  # a thread instead of the loop
            """Look in a thread."""
            return 2

    class Less(Base):
        look = None  # type: ignore[assignment]  # that is how it is taken away

    file, look = Own.info().operations
    assert ("file", True, "Do it otherwise.") == (file.name, file.is_job, file.description)
    assert ("look", True) == (look.name, look.idempotent)
    assert "thread" == blueprint_of(Own).operations[Name("look")].mark.runs_in
    assert ["file"] == [info.name for info in Less.info().operations]


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("OrderProcessingAgent", "order-processing"),
        ("Agent", "agent"),
        ("HTTPProxy", "http-proxy"),
        ("Cache2Node", "cache2-node"),
    ],
)
def test_a_default_name_is_the_class_name_in_kebab_case(class_name: str, name: str) -> None:
    """Without a trailing `Agent`."""
    made = type(class_name, (Greeter,), {"__module__": __name__})
    assert made.info().name == name


def test_kinds_are_inferred_or_checked() -> None:
    """What is stated must be so."""

    class Both(Greeter):
        uses = ("other",)

    assert Both.info().kind == "hybrid"

    class Wrong(Greeter):
        kind = "client"

    class NoOperation(Agent):
        uses = ("other",)
        kind = "server"

    class NoUses(Greeter):
        kind = "hybrid"

    class Nonsense(Greeter):
        kind = "boss"  # type: ignore[assignment] - the mistake under test

    for bad in (Wrong, NoOperation, NoUses, Nonsense):
        with pytest.raises(UsageError, match=bad.__name__):
            bad.info()


class NeitherNor(Agent):
    """Nobody finds it and it finds nobody."""


class NoOperation(Agent):
    """Offers something and can do nothing."""

    capabilities = ("x",)


class TextForTuple(Greeter):
    """A string where a tuple belongs."""

    capabilities = "greeter"  # type: ignore[assignment] - the mistake under test


class BadCapability(Greeter):
    """A capability that would break a subject."""

    capabilities = ("a.b",)


class BadName(Greeter):
    """A name that would break a subject."""

    name = "a b"


class BadUse(Greeter):
    """A use that would break a subject."""

    uses = (">",)


class TakenAction(Greeter):
    """An action that every agent has."""

    @control
    async def pause(self) -> None:
        """Collide."""


class Twice(Greeter):
    """Two methods for one operation."""

    @operation(name="greet")
    async def again(self) -> None:
        """Collide."""


class NeedyConfig(Greeter):
    """Settings without a default."""

    class Config(msgspec.Struct):
        """Needs a value."""

        n: int


class PlainConfig(Greeter):
    """Settings that are no Struct."""

    class Config:  # type: ignore[assignment] - the mistake under test
        """Nothing."""


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (NeitherNor, "NeitherNor has neither capabilities nor uses"),
        (NoOperation, "NoOperation offers x and has no operation"),
        (TextForTuple, "TextForTuple.capabilities is a tuple"),
        (BadCapability, "'a.b' is no capability for BadCapability.capabilities: "),
        (BadName, "'a b' is no agent name for BadName: "),
        (BadUse, "'>' is no capability for BadUse.uses: "),
        (TakenAction, "the control action 'pause' is built in"),
        (Twice, "again and greet are both the operation 'greet'"),
        (NeedyConfig, "NeedyConfig.Config needs a default for every field"),
        (PlainConfig, "PlainConfig.Config must be a msgspec.Struct"),
    ],
)
async def test_a_class_that_cannot_be_an_agent_is_refused(
    agent: type[Agent], words: str, mesh: Mesh
) -> None:
    """The error names the class and why; hosting it announces nothing."""
    with pytest.raises(UsageError, match=words):
        agent.info()
    with pytest.raises(UsageError, match=words):
        await mesh.host(agent())
    assert mesh.hosted == []


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("name", 0),
        ("version", 3),
        ("version", ""),
        ("version", "\ud800"),
        ("metadata", None),
        ("metadata", {"zone": 1}),
        ("metadata", {"zone": object()}),
        ("metadata", {1: "zone"}),
        ("metadata", {"zone": "\ud800"}),
        ("concurrency_max", 0),
        ("concurrency_max", -1),
        ("concurrency_max", "5"),
        ("concurrency_max", 1.5),
        ("concurrency_max", True),
        ("waiting_max", -1),
        ("waiting_max", None),
        ("middleware", (5,)),
        ("middleware", print),
    ],
)
def test_an_attribute_of_the_wrong_form_is_said_by_name(attribute: str, value: Any) -> None:
    """When the class is read, with the value, and not by whoever uses it later."""
    wrong = type("Wrong", (Greeter,), {attribute: value})
    with pytest.raises(UsageError, match=rf"^Wrong\.{attribute} is a .*, not ") as caught:
        wrong.info()
    assert str(caught.value).endswith(repr(value))


def test_attributes_at_their_bounds_hold() -> None:
    """The smallest bounds, and no labels, are right."""
    bounds = {"concurrency_max": 1, "waiting_max": 0, "metadata": {}, "middleware": []}
    assert type("Least", (Greeter,), bounds).info().name == "least"


class Opaque:
    """No schema."""


def method(source: Any) -> type[Agent]:
    """Return an agent class with one operation."""
    return type("Bad", (Agent,), {"capabilities": ("x",), "work": operation(source)})


async def no_annotation(self: Any, a) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001 - the mistake under test
    """Lack a parameter's type."""


async def no_return(self: Any, a: int):  # type: ignore[no-untyped-def]  # noqa: ANN201 - the mistake under test
    """Lack the return type."""


async def star(self: Any, *a: int) -> int:
    """Take any number."""
    return 1


async def stars(self: Any, **a: int) -> int:
    """Take any names."""
    return 1


async def positional(self: Any, a: int, /) -> int:
    """Take no names."""
    return 1


async def opaque(self: Any, a: Opaque) -> int:
    """Take what is no schema."""
    return 1


async def opaque_within(self: Any, a: int, b: list[Opaque]) -> int:
    """Take what holds what is no schema."""
    return 1


async def opaque_result(self: Any) -> Opaque:
    """Give what is no schema."""
    return Opaque()


async def takes_header(self: Any, header: str) -> int:
    """Take the envelope's own field."""
    return 1


async def unknown(self: Any, a: int) -> int:
    """Name a type that is not there."""
    return a


unknown.__annotations__["a"] = "Missing"


async def selfless() -> int:
    """Take no self."""
    return 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (no_annotation, "Bad.work: the parameter 'a' has no annotation"),
        (no_return, "Bad.work: the return type has no annotation"),
        (star, "Bad.work: .* cannot be a field"),
        (stars, "Bad.work: .* cannot be a field"),
        (positional, "Bad.work: .* cannot be a field"),
        (opaque, "Bad.work: the parameter 'a' of type Opaque cannot .*: it is, or .* types$"),
        (opaque_within, r"Bad.work: the parameter 'b' of type list\[.*Opaque\] cannot .* types$"),
        (opaque_result, "Bad.work: .*Opaque"),
        (takes_header, "Bad.work: the parameter 'header'"),
        (unknown, "Bad.work: an annotation cannot be read"),
        (selfless, "Bad.work takes no self"),
    ],
)
def test_a_signature_that_cannot_be_a_schema_names_the_method(source: Any, words: str) -> None:
    """The annotations are the schema; what is missing or odd is said of which operation."""
    with pytest.raises(UsageError, match=words):
        method(source).info()


def test_a_payload_type_may_have_no_field_header() -> None:
    """The envelope's own header stands there."""
    held = msgspec.defstruct("Held", [("header", str), ("a", int)])

    async def work(self: Any, order: held) -> None:  # type: ignore[valid-type] - a type made at run time
        """Take it."""

    work.__annotations__ = {"order": held, "return": None}
    with pytest.raises(UsageError, match="Held has a field 'header'"):
        method(work).info()


def test_work_in_a_process_takes_no_self() -> None:
    """An instance cannot travel to another process."""

    class Cruncher(Agent):
        capabilities = ("x",)

        @operation(runs_in="process")
        def crunch(self, n: int) -> int:
            return n

    with pytest.raises(UsageError, match=r"Cruncher\.crunch .* takes self"):
        Cruncher.info()

    class Sneaky(Agent):
        capabilities = ("x",)

        @operation(runs_in="process")
        @staticmethod
        def crunch(self: int) -> int:  # noqa: PLW0211 - the mistake under test
            return self

    with pytest.raises(UsageError, match="takes self"):
        Sneaky.info()


def test_decorators_refuse_what_makes_no_sense() -> None:
    """A bad name, place or pattern is said where it is written."""

    async def work(self: Any) -> None:
        """Work."""

    with pytest.raises(UsageError, match="it runs in the loop"):
        operation(runs_in="thread")(work)
    with pytest.raises(UsageError, match="runs_in is"):
        operation(runs_in="moon")(work)  # type: ignore[call-overload] - the mistake under test
    with pytest.raises(InvalidNameError):
        operation(name="a b")(work)
    with pytest.raises(InvalidNameError):
        on("order.>.x")
    with pytest.raises(UsageError, match="is no method"):
        operation(3)  # type: ignore[call-overload] - the mistake under test


def test_an_agent_that_does_not_run_says_so() -> None:
    """Its verbs need a mesh; its representation says that there is none."""
    shop = Shop()
    for look in ("instance", "config", "log", "blocking"):
        with pytest.raises(UsageError, match="is not running"):
            getattr(shop, look)
    assert repr(shop) == "Shop(not running)"


async def test_an_agent_runs_once(mesh: Mesh) -> None:
    """The same object cannot be hosted twice; another of its class can."""
    shop = Shop()
    await mesh.host(shop, Shop())
    with pytest.raises(UsageError, match="runs already"):
        await mesh.host(shop)
    assert len(mesh.hosted) == 2
    assert shop.instance in repr(shop)


async def test_an_agent_whose_start_fails_is_not_announced(mesh: Mesh, client: Mesh) -> None:
    """What `start` raises reaches whoever hosts it, and nobody finds it."""

    class Broken(Greeter):
        name = "broken"

        async def start(self) -> None:
            raise OSError("no such device")

    with pytest.raises(OSError, match="no such device"):
        await mesh.host(Broken())
    assert mesh.hosted == []
    assert await client.discover("greeter") == []


def test_a_subclass_has_a_record_of_its_own() -> None:
    """What was read of a class is not taken for its subclasses."""
    Greeter.info()

    class Louder(Greeter):
        capabilities = ("loud",)

        @operation
        async def shout(self, order: Order) -> Receipt:
            return Receipt(order.items[0].sku.upper(), 1)

    assert Louder.info().capabilities == ("loud",)
    assert [o.name for o in Louder.info().operations] == ["greet", "shout"]
    assert [o.name for o in Greeter.info().operations] == ["greet"]
