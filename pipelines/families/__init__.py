"""Model families: everything that differs between Stable Diffusion 1.x, SDXL and the rest.

A new family is one module here and one line in `_families`.
"""

from __future__ import annotations

import importlib
from typing import Any

from adhere.errors import ModelError
from adhere.pipelines.families.family import Family

_families = (
    "adhere.pipelines.families.unet",
    "adhere.pipelines.families.sd3",
    "adhere.pipelines.families.flux",
    "adhere.pipelines.families.pixart",
    "adhere.pipelines.families.sana",
    "adhere.pipelines.families.qwen",
    "adhere.pipelines.families.z_image",
)


def family_of(pipe: Any) -> Family:
    """The family of a pipeline.

    Raises:
        ModelError: no family knows it.
    """
    for module in _families:
        for family in importlib.import_module(module).FAMILIES:
            if family.knows(pipe):
                made: Family = family(pipe)
                return made
    parts = sorted(
        name for name, part in getattr(pipe, "components", {}).items() if part is not None
    )
    raise ModelError(
        f"{type(pipe).__name__} is of no family that adhere knows (its parts: {', '.join(parts)}); "
        "docs/families.md lists the families"
    )


__all__ = ["Family", "family_of"]
