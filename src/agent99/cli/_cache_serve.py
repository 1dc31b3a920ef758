"""`agent99 cache serve`: a node of the cache in a process of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, cast

import msgspec
import typer

from agent99.cli._cache_resp import RespChoice, resp_classes
from agent99.cli._exits import RefusalError
from agent99.cli._observe import ObserveOptions
from agent99.cli._run import serve_agents
from agent99.cli._scope import Scope

if TYPE_CHECKING:
    from agent99.systems.cache import CacheNodeAgent

MEMORY_BYTES_MIN: Final = 1_000_000
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b", re.IGNORECASE | re.ASCII)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class ServeOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 cache serve` alone."""

    memory: Annotated[
        str,
        typer.Option("--memory", metavar="SIZE", help="What it may take: 256MB, 1.5GB, 512MiB."),
    ] = "256MB"
    weight: Annotated[
        float,
        typer.Option(
            "--weight", min=1 / 16, max=16, help="Its share in relation to other nodes'; else 1."
        ),
    ] = 1.0
    replicas: Annotated[
        int,
        typer.Option(
            "--replicas",
            min=0,
            max=3,
            help="Copies besides the owner's; the first node of a mesh decides. Else 1.",
        ),
    ] = 1


def serve(
    scope: Scope, options: ServeOptions, choice: RespChoice, observing: ObserveOptions
) -> int:
    r"""Run a node of the cache until it is stopped; starts a mesh if there is none.

    \b
    agent99 cache serve
    agent99 cache serve --memory 2GB --weight 2
    agent99 cache serve --replicas 2 --log json --metrics-port 9100
    agent99 cache serve --resp 6379 --namespace sessions

    Ctrl-C (or SIGTERM) hands over what it holds to the other nodes, while it still serves, 25 s at
    most; a second one ends at once.
    """
    agents = [node_class(options), *resp_classes(choice)]
    return serve_agents(scope, observing, lambda: agents)


def node_class(options: ServeOptions) -> type[CacheNodeAgent]:
    """Return the agent that is to be hosted, with its options as its defaults.

    Raises:
        RefusalError: the memory is no size, or too small.
    """
    from agent99.systems.cache import CacheNodeAgent

    given = {
        "__doc__": CacheNodeAgent.__doc__,
        "memory_bytes": parse_size(options.memory),
        "weight": options.weight,
        "replicas": options.replicas,
    }
    made = type(CacheNodeAgent.__name__, (CacheNodeAgent,), given)
    return cast("type[CacheNodeAgent]", made)


def parse_size(text: str) -> int:
    """Return the bytes that `256MB`, `1.5GB` or `512MiB` are.

    Raises:
        RefusalError: it is no size, or below a megabyte.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise RefusalError(f"{text!r} is no size such as 256MB, 1.5GB or 512MiB")
    number, unit, binary = match.groups()
    size = int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])
    if size < MEMORY_BYTES_MIN:
        raise RefusalError(f"a node needs a megabyte at least; {text!r} is less")
    return size
