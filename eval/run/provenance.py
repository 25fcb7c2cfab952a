"""Where pictures come from: the code that made them, the machine, the time, the versions."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import platform
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PLUGINS = "adhere.plugins"
# The packages whose code decides what a picture looks like, beside that of the plugins.
_ENGINE = (
    "adhere.prompt",
    "adhere.layout",
    "adhere.guides",
    "adhere.pipelines.hooks",
    "adhere.pipelines.families",
    "adhere.pipelines.engine",
    "adhere.pipelines.modular",
    "adhere.pipelines.studio",
)
_PACKAGES = ("adhere", "torch", "diffusers", "transformers", "numpy", "pillow")
_LENGTH = 16


@cache
def engine_code() -> str:
    """A hash of the engine's sources: pictures of two engines are two jobs."""
    files = [
        path
        for package in _ENGINE
        if (spec := importlib.util.find_spec(package)) and spec.submodule_search_locations
        for folder in spec.submodule_search_locations
        for path in sorted(Path(folder).rglob("*.py"))
    ]
    return _hashed(files)


@cache
def module_code(module: str) -> str:
    """A hash of a plugin's module and of those of its package that it imports, and so on."""
    return _hashed(sorted(_sources(module)))


def code_of(plugins: Iterable[Any]) -> dict[str, str]:
    """The hash of every plugin's code, by the plugin's name."""
    return {str(one.name): module_code(type(one).__module__) for one in plugins}


def code_here(names: Iterable[str]) -> dict[str, str]:
    """The hashes of the code that this process has: `engine`, or a plugin by its name."""
    from adhere import plugins

    kinds = plugins.available()
    return {
        name: engine_code() if name == "engine" else module_code(kinds[name].__module__)
        for name in names
    }


def _hashed(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:_LENGTH]


def _sources(module: str) -> set[Path]:
    """The file of a module, and those of its package's modules that it imports, and so on."""
    ours = module.startswith(f"{_PLUGINS}.")  # what they import of adhere besides is the engine's
    package = _PLUGINS if ours else module.partition(".")[0]
    found: set[Path] = set()
    left = [module]
    while left:
        path = _file(left.pop())
        if path is None or path in found:
            continue
        found.add(path)
        left += [name for name in _imports(path) if name.startswith(f"{package}.")]
    return found


def _file(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    found = Path(spec.origin) if spec and spec.origin else None
    return found if found and found.is_file() else None


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def versions() -> dict[str, str]:
    """Versions of what pictures and scores depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def made_now() -> dict[str, Any]:
    """Host, time (UTC) and versions, for a done row; nothing is ever decided by the time."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "time": now, "versions": versions()}


def fetched_revision(model: str) -> str | None:
    """The same for files that may not be in the cache yet: the configuration is fetched. None where
    the hub has none, or cannot be asked.
    """
    from huggingface_hub import hf_hub_download

    from adhere.pipelines.folders import hub

    try:
        hub.check_answers(model)
        hf_hub_download(model, "config.json")
    except Exception:  # no such model, no network, no form of a hub id: loading it says which
        return None
    return hub_revision(model)


def hub_revision(model: str) -> str | None:
    """The commit of a hub model's files as they lie in the cache; None for a folder."""
    if Path(model).exists():
        return None
    from huggingface_hub import try_to_load_from_cache

    for name in ("model_index.json", "config.json"):
        try:
            found = try_to_load_from_cache(model, name)
        except ValueError:
            return None  # not the form of a hub id
        if isinstance(found, str):
            parts = Path(found).parts
            return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None
    return None
