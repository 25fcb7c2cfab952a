"""The modules of the house and what they import, as values for tests/test_layout.py."""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def packages() -> dict[str, Path]:
    """Every package of the house with its folder."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    return {name: ROOT / folder for name, folder in tool["package-dir"].items()}


def modules() -> dict[str, Path]:
    """Every module of the house by its full name; a package is its `__init__`."""
    found = {}
    for name, folder in packages().items():
        for path in sorted(folder.glob("*.py")):
            found[name if path.stem == "__init__" else f"{name}.{path.stem}"] = path
    return found


def imports(name: str, path: Path, known: set[str], *, lazy: bool) -> set[str]:
    """The modules of the house that a module imports.

    Args:
        name: its own full name.
        path: its file.
        known: the modules of the house.
        lazy: also what is imported only when a function is called.
    """
    found = set()
    for node in _imports(ast.parse(path.read_text("utf-8")), lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` reads the module; a name of the package's own reads it.
            found |= {one if one in known else node.module for one in whole}
    return (found & known) - {name}


def _imports(tree: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements, those under `if TYPE_CHECKING` too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _imports(node, lazy)


@functools.cache
def graph(*, lazy: bool) -> dict[str, set[str]]:
    """Who imports whom."""
    every = modules()
    return {name: imports(name, path, set(every), lazy=lazy) for name, path in every.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach one another (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(one: str) -> None:
        order[one] = low[one] = len(order)
        path.append(one)
        for other in edges[one]:
            if other not in order:
                visit(other)
            if other in path:
                low[one] = min(low[one], low[other])
        if low[one] == order[one]:
            group = path[path.index(one) :]
            del path[path.index(one) :]
            if len(group) > 1:
                found.append(sorted(group))

    for one in edges:
        if one not in order:
            visit(one)
    return found
