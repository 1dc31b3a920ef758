"""Find the mesh of the project, or the one that is named; start nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from agent99.agent import Mesh
from agent99.cli._exits import Exit, RefusalError
from agent99.cli._scope import Scope
from agent99.embedded import find_server
from agent99.envelope import parse_name
from agent99.errors import DeadlineExceededError
from agent99.settings import Settings, load_settings

T = TypeVar("T")


def scoped_settings(scope: Scope) -> Settings:
    """Return the project's settings with what the command line says instead.

    Raises:
        UsageError: a setting or the mesh's name is wrong.
    """
    settings = load_settings()
    if scope.mesh is not None:
        settings = msgspec.structs.replace(settings, mesh=parse_name("mesh", scope.mesh))
    if scope.url is not None:
        settings = msgspec.structs.replace(settings, url=scope.url)
    return settings


def reachable_settings(scope: Scope) -> Settings:
    """Return settings that name a server: the one that was named, else the project's if it runs.

    Raises:
        RefusalError: no server runs; says which mesh was looked for, and where.
        UsageError: a setting is wrong.
    """
    settings = scoped_settings(scope)
    if settings.url is not None:
        return settings
    found = find_server(settings)
    if found is None:
        raise RefusalError(
            f"no mesh is up: looked for mesh {settings.mesh!r} of the project {settings.project}"
            f" (state folder {settings.state_folder}); start one with `agent99 run FILE`,"
            " or set AGENT99_URL",
            Exit.MESH,
            code="NO_MESH",
        )
    return msgspec.structs.replace(settings, url=found.url)


@asynccontextmanager
async def join(scope: Scope) -> AsyncGenerator[Mesh]:
    """Be on the mesh that runs already.

    Raises:
        RefusalError: none runs, or it does not answer.
        TransportError, UsageError
    """
    mesh = Mesh(settings=reachable_settings(scope))
    try:
        await mesh.__aenter__()
    except DeadlineExceededError as error:
        message = f"the mesh does not answer: {error}"
        raise RefusalError(message, Exit.MESH, code=error.code) from error
    try:
        yield mesh
    finally:
        await mesh.aclose()


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a short command's work on asyncio's own loop: another costs more than it saves."""
    import asyncio

    return asyncio.run(work)
