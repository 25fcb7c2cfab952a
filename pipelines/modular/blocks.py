"""Guidance in Modular Diffusers, where a loop is made of blocks and has no callback.

`guided_blocks(blocks, guidance)` is the same blocks with guidance in every denoising loop of them:

    blocks = guided_blocks(StableDiffusionXLAutoBlocks(), guidance)
    pipe = blocks.init_pipeline(...)

and `guided_denoise(guidance, loop)` is one such loop, to be put where the pipeline has its own.

Modular pipelines make the two predictions in calls of their own and let a *guider* join them. So
what is said of pipelines with halves apart holds here: energies are found before the conditional
call, the unconditional one follows the moved latents, and what the guider made of both is
corrected for methods that change the prediction, on its way into the scheduler. That is exact for
`ClassifierFreeGuidance`; other guiders are refused for such methods. Where a guider is wanted and
no loop is to be exchanged, `modular_guider.py` has the prediction methods as one.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import diffusers
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines import LoopSequentialPipelineBlocks
from diffusers.modular_pipelines.stable_diffusion_xl.denoise import StableDiffusionXLDenoiseStep

from adhere.errors import ModelError, ParameterError
from adhere.layout.layout import Layout
from adhere.pipelines.engine.annotations import NEGATIVE, Annotations
from adhere.pipelines.engine.guidance import Guidance
from adhere.pipelines.engine.outcome import Outcome
from adhere.pipelines.engine.report import RunReport
from adhere.pipelines.engine.session import Session
from adhere.pipelines.engine.state import Setup
from adhere.pipelines.families import Family, classic_name, family_of
from adhere.pipelines.hooks.compat import guider_is_on

_ENCODED = ("prompt_2", "prompt_3", "prompt_embeds", "max_sequence_length")
"""What families ask of a pipeline's `encode_prompt` call, where the blocks were given it."""


class Reports(list[RunReport]):
    """Reports of guided calls. Pipelines copy their blocks; the copies write into the same list."""

    def __deepcopy__(self, memo: Any) -> Reports:
        return self


class GuidedLoop:
    """What is mixed into a denoising loop: guidance for the length of each call.

    Attributes:
        reports: one for each call of the pipeline, oldest first.
    """

    guidance: Guidance
    annotations: Annotations
    reports: Reports
    model_name: Any

    def __call__(self, components: Any, state: Any) -> Any:
        session = self._session(components, state)
        try:
            session.open()
            session.family.encodings = [_given(state, _ENCODED)]
            session.family.asked = _given(state, NEGATIVE)
            return super().__call__(components, state)  # type: ignore[misc]
        finally:
            session.close()
            self.reports.extend(session.outcome.reports)

    def _session(self, components: Any, state: Any) -> Session:
        family = family_of(classic_twin(components, self.model_name))
        _joined(family, getattr(components, "guider", None))
        family.from_picture = state.get("image_latents") is not None
        setup = Setup(self.guidance.plugins, self.guidance.memory, self.annotations)
        session = Session(setup, family, Outcome())
        prompt = state.get("prompt")
        if prompt is not None:
            session.prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            session.batch_of_prompts = len(session.prompts)
        session.per_prompt = int(state.get("num_images_per_prompt") or 1)
        session.asked = int(state.get("num_inference_steps") or 0)
        return session


def guided_denoise(
    guidance: Guidance,
    loop: Any = None,
    *,
    prompt: str | Sequence[str] | None = None,
    subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
    layout: Layout | Sequence[Layout | None] | None = None,
) -> Any:
    """A denoising loop with guidance, to put where a modular pipeline has its own.

    Args:
        guidance: plugins and memory.
        loop: the pipeline's own loop (`FluxDenoiseStep()`...), which is copied; SDXL's
            text-to-image loop if left out.
        prompt: the prompt's text, where the call is given embeddings, or the prompt with markup.
        subjects: phrases for plugins that are not given their own.
        layout: likewise.

    Returns:
        A block of the loop's own class, and a `GuidedLoop` with the calls' `reports`.

    Raises:
        ParameterError: `loop` is not a denoising loop.
        ModelError: it is one of a family whose modular pipelines cannot be guided.
    """
    own = StableDiffusionXLDenoiseStep() if loop is None else loop
    own = own() if isinstance(own, type) else own
    if not isinstance(own, LoopSequentialPipelineBlocks):
        raise ParameterError(
            f"{type(own).__name__} is not a denoising loop; give guided_denoise the block that "
            "loops over the timesteps, or all blocks to guided_blocks, which finds it"
        )
    classic_name(own.model_name)
    step = copy.copy(own)
    kind = type(own)
    step.__class__ = type(f"Guided{kind.__name__}", (GuidedLoop, kind), {"__doc__": kind.__doc__})
    made: Any = step
    made.guidance, made.reports = guidance, Reports()
    made.annotations = Annotations.of(prompt, subjects, layout)
    return made


def guided_blocks(blocks: Any, guidance: Guidance, **annotations: Any) -> Any:
    """A copy of a modular pipeline's blocks with guidance in every denoising loop.

    Args:
        blocks: `StableDiffusion3AutoBlocks()`...; left as it is.
        guidance: plugins and memory.
        annotations: `prompt`, `subjects` and `layout` as in `guided_denoise`.

    Raises:
        ModelError: no block is a denoising loop, or one is of a family that cannot be guided.
    """
    # Diffusers keeps blocks in class attributes, so an edit in place would reach other pipelines.
    found = copy.deepcopy(blocks)
    if isinstance(found, LoopSequentialPipelineBlocks):
        return guided_denoise(guidance, found, **annotations)
    if not _exchange(found, guidance, annotations):
        raise ModelError(
            f"{type(blocks).__name__} has no denoising loop among its blocks; guided_blocks is for "
            "the blocks of a whole modular pipeline, or its denoising step"
        )
    return found


def _exchange(blocks: Any, guidance: Guidance, annotations: dict[str, Any]) -> int:
    """Exchange the loops below a block for guided ones; how many."""
    count = 0
    for name, block in dict(getattr(blocks, "sub_blocks", None) or {}).items():
        if isinstance(block, LoopSequentialPipelineBlocks):
            blocks.sub_blocks[name] = guided_denoise(guidance, block, **annotations)
            count += 1
        else:
            count += _exchange(block, guidance, annotations)
    return count


def classic_twin(components: Any, model_name: str) -> Any:
    """A classic pipeline of the same parts: what a family asks of one is asked of this.

    Raises:
        ModelError: the modular pipeline's family has none, or cannot be guided.
    """
    kind = getattr(diffusers, classic_name(model_name))
    takes = inspect.signature(kind.__init__).parameters
    parts = {
        name: getattr(components, name, None)
        for name in takes
        if name in components.components or takes[name].default is inspect.Parameter.empty
    }
    parts.pop("self", None)
    if "add_watermarker" in takes:
        parts["add_watermarker"] = False  # no picture leaves this pipeline
    return kind(**parts)


def _joined(family: Family, guider: Any) -> None:
    """Tell a family how a loop's guider, if it has one, joins the two predictions."""
    if guider is None:
        family.distilled = (
            "this modular loop makes one prediction a step and none without the prompt to steer "
            "from; use the classic pipeline with a negative prompt and true_cfg_scale above 1, or "
            "plugins that need none (negatives: nag, vsf, delayed-negative with negative=...)"
        )
    elif type(guider) is not ClassifierFreeGuidance or guider.guidance_rescale != 0:
        family.unsteered = (
            f"predictions are joined by {type(guider).__name__} here, and methods that steer "
            "the prediction are exact with ClassifierFreeGuidance without guidance_rescale "
            "only; use that guider, or these methods as the guider (prediction_guider)"
        )
    else:
        family.scale = guider.guidance_scale + float(guider.use_original_formulation)
        family.separate = guider_is_on(guider) and family.scale != 1
        family.distilled = (
            "this loop's guider is switched off or at a scale of 1, so there is no unconditional "
            "prediction to steer from; pipe.update_components(guider=ClassifierFreeGuidance("
            "guidance_scale=5.0)), or plugins that need none (negatives: nag, vsf, "
            "delayed-negative with negative=...)"
        )


def _given(state: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: state.get(name) for name in names if state.get(name) is not None}


__all__ = ["GuidedLoop", "Reports", "classic_twin", "guided_blocks", "guided_denoise"]
