"""Ask whoever sits at the terminal whether a command may go on."""

from __future__ import annotations

import sys

import typer

from agent99.cli._exits import Exit, RefusalError


def ask_first(question: str, otherwise: str) -> None:
    """Go on if the answer is yes.

    Args:
        otherwise: What is the case if it is no, such as `nothing was retried`.

    Raises:
        RefusalError: it is no; or nobody is there to be asked.
    """
    if not sys.stdin.isatty():
        raise RefusalError(f"{question} say --yes")
    if not typer.confirm(question, err=True):
        raise RefusalError(otherwise, Exit.FAILED)
