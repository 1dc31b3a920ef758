"""From a file or module on the command line to classes of agents, or one sentence why not."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType

from agent99.agent import Agent
from agent99.cli._exits import Exit, RefusalError
from agent99.errors import UsageError

AgentClass = type[Agent]


def load_agents(sources: Sequence[str]) -> list[AgentClass]:
    """Return the classes that the sources name, each checked; no source's class stands twice.

    Args:
        sources: `FILE.py`, `FILE.py:Class`, `package.module` or `package.module:Class`.

    Raises:
        RefusalError: a source cannot be loaded, or there is no such class or no agent in it.
        UsageError: a class cannot be an agent.
    """
    found: dict[AgentClass, None] = {}
    for source in sources:
        where, class_name = _parted(source)
        module = load_file(Path(where)) if _is_file(where) else load_module(where)
        for agent_class in pick(module, where, class_name):
            agent_class.info()
            found[agent_class] = None
    return list(found)


def _parted(source: str) -> tuple[str, str]:
    where, colon, class_name = source.rpartition(":")
    if colon and where and class_name.isidentifier() and not Path(source).exists():
        return where, class_name
    return source, ""


def _is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where or "\\" in where or Path(where).exists()


def load_file(path: Path) -> ModuleType:
    """Import a file under its stem, so that what it defines can be pickled.

    Raises:
        RefusalError: there is no such file, its name is taken, or importing it fails.
    """
    path = path.absolute()
    if path.is_dir():
        raise RefusalError(f"{path} is a folder: name a file in it, or a module")
    if not path.is_file():
        raise RefusalError(f"there is no file {path}{_near_file(path)}")
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or name in sys.stdlib_module_names:
        own = name in sys.stdlib_module_names
        taken = "of a module of Python's own" if own else "of a module that is loaded already"
        raise RefusalError(f"{path.name} has the name {taken} ({name}): rename the file")
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RefusalError(f"{path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        _execute(str(path), partial(spec.loader.exec_module, module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_module(name: str) -> ModuleType:
    """Import a module, found from the current folder too.

    Raises:
        RefusalError: there is none, or importing it fails.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    if not all(part.isidentifier() for part in name.split(".")):
        raise RefusalError(f"there is no file or module {name!r}")
    _execute(name, partial(importlib.import_module, name))
    return sys.modules[name]


def _execute(where: str, load: Callable[[], object]) -> None:
    failed: BaseException
    try:
        load()
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
            hint = f"; did you mean {where}.py?" if Path(f"{where}.py").is_file() else ""
            raise RefusalError(f"there is no module {where!r}{hint}") from error
        failed = error
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code, while it loads
        failed = error
    else:
        return
    raise _not_loaded(where, failed) from failed


def pick(module: ModuleType, where: str, class_name: str) -> list[AgentClass]:
    """Return the agents that a module defines, or the one that is named.

    Without a name: every class that derives from `Agent` and is defined there, neither imported,
    nor private, nor a mere base (which has no capabilities, no uses and no events).

    Raises:
        RefusalError: there is none, or not the one that is named.
    """
    own = [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, Agent)
        and member is not Agent
        and (member.__module__ == module.__name__ or member.__name__ == class_name)
    ]
    if class_name:
        return [_named(module, where, class_name, own)]
    found = [c for c in dict.fromkeys(own) if not c.__name__.startswith("_") and _is_whole(c)]
    if not found:
        bases = ", ".join(c.__name__ for c in own)
        reason = (
            f"{bases} has neither capabilities nor uses"
            if bases
            else "write a class that derives from agent99.Agent and has capabilities"
        )
        raise RefusalError(f"{where} defines no agent: {reason}")
    return found


def _named(module: ModuleType, where: str, class_name: str, own: list[AgentClass]) -> AgentClass:
    member = getattr(module, class_name, None)
    if inspect.isclass(member) and issubclass(member, Agent) and member is not Agent:
        return member
    if member is not None:
        raise RefusalError(f"{where}: {class_name} does not derive from agent99.Agent")
    names = [c.__name__ for c in own]
    near = get_close_matches(class_name, names, n=3) or names
    hint = f"; there is {', '.join(near)}" if near else ""
    raise RefusalError(f"{where} defines no class {class_name}{hint}")


def _is_whole(agent_class: AgentClass) -> bool:
    """Whether it is an agent and no mere base for some."""
    if agent_class.capabilities or agent_class.uses:
        return not inspect.isabstract(agent_class)
    try:
        agent_class.info()
    except UsageError:
        return False
    return True  # it only hears events


def _near_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".py"]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _not_loaded(where: str, error: BaseException) -> RefusalError:
    if isinstance(error, SyntaxError):
        text = (error.text or "").strip()
        place = f"{error.filename}:{error.lineno}" if error.filename else where
        return RefusalError(f"{place}: {error.msg}{f': {text}' if text else ''}", code="SYNTAX")
    kind = type(error).__name__
    message = " ".join(str(error).split())
    failed = RefusalError(
        f"{_place_of(where, error)}: {kind}{f': {message}' if message else ''}"
        " (while it was loaded; --debug shows more)",
        Exit.USAGE,
        code="NOT_LOADED",
    )
    if isinstance(error, ImportError) and "relative import" in message:
        failed.add_note("a file of a package is run as a module: agent99 run package.module")
    return failed


def _place_of(where: str, error: BaseException) -> str:
    """Return the deepest line of the error that is in the file itself, else the file."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ("", __file__) and not frame.filename.startswith("<frozen")
    ]
    mine = [frame for frame in frames if frame.filename == where]
    chosen = (mine or frames)[-1:] or []
    return f"{chosen[0].filename}:{chosen[0].lineno}" if chosen else where
