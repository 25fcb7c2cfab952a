"""`adhere/__init__.pyi`: what type checkers and editors know of the names that resolve lazily."""

from __future__ import annotations

import adhere

HEAD = '''"""The public names and their types, from `adhere.homes()`. Written by `make tables`."""

'''


def stub() -> str:
    """The stub's text: every public name, imported from where it lives."""
    homes = adhere.homes()
    by_module: dict[str, list[str]] = {}
    for name in sorted(homes):
        by_module.setdefault(homes[name], []).append(name)
    lines = [
        f"from {module} import {name} as {name}"
        for module in sorted(by_module)
        for name in by_module[module]
    ]
    public = "".join(f"    {name!r},\n" for name in adhere.__all__).replace("'", '"')
    ends = (
        "",
        "__version__: str",
        "HOMES: dict[str, str]",
        "RENAMED: dict[str, str]",
        "",
        "def homes() -> dict[str, str]: ...",
        "",
        f"__all__ = [\n{public}]",
    )
    return HEAD + "\n".join([*lines, *ends]) + "\n"
