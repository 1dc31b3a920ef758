"""House rules about what a room shows: its front door, names, representations and docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ._tree import Finding, House, Module, SourceModule

FRONT_LINES_MAX = 60
_SELF_DESCRIBING = frozenset(
    {
        "enum.Enum",
        "enum.Flag",
        "agent99.Agent",
        "agent99.projections.Projection",
        "enum.IntEnum",
        "enum.IntFlag",
        "enum.StrEnum",
        "msgspec.Struct",
        "typing.NamedTuple",
        "typing.Protocol",
        "typing.TypedDict",
        "Exception",
        "BaseException",
        "tuple",
        "str",
        "int",
        "dict",
        "list",
    }
)
"""Bases that give a class a useful `__repr__`, or that never have instances of their own."""
_OVERLOADS = frozenset({"typing.overload"})


def check_front_doors(house: House) -> Iterator[Finding]:
    """An `__init__` is a docstring, imports and `__all__`: short, without logic."""
    for module in house.modules:
        if not module.is_front:
            continue
        lines = len(module.lines) - _lines_of_all(module)
        if lines > FRONT_LINES_MAX:
            message = f"{lines} lines before __all__, at most {FRONT_LINES_MAX}"
            yield Finding("front door", module.place, message)
        for node in module.tree.body:
            if not _belongs_in_front(node):
                message = "only a docstring, imports and __all__ stand in an __init__"
                yield Finding("front door", f"{module.place}:{node.lineno}", message)


def check_all(house: House) -> Iterator[Finding]:
    """`__all__` is there, sorted, and names exactly what the front door imports."""
    for module in house.modules:
        if not module.is_front:
            continue
        names = _all_of(module)
        if names is None:
            yield Finding("exports", module.place, "an __init__ has an __all__")
            continue
        if names != sorted(names, key=_order):
            message = "sort __all__: CONSTANTS, Classes, functions"
            yield Finding("exports", module.place, message)
        shown = {name for name in _bound_in(module) if not name.startswith("_")}
        for name in sorted(shown - set(names)):
            yield Finding("exports", module.place, f"{name} is imported but not in __all__")
        for name in sorted(set(names) - shown - {"__version__"}):
            yield Finding("exports", module.place, f"{name} is in __all__ but not there")


def check_reprs(house: House) -> Iterator[Finding]:
    """Every public class says what it is: a `__repr__`, or a base that has one."""
    classes = {
        f"{module.name}.{node.name}": (module, node)
        for module in house.modules
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    }
    for module, node in classes.values():
        if not node.name.startswith("_") and not _describes_itself(module, node, classes, depth=9):
            message = f"class {node.name} needs a __repr__"
            yield Finding("repr", f"{module.place}:{node.lineno}", message)


def check_docstrings(house: House) -> Iterator[Finding]:
    """Every module, public class, function and method has a docstring."""
    for module in house.modules:
        if module.tree.body and ast.get_docstring(module.tree) is None:
            yield Finding("docstring", module.place, "the module needs a docstring")
        yield from _undocumented(module, module.tree.body, "")


def _undocumented(module: SourceModule, body: list[ast.stmt], prefix: str) -> Iterator[Finding]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _undocumented(module, node.body, prefix)
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or _is_exempt(module, node):
            continue
        if ast.get_docstring(node) is None:
            message = f"{prefix}{node.name} needs a docstring"
            yield Finding("docstring", f"{module.place}:{node.lineno}", message)
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(module, node.body, f"{node.name}.")


def _is_exempt(module: Module, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    for decorator in node.decorator_list:
        if module.dotted(decorator) in _OVERLOADS:
            return True
        if isinstance(decorator, ast.Attribute) and decorator.attr in {"setter", "deleter"}:
            return True
    return False


def _belongs_in_front(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        return False
    return all(
        isinstance(target, ast.Name) and target.id in {"__all__", "__version__"}
        for target in targets
    )


def _lines_of_all(module: Module) -> int:
    """Return the length of `__all__`: the formatter writes one name a line, as the imports do."""
    return sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in module.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
    )


def _all_of(module: Module) -> list[str] | None:
    for node in module.tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return [str(name) for name in ast.literal_eval(value)]
    return None


def _order(name: str) -> tuple[int, str]:
    bare = name.strip("_")
    kind = 0 if bare.isupper() and len(bare) > 1 else 1 if bare[:1].isupper() else 2
    return kind, name


def _bound_in(module: Module) -> set[str]:
    names: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
    return names


def _describes_itself(
    module: SourceModule,
    node: ast.ClassDef,
    classes: dict[str, tuple[SourceModule, ast.ClassDef]],
    *,
    depth: int,
) -> bool:
    own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    own |= {
        target.id
        for item in node.body
        if isinstance(item, ast.Assign)
        for target in item.targets
        if isinstance(target, ast.Name)
    }
    if "__repr__" in own or any(_is_dataclass(module, item) for item in node.decorator_list):
        return True
    for base in node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        name = module.dotted(expression)
        if name in _SELF_DESCRIBING or name.endswith(("Error", "Exception", "Warning")):
            return True
        known = classes.get(name) or classes.get(f"{module.name}.{name}")
        if known is not None and depth and _describes_itself(*known, classes, depth=depth - 1):
            return True
    return False


def _is_dataclass(module: Module, decorator: ast.expr) -> bool:
    expression = decorator.func if isinstance(decorator, ast.Call) else decorator
    return module.dotted(expression) == "dataclasses.dataclass"
