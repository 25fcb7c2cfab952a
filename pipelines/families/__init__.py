"""Model families: everything that differs between Stable Diffusion 1.x, SDXL and the rest.

A new family is one module here and one line in `_families`.
"""

from __future__ import annotations

import importlib
from typing import Any

from adhere.errors import ModelError
from adhere.pipelines.families.family import Family
from adhere.pipelines.hooks.versions import warn_of_newer

_families = (
    "adhere.pipelines.families.unet",
    "adhere.pipelines.families.sd3",
    "adhere.pipelines.families.flux",
    "adhere.pipelines.families.flux2",
    "adhere.pipelines.families.chroma",
    "adhere.pipelines.families.pixart",
    "adhere.pipelines.families.sana",
    "adhere.pipelines.families.qwen",
    "adhere.pipelines.families.z_image",
)


_REFUSED = {
    "BlipDiffusion": "it sets the tokens of a picture between the words of the prompt, so words "
    "are not in the columns where they are looked for; use the plain pipeline with an IP-Adapter",
    "CycleDiffusion": "it denoises a source and a target picture in one batch; use the "
    "image-to-image pipeline",
    "StableDiffusionAttendAndExcite": "it moves the latents in passes of its own; use the plain "
    "pipeline with the plugin attend-and-excite",
    "StableDiffusionKDiffusion": "it steps with k-diffusion instead of its scheduler; use the "
    "plain pipeline with one of diffusers' schedulers",
    "StableDiffusionLatentUpscale": "it tells its denoiser other times than its scheduler's; guide "
    "the picture that it enlarges",
    "StableDiffusionPanorama": "it draws views one by one, each with steps of its own; use the "
    "plain pipeline, which draws any size",
    "StableDiffusionParadigms": "it denoises many timesteps in one batch; use the plain pipeline",
    "TextToVideoZero": "it draws the frames of a video after steps of a loop of its own; use the "
    "plain pipeline",
    "VisualCloze": "its prompt is a layout, a task and a content, and its picture a sheet of "
    "examples; use the plain pipeline",
    "ZImageOmni": "it shows reference pictures among the picture's own tokens; use ZImagePipeline",
    "Kolors": "Kolors' encoder (ChatGLM) fills short prompts up from the left, so their words are "
    "not in the columns where they are looked for; use a Stable Diffusion XL pipeline",
}
"""What is near a family and cannot be guided, by how its pipelines' names begin, and why.

All are made of a family's parts, and their loops are none that a step's hooks could follow: guided,
they would draw something else than was asked for, in silence.
"""


def family_of(pipe: Any) -> Family:
    """The family of a pipeline.

    Raises:
        ModelError: no family knows it.

    Warns:
        GuidanceWarning: diffusers is newer than the newest tested one.
    """
    warn_of_newer()
    if isinstance(pipe, type):
        raise ModelError(
            f"{pipe.__name__} is a class; load a pipeline of it and guide that: "
            f"{pipe.__name__}.from_pretrained(...)"
        )
    for start, reason in _REFUSED.items():
        if any(kind.__name__.startswith(start) for kind in type(pipe).__mro__):
            raise ModelError(f"{type(pipe).__name__} cannot be guided: {reason}")
    for module in _families:
        for family in importlib.import_module(module).FAMILIES:
            if family.knows(pipe):
                made: Family = family(pipe)
                return made
    parts = sorted(
        name for name, part in getattr(pipe, "components", {}).items() if part is not None
    )
    raise ModelError(
        f"{type(pipe).__name__} is of no family that adhere knows "
        f"(its parts: {', '.join(parts) or 'none, it is no pipeline'}); docs/families.md lists the "
        "families"
    )


def classic_name(model_name: str | None) -> str:
    """The class of the classic pipeline that is made of a modular pipeline's parts.

    Args:
        model_name: what diffusers' blocks say they are for: `stable-diffusion-xl`, `flux`...

    Raises:
        ModelError: modular pipelines of this kind cannot be guided.
    """
    known: dict[str, str] = {}
    for module in _families:
        for family in importlib.import_module(module).FAMILIES:
            known.update(family.modular)
    if model_name not in known:
        raise ModelError(
            f"modular pipelines of {model_name} cannot be guided; those of {', '.join(known)} can "
            "(docs/modular.md says why the others cannot)"
        )
    return known[model_name]


__all__ = ["Family", "classic_name", "family_of"]
