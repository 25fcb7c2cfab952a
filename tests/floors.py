"""The lowest versions that `pyproject.toml` admits, as pins for pip: `python -m tests.floors`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def pins(extras: tuple[str, ...] = ()) -> list[str]:
    """`name==lowest` for every dependency, and for those of some extras.

    Raises:
        ValueError: a dependency has no lowest version, so that anything may be installed.
    """
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    found: dict[str, str] = {}
    for wanted in (*project["dependencies"], *(one for name in extras for one in optional[name])):
        match = re.match(r"([\w-]+(?:\[[\w,]+\])?)\s*>=\s*([\w.]+)", wanted)
        if match:
            found[match[1]] = f"{match[1]}=={match[2]}"
        # An extra may set a ceiling to what has its floor, and lean on another extra.
        elif not wanted.startswith((*(f"{name}<" for name in found), "adhere[")):
            raise ValueError(f"{wanted!r} in pyproject.toml says no lowest version; add >=")
    return list(found.values())


if __name__ == "__main__":
    print("\n".join(pins(tuple(sys.argv[1:]))))
