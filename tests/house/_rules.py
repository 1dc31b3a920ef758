"""House rules about what stands in a file. Each check is pure: a house in, findings out.

A finding names its place, the rule and what to do instead. `test_rules.py` plants a violation of
each, so that no rule can be satisfied by being asleep.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from ._api import check_all, check_docstrings, check_front_doors, check_reprs
from ._imports import check_cards, check_cycles, check_imports
from ._ratchet import RATCHET
from ._tests import check_mirror, check_test_calls, check_test_docstrings, gives_a_turn
from ._tree import Finding, House, Module, SourceModule

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
NESTING_MAX = 3
REASON_CHARACTERS_MIN = 8

_TIME = "time comes in through the constructor: clock.Clock"
_CHANCE = "randomness comes in through the constructor: ids.Ids"
BANNED: dict[str, str] = {
    "asyncio.get_event_loop": "asyncio.get_running_loop()",
    "asyncio.sleep": "await clock.sleep()",
    "breakpoint": "a test",
    "datetime.date.today": _TIME,
    "datetime.datetime.now": _TIME,
    "datetime.datetime.today": _TIME,
    "datetime.datetime.utcnow": _TIME,
    "os.urandom": _CHANCE,
    "print": "only the cli talks to people; elsewhere a result, an error or the log",
    "random": _CHANCE,
    "secrets": _CHANCE,
    "time.monotonic": _TIME,
    "time.monotonic_ns": _TIME,
    "time.perf_counter": _TIME,
    "time.perf_counter_ns": _TIME,
    "time.sleep": "await clock.sleep()",
    "time.time": _TIME,
    "time.time_ns": _TIME,
    "uuid.uuid1": _CHANCE,
    "uuid.uuid4": _CHANCE,
}
"""What may not be used, by full name, and what to use instead."""

_CLOCKS = frozenset(name for name in BANNED if name.startswith(("time.", "datetime.")))
EXEMPT: dict[str, frozenset[str]] = {
    # The real clock and the real randomness are here, and nowhere else.
    "clock": _CLOCKS | {"asyncio.sleep"},
    "ids": frozenset({"random", "secrets", "os.urandom", "uuid.uuid4"}),
    # The supervisor is a programme of its own, without an event loop: it is the real thing.
    "embedded": _CLOCKS | {"asyncio.sleep", "os.urandom", "random", "secrets"},
    "cli": frozenset({"print"}),
}
"""Rooms that are the real thing, with what they may use."""

_MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
_SILENCERS = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|pyright:\s*ignore|pragma:\s*no\s+(?:cover|branch))(?P<rest>[^#]*)"
    r"(?:#\s*(?P<second>.*))?"
)
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def check_sizes(house: House) -> Iterator[Finding]:
    """Files, functions, parameter lists and nesting stay small, but for the ratchet."""
    used: set[tuple[str, str]] = set()
    for module in house.modules:
        for what, size, size_max, line in _sizes(module):
            key = (module.place, what)
            allowed = RATCHET[key].size if key in RATCHET else size_max
            if size > size_max:
                used.add(key)
            if size > max(allowed, size_max):
                place = f"{module.place}:{line}"
                yield Finding("size", place, f"{what}: {size}, at most {allowed}")
    for place, what in sorted(RATCHET.keys() - used):
        if (house.root / place).exists():
            yield Finding("size", place, f"{what} fits now: take it off the ratchet")


def check_banned(house: House) -> Iterator[Finding]:
    """Time, randomness and output come in through ports; the replacement is named."""
    for module in house.modules:
        exempt = EXEMPT.get(module.room, frozenset())
        for line, name in _uses(module):
            banned = name if name in BANNED else name.split(".")[0]
            if banned in BANNED and banned not in exempt:
                place = f"{module.place}:{line}"
                yield Finding("banned", place, f"{name}: use {BANNED[banned]}")


def check_excepts(house: House) -> Iterator[Finding]:
    """Catching everything needs a reason on the line, unless it raises again."""
    for module in house.modules:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler) or not _catches_all(module, node):
                continue
            last = node.body[-1]
            if isinstance(last, ast.Raise) and last.exc is None:
                continue
            _, _, reason = module.comment(node.lineno).partition("#")
            if len(reason.removeprefix(" noqa: BLE001").strip(" -")) < REASON_CHARACTERS_MIN:
                message = "catch what you expect, or say why beside it"
                yield Finding("except", f"{module.place}:{node.lineno}", message)


def check_comments(house: House) -> Iterator[Finding]:
    """No left-over marks; who silences a tool says why."""
    for module in (*house.modules, *house.tests):
        if module.place.startswith("tests/house/"):
            continue  # it names what it looks for
        for number, line in enumerate(module.lines, start=1):
            yield from _check_comment(f"{module.place}:{number}", line)


def _check_comment(place: str, line: str) -> Iterator[Finding]:
    if _MARKS.search(line):
        yield Finding("mark", place, "do it, or open an issue")
    silencer = _SILENCERS.search(line)
    if silencer is not None:
        rest = re.sub(r"\[[^]]*]|[A-Z]+[0-9]+|[:,]", "", silencer["rest"])
        reason = (rest.strip(" -") + (silencer["second"] or "")).strip()
        if len(reason) < REASON_CHARACTERS_MIN:
            yield Finding("reason", place, "say why: # noqa: CODE - reason")


def _sizes(module: SourceModule) -> Iterator[tuple[str, int, int, int]]:
    yield "lines", len(module.lines), MODULE_LINES_MAX, 1
    for name, node in module.functions():
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        yield f"{name}: lines", lines, FUNCTION_LINES_MAX, node.lineno
        if not any(module.dotted(one) == "typing.overload" for one in node.decorator_list):
            yield f"{name}: parameters", _parameters(node), PARAMETERS_MAX, node.lineno
        yield f"{name}: nesting", _depth(node.body), NESTING_MAX, node.lineno


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = node.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [one.arg for one in (arguments.vararg, arguments.kwarg) if one is not None]
    if names and names[0] in {"self", "cls"}:
        names = names[1:]
    return len(names)


def _depth(body: list[ast.stmt]) -> int:
    return max((_statement_depth(statement) for statement in body), default=0)


def _statement_depth(statement: ast.stmt) -> int:
    if not isinstance(statement, _BLOCKS):
        return 0
    bodies = [getattr(statement, name, []) for name in ("body", "finalbody")]
    bodies += [handler.body for handler in getattr(statement, "handlers", [])]
    bodies += [case.body for case in getattr(statement, "cases", [])]
    inner = 1 + max((_depth(body) for body in bodies), default=0)
    otherwise: list[ast.stmt] = getattr(statement, "orelse", [])
    if isinstance(statement, ast.If) and len(otherwise) == 1 and isinstance(otherwise[0], ast.If):
        return max(inner, _statement_depth(otherwise[0]))  # an elif goes no deeper
    return max(inner, 1 + _depth(otherwise))


def _uses(module: Module) -> Iterator[tuple[int, str]]:
    """Yield every name that the code refers to, in full, and the line."""
    inner: set[ast.AST] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and gives_a_turn(module, node):
            inner.update(ast.walk(node.func))
        if node in inner or not isinstance(node, ast.Attribute | ast.Name):
            continue
        if isinstance(node, ast.Attribute):
            inner.update(ast.walk(node.value))
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            continue
        name = module.dotted(node)
        root = name.split(".")[0]
        if name and (root in module.aliases.values() or "." not in name or _imported(module, node)):
            yield node.lineno, name


def _imported(module: Module, node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in module.aliases


def _catches_all(module: Module, node: ast.ExceptHandler) -> bool:
    if node.type is None:
        return True
    types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(module.dotted(one) in {"Exception", "BaseException"} for one in types)


CHECKS: dict[str, Callable[[House], Iterator[Finding]]] = {
    "cards": check_cards,
    "imports": check_imports,
    "cycles": check_cycles,
    "sizes": check_sizes,
    "banned": check_banned,
    "excepts": check_excepts,
    "comments": check_comments,
    "front doors": check_front_doors,
    "exports": check_all,
    "reprs": check_reprs,
    "docstrings": check_docstrings,
    "test docstrings": check_test_docstrings,
    "test calls": check_test_calls,
    "mirror": check_mirror,
}
