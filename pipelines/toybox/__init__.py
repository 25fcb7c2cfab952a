"""The toybox: a miniature Stable Diffusion that ships with the project, its world, and an exact
judge for it.

`load_toybox()` is an ordinary `StableDiffusionPipeline`; `parse_prompt` and `Judge` say whether a
picture shows what its prompt asked for; `render` and `sample_scene` draw the world it was trained
on. Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adhere.pipelines.toybox.names import TOYBOXES

if TYPE_CHECKING:
    from adhere.pipelines.toybox.errors import ToyboxError
    from adhere.pipelines.toybox.judge.judge import Judge, Verdict
    from adhere.pipelines.toybox.judge.outcome import Found, Outcome, miou
    from adhere.pipelines.toybox.model.folder import (
        check_folder,
        load_clip,
        load_toybox,
        toybox_folder,
    )
    from adhere.pipelines.toybox.world.captions import (
        Expected,
        caption,
        check_prompt,
        parse_prompt,
        unknown_words,
        vocabulary,
    )
    from adhere.pipelines.toybox.world.sprites import ANIMALS, COLOURS, KINDS, OBJECTS, SKULL
    from adhere.pipelines.toybox.world.world import (
        BACKGROUNDS,
        Scene,
        Thing,
        Truth,
        ground_truth,
        relations,
        render,
        sample_scene,
    )

_HOMES = {
    "world.captions": (
        "Expected",
        "caption",
        "check_prompt",
        "parse_prompt",
        "unknown_words",
        "vocabulary",
    ),
    "errors": ("ToyboxError",),
    "model.folder": ("check_folder", "load_clip", "load_toybox", "toybox_folder"),
    "judge.judge": ("Judge", "Verdict"),
    "judge.outcome": ("Found", "Outcome", "miou"),
    "world.sprites": ("ANIMALS", "COLOURS", "KINDS", "OBJECTS", "SKULL"),
    "world.world": (
        "BACKGROUNDS",
        "Scene",
        "Thing",
        "Truth",
        "ground_truth",
        "relations",
        "render",
        "sample_scene",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ANIMALS",
    "BACKGROUNDS",
    "COLOURS",
    "KINDS",
    "OBJECTS",
    "SKULL",
    "TOYBOXES",
    "Expected",
    "Found",
    "Judge",
    "Outcome",
    "Scene",
    "Thing",
    "ToyboxError",
    "Truth",
    "Verdict",
    "caption",
    "check_folder",
    "check_prompt",
    "ground_truth",
    "load_clip",
    "load_toybox",
    "miou",
    "parse_prompt",
    "relations",
    "render",
    "sample_scene",
    "toybox_folder",
    "unknown_words",
    "vocabulary",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
