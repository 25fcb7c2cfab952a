"""Adhere: make a diffusion model do what the prompt says, without training anything.

    pipe = StableDiffusionPipeline.from_pretrained(...)
    guidance = Guidance(AttendAndExcite(), SafeLatentDiffusion("strong"))
    with guidance.attach(pipe):
        images = pipe("a cat and a frog").images

Methods are `adhere.plugins`, evaluators and the batch command line `adhere.eval`, the web app
`adhere.app`. Names are resolved when they are first used, so importing this package imports none of
diffusers, transformers or gradio; `__init__.pyi`, written by `make tables`, tells type checkers and
editors what they are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOMES = {
    "BoundNoun": "adhere.guides.run",
    "Energy": "adhere.guides.guide",
    "EnergyMethod": "adhere.guides.energy",
    "Entity": "adhere.prompt.phrases",
    "EvaluationError": "adhere.eval.errors",
    "Explanation": "adhere.pipelines.explaining.explanation",
    "ExtraMissing": "adhere.errors",
    "Finished": "adhere.guides.guide",
    "Guidance": "adhere.pipelines.engine.guidance",
    "GuidanceError": "adhere.errors",
    "GuidanceWarning": "adhere.errors",
    "Guide": "adhere.guides.guide",
    "ImageMaps": "adhere.guides.maps",
    "Interrupted": "adhere.errors",
    "Layout": "adhere.layout.layout",
    "LayoutError": "adhere.errors",
    "LayoutMethod": "adhere.guides.energy",
    "Logits": "adhere.guides.guide",
    "Look": "adhere.guides.guide",
    "Maps": "adhere.guides.maps",
    "Memory": "adhere.pipelines.engine.memory",
    "ModelError": "adhere.errors",
    "ParameterError": "adhere.errors",
    "Parse": "adhere.prompt.parser",
    "Phrase": "adhere.prompt.tokens",
    "Plugin": "adhere.guides.guide",
    "Prediction": "adhere.guides.guide",
    "PredictionGuider": "adhere.pipelines.modular.guider",
    "Prompt": "adhere.guides.run",
    "PromptError": "adhere.errors",
    "Read": "adhere.guides.maps",
    "Region": "adhere.layout.layout",
    "Regions": "adhere.guides.run",
    "Run": "adhere.guides.run",
    "RunReport": "adhere.pipelines.engine.report",
    "Scaling": "adhere.pipelines.tools.scaling_concept",
    "Span": "adhere.prompt.phrases",
    "Step": "adhere.guides.guide",
    "SubjectMethod": "adhere.guides.energy",
    "Text": "adhere.guides.guide",
    "ToyboxError": "adhere.pipelines.toybox.errors",
    "autopilot": "adhere.pipelines.search.autopilot",
    "composed": "adhere.layout.composing",
    "explain": "adhere.pipelines.explaining.explain",
    "find": "adhere.prompt.phrases",
    "guided_blocks": "adhere.pipelines.modular.blocks",
    "guided_denoise": "adhere.pipelines.modular.blocks",
    "load_toybox": "adhere.pipelines.toybox.model.folder",
    "occurrences": "adhere.prompt.phrases",
    "param": "adhere.guides.parameters",
    "parse": "adhere.prompt.parser",
    "planned": "adhere.pipelines.search.plan",
    "prediction_guider": "adhere.pipelines.modular.guider",
    "scale_concept": "adhere.pipelines.tools.scaling_concept",
    "search": "adhere.pipelines.search.search",
    "share": "adhere.guides.parameters",
    "strip_markup": "adhere.prompt.markup",
}
"""Where each public name lives. Plugins are public under their class names, without a line here."""

RENAMED = {"Brief": "Prompt"}
"""Public names before 0.2, and what they are called now."""


def homes() -> dict[str, str]:
    """Where every public name lives, plugins too."""
    plugins = import_module("adhere.plugins").PLUGINS.values()
    return {**HOMES, **{plugin.__name__: plugin.__module__ for plugin in plugins}}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("adhere")
    except PackageNotFoundError:  # used from a checkout without installation
        return "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name == "__all__":
        return sorted([*homes(), "__version__"])
    home = HOMES.get(name)
    if home is None and name[:1].isupper():
        home = homes().get(name)
    if name in RENAMED:
        raise AttributeError(f"adhere.{name} is called adhere.{RENAMED[name]} now")
    if home is None:
        raise AttributeError(f"module 'adhere' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *homes(), "__version__"})
