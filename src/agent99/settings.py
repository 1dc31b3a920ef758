"""Where the mesh is and how the embedded server behaves: defaults < files < environment.

The *project* is the nearest folder upward that holds `agent99.toml`, `pyproject.toml` or `.git`.
Its settings are the table `[tool.agent99]` of `pyproject.toml`, then `agent99.toml`, then the
variables `AGENT99_*`; the later wins, key by key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from agent99.errors import UsageError

PROJECT_MARKS = ("agent99.toml", "pyproject.toml", ".git")
"""What makes a folder a project."""
STATE_FOLDER_NAME = ".agent99"
"""The state folder inside a project, unless configured otherwise."""

_SCHEMES = ("nats", "tls")
_BETWEEN = re.compile(r",(?=\s*\w+://)")  # a comma inside a password parts nothing
_NAME = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"
_SHOWN_MAX = 80
"""Characters of a wrong value that an error repeats."""
_NAME_IN_WORDS = (
    "expected 1 to 63 of a to z, 0 to 9, '-' and '_', with a letter or digit first and last"
)
_VARIABLES = {
    "AGENT99_URL": "url",
    "AGENT99_MESH": "mesh",
    "AGENT99_PERMISSIONS": "permissions",
    "AGENT99_STATE": "state_folder",
    "AGENT99_REPLICAS": "replicas",
    "AGENT99_REQUEST_ATTEMPTS_MAX": "request_attempts_max",
    "AGENT99_TRACE_RECORDS_MAX": "trace_records_max",
    "AGENT99_LOG_BYTES_MAX": "log_bytes_max",
    "AGENT99_LOG_AGE_S_MAX": "log_age_s_max",
    "AGENT99_JOB_BYTES_MAX": "job_bytes_max",
    "AGENT99_DEAD_BYTES_MAX": "dead_bytes_max",
    "AGENT99_SAGA_BYTES_MAX": "saga_bytes_max",
    "AGENT99_LINGER_S": "linger_s",
    "AGENT99_NATS_SERVER": "server_binary",
    "AGENT99_SERVER_PORT": "server_port",
    "AGENT99_SERVER_START_TIMEOUT_S": "server_start_timeout_s",
    "AGENT99_SYNC_INTERVAL_S": "sync_interval_s",
    "AGENT99_STORE_BYTES_MAX": "store_bytes_max",
    "AGENT99_MEMORY_BYTES_MAX": "memory_bytes_max",
}
_PATHS = frozenset({"state_folder", "server_binary"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a process must know before it can join a mesh."""

    project: Path
    """The project's folder, absolute; found, never configured."""
    state_folder: Path
    """Where the embedded server keeps its state; `<project>/.agent99` by default."""
    url: str | None = None
    """The address of a NATS server, or several parted by commas; None: the embedded server."""
    mesh: Annotated[str, Meta(pattern=_NAME)] = "main"
    """The namespace: agents of different meshes do not see each other."""
    permissions: bool = False
    """Whether the server gives each user its own permissions: then the URL's user is the sender
    that subjects name, and answers go only to inboxes of the sender that the server proves."""
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Copies of the registry, events, jobs and quarantine that a cluster keeps: 3 outlive the loss
    of one server."""
    request_attempts_max: Annotated[int, Meta(ge=1, le=10)] = 3
    """How often a request is made where it may be made again; 1: never again."""
    log_bytes_max: Annotated[int, Meta(ge=1_048_576)] = 1024**3
    """Bytes of stored events that the mesh keeps; when they are full, `append` is refused."""
    log_age_s_max: Annotated[float, Meta(ge=0)] = 7 * 86_400.0
    """Seconds for which a stored event is kept, followed or not; 0: for ever."""
    job_bytes_max: Annotated[int, Meta(ge=65_536)] = 256 * 1024**2
    """Bytes of posted work that may wait for one capability; when they are full, `post` is
    refused."""
    dead_bytes_max: Annotated[int, Meta(ge=65_536)] = 256 * 1024**2
    """Bytes that the quarantine of one capability may hold."""
    saga_bytes_max: Annotated[int, Meta(ge=1_048_576)] = 1024**3
    """Bytes of the journals of the mesh's sagas; when they are full, no saga is begun."""
    trace_records_max: Annotated[int, Meta(ge=0, le=100_000)] = 10_000
    """Ended requests that each process keeps, for `agent99 trace`: some 300 bytes each. 0: none."""
    linger_s: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    """Seconds from the last user's end to the embedded server's."""
    server_binary: Path | None = None
    """The `nats-server` to start; None: the one beside Python, else the first fit one on PATH."""
    server_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """The embedded server's port on 127.0.0.1; 0: a free one, kept over restarts."""
    server_start_timeout_s: Annotated[float, Meta(gt=0, le=3_600)] = 30.0
    """Seconds until a starting server must answer; a large store takes its time to be read."""
    sync_interval_s: Annotated[float, Meta(ge=0, le=300)] = 120.0
    """Seconds after which the embedded server has the disk keep what was stored; what is younger is
    lost with the machine's power. 0: before each acknowledgement."""
    store_bytes_max: Annotated[int, Meta(ge=1_048_576)] = 8 * 1024**3
    """Bytes on disk that the embedded server's streams may take."""
    memory_bytes_max: Annotated[int, Meta(ge=1_048_576)] = 256 * 1024**2
    """Bytes of memory that the embedded server's memory streams may take."""

    def __repr__(self) -> str:
        where = "embedded" if self.url is None else redact_url(self.url)
        return f"Settings(mesh={self.mesh!r}, url={where}, state_folder={str(self.state_folder)!r})"


_TYPES: dict[str, Any] = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if field.name not in _PATHS | {"project"}
}


def find_project(start: Path) -> Path:
    """Return the nearest folder from `start` upward that is a project; else `start` itself."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in PROJECT_MARKS):
            return folder
    return start


def load_settings(start: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of the project around `start`.

    Args:
        start: A folder; the current one by default.
        environ: The environment; that of this process by default.

    Raises:
        UsageError: A file is no TOML or cannot be read, or a key is unknown or has a wrong value;
            the message names the file and the key, and no credential.
    """
    environ = os.environ if environ is None else environ
    project = find_project(Path.cwd() if start is None else start)
    values: dict[str, Any] = {"state_folder": project / STATE_FOLDER_NAME}
    pyproject = project / "pyproject.toml"
    values.update(_checked(_tool_table(pyproject), f"{pyproject}: [tool.agent99]", project))
    own = project / "agent99.toml"
    values.update(_checked(_toml(own), str(own), project))
    for variable, key in _VARIABLES.items():
        text = environ.get(variable, "")
        if text:  # an empty variable is an unset one: that is how shells unset for one command
            values[key] = _value(key, text, f"the variable {variable}", Path.cwd(), strict=False)
    return Settings(project=project, **values)


def redact_url(url: str) -> str:
    """Return the address, or the comma-separated addresses, without user, password or token."""
    return ",".join(_redact_one(part) for part in split_urls(url))


def split_urls(url: str) -> list[str]:
    """Return the addresses that commas part; a comma inside a password parts nothing."""
    return [part.strip() for part in _BETWEEN.split(url)]


def _redact_one(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    # The last "@" and not the first: a password that somebody forgot to encode may hold one.
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _toml(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - only who has no settings yet reads files

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error


def _tool_table(path: Path) -> dict[str, Any]:
    try:
        tool = msgspec.convert(_toml(path).get("tool", {}), dict[str, Any])
        return msgspec.convert(tool.get("agent99", {}), dict[str, Any])
    except msgspec.ValidationError:
        raise UsageError(f"{path}: [tool.agent99] is no table") from None


def _checked(table: Mapping[str, Any], where: str, base: Path) -> dict[str, Any]:
    return {key: _value(key, raw, f"{where}: {key}", base) for key, raw in table.items()}


def _value(key: str, raw: Any, where: str, base: Path, *, strict: bool = True) -> Any:
    if key in _PATHS:
        return _path(raw, where, base)
    if key not in _TYPES:
        known = ", ".join(sorted(_TYPES.keys() | _PATHS))
        raise UsageError(f"{where} is no setting; there are: {known}")
    if key == "mesh" and isinstance(raw, str):
        raw = raw.lower()
    try:
        value = msgspec.convert(raw, _TYPES[key], strict=strict)
    except msgspec.ValidationError as error:
        reason = str(error)
        if "matching regex" in reason:
            reason = f"{_NAME_IN_WORDS}, got {str(raw)[:_SHOWN_MAX]!r}"
        raise UsageError(f"{where}: {reason[:1].lower()}{reason[1:]}") from None
    if key == "url":
        _check_url(value, where)
    return value


def _path(raw: Any, where: str, base: Path) -> Path:
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise UsageError(f"{where}: expected a path")
    # Relative to the file that says so (or the current folder for a variable), never to wherever
    # the programme happens to be started.
    return Path(os.path.normpath(base / Path(raw).expanduser()))


def _check_url(url: str, where: str) -> None:
    for part in split_urls(url):
        scheme, mark, rest = part.partition("://")
        host = rest.rpartition("@")[2]
        if not mark or scheme not in _SCHEMES or not host or any(c.isspace() for c in part):
            raise UsageError(
                f"{where}: expected nats://host:port or tls://host:port, got {redact_url(part)!r}"
            )
        try:
            urlsplit(f"//{host}").port  # noqa: B018 - it is read only to be checked
        except ValueError:
            raise UsageError(
                f"{where}: expected a port from 1 to 65535, got {redact_url(part)!r}"
            ) from None
