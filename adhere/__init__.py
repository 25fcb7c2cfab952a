"""Adhere: make a diffusion model do what the prompt says, without training anything.

    pipe = StableDiffusionPipeline.from_pretrained(...)
    guidance = Guidance(AttendAndExcite(), SafeLatentDiffusion("strong"))
    with guidance.attach(pipe):
        images = pipe("a cat and a frog").images

Plugins are `adhere.plugins`, evaluators and the batch command line `adhere.eval`, the web app
`adhere.app`. Importing this package imports none of diffusers, transformers or gradio.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from adhere.errors import (
    ExtraMissing,
    GuidanceError,
    GuidanceWarning,
    LayoutError,
    ModelError,
    ParameterError,
    PromptError,
)

try:
    __version__ = version("adhere")
except PackageNotFoundError:  # used from a checkout without installation
    __version__ = "0+unknown"

_LAZY = {
    "Energy": "adhere.guides.guide",
    "Guidance": "adhere.pipelines.engine.guidance",
    "Guide": "adhere.guides.guide",
    "Layout": "adhere.layout.layout",
    "Maps": "adhere.guides.maps",
    "Memory": "adhere.pipelines.engine.guidance",
    "Plugin": "adhere.guides.guide",
    "PredictionGuider": "adhere.pipelines.modular.guider",
    "Prompt": "adhere.guides.run",
    "Read": "adhere.guides.maps",
    "Run": "adhere.guides.run",
    "Step": "adhere.guides.guide",
    "guided_blocks": "adhere.pipelines.modular.blocks",
    "guided_denoise": "adhere.pipelines.modular.blocks",
    "param": "adhere.guides.parameters",
    "prediction_guider": "adhere.pipelines.modular.guider",
}


_RENAMED = {"Brief": "Prompt"}
"""Public names before 0.2, and what they are called now."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name[:1].isupper():
        # Plugins are exported under their class names, straight from the table.
        for plugin in import_module("adhere.plugins").PLUGINS.values():
            if plugin.__name__ == name:
                return plugin
    if name in _RENAMED:
        raise AttributeError(f"adhere.{name} is called adhere.{_RENAMED[name]} now")
    raise AttributeError(f"module 'adhere' has no attribute {name!r}")


def __dir__() -> list[str]:
    plugins = import_module("adhere.plugins").PLUGINS.values()
    return sorted({*globals(), *_LAZY, *(plugin.__name__ for plugin in plugins)})


__all__ = [
    "ExtraMissing",
    "GuidanceError",
    "GuidanceWarning",
    "LayoutError",
    "ModelError",
    "ParameterError",
    "PromptError",
    "__version__",
    *sorted(_LAZY),
]
