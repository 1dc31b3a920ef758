"""Options of `agent99 cache serve` by which it also serves clients of Redis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import msgspec
import typer

from agent99.cli._exits import RefusalError
from agent99.cli._observe import PORT_MAX

if TYPE_CHECKING:
    from agent99.systems.cache import RespAgent

PASSWORD_VARIABLE: Final = "AGENT99_RESP_PASSWORD"  # noqa: S105 - a name, not a password
HOST: Final = "127.0.0.1"


class RespChoice(msgspec.Struct, frozen=True):
    """Whether, and how, clients of Redis are served."""

    resp: Annotated[
        int | None,
        typer.Option(
            "--resp",
            metavar="PORT",
            min=0,
            max=PORT_MAX,
            help="Serve clients of Redis there, too; 0: a free port.",
        ),
    ] = None
    resp_host: Annotated[
        str | None,
        typer.Option("--resp-host", metavar="HOST", help=f"The address for --resp; else {HOST}."),
    ] = None
    resp_password_file: Annotated[
        Path | None,
        typer.Option(
            "--resp-password-file",
            metavar="FILE",
            help=f"Its first line is what AUTH must say; else {PASSWORD_VARIABLE}.",
        ),
    ] = None
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="Of the keys for --resp; else default."
        ),
    ] = None


def resp_classes(choice: RespChoice) -> list[type[RespAgent]]:
    """Return the agent that is to be hosted, with its options as its defaults, or none.

    Raises:
        RefusalError: the password cannot be read, or there is no --resp for the others.
        InvalidNameError: of the namespace.
    """
    if choice.resp is None:
        if choice != RespChoice():
            raise RefusalError("--resp-host, --resp-password-file and --namespace need --resp")
        return []
    from agent99.systems.cache import RespAgent, RespOptions

    file = choice.resp_password_file
    password = os.environ.get(PASSWORD_VARIABLE, "") if file is None else _first_line(file)
    options = RespOptions(host=choice.resp_host or HOST, port=choice.resp, password=password)
    agent = RespAgent(options, namespace=choice.namespace)  # a mistake is said before all else
    given = {
        "__doc__": RespAgent.__doc__,
        "options": agent.options,
        "namespace": agent.namespace,
    }
    return [cast("type[RespAgent]", type(RespAgent.__name__, (RespAgent,), given))]


def _first_line(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RefusalError(f"the password cannot be read: {error}") from error
    password = text.partition("\n")[0].rstrip("\r")
    if not password:
        raise RefusalError(f"the first line of {str(file)!r} is empty: it is to be the password")
    return password
