"""Guidance in Modular Diffusers, where a loop is made of blocks and has no callback.

`guided_denoise(guidance)` is a denoising loop to put where the pipeline has its own:

    blocks = StableDiffusionXLAutoBlocks()
    loops = blocks.sub_blocks["denoise"].sub_blocks["denoise"].sub_blocks
    loops["denoise"] = guided_denoise(guidance)
    pipe = blocks.init_pipeline(...)

Modular pipelines make the two predictions in calls of their own and let a *guider* join them. So
what is said of pipelines with halves apart holds here: energies are found before the conditional
call, the unconditional one follows the moved latents, and what the guider made of both is
corrected for methods that change the prediction, on its way into the scheduler. That is exact for
`ClassifierFreeGuidance`; other guiders are refused for such methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import StableDiffusionXLPipeline
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines.stable_diffusion_xl.denoise import StableDiffusionXLDenoiseStep

from adhere.errors import ModelError
from adhere.layout import Layout
from adhere.pipelines.attachment import Attachment, Flight, Wishes
from adhere.pipelines.guidance import Guidance
from adhere.pipelines.report import RunReport


class GuidedDenoise(StableDiffusionXLDenoiseStep):
    """SDXL's denoising loop with guidance for the length of each call."""

    guidance: Guidance
    wishes: Wishes
    reports: list[RunReport]

    def __call__(self, components: Any, state: Any) -> Any:
        flight = self._flight(components, state)
        try:
            flight.open()
            return super().__call__(components, state)
        finally:
            flight.close()
            self.reports.extend(flight.attachment.reports)

    def _flight(self, components: Any, state: Any) -> Flight:
        guider = components.guider
        pipe = _classic(components)
        attachment = Attachment(
            pipe, self.guidance.plugins, self.guidance.memory, self.wishes, record=False
        )
        family = attachment.family
        if type(guider) is ClassifierFreeGuidance and guider.guidance_rescale == 0:
            family.separate = guider.guidance_scale != 1
            pipe._guidance_scale = guider.guidance_scale + float(guider.use_original_formulation)
        else:
            family.distilled = (
                f"predictions are joined by {type(guider).__name__} here, and methods that steer "
                "the prediction are exact with ClassifierFreeGuidance without guidance_rescale "
                "only; use that guider"
            )
        flight = Flight(attachment)
        prompt = state.get("prompt")
        if prompt is not None:
            flight.prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            flight.batch_of_prompts = len(flight.prompts)
        flight.per_prompt = int(state.get("num_images_per_prompt") or 1)
        flight.asked = int(state.get("num_inference_steps") or 0)
        return flight


def guided_denoise(
    guidance: Guidance,
    *,
    prompt: str | Sequence[str] | None = None,
    subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
    layout: Layout | Sequence[Layout | None] | None = None,
) -> GuidedDenoise:
    """A denoising loop for modular SDXL pipelines, with guidance.

    Args:
        guidance: plugins and memory.
        prompt: the prompt's text, where the call is given embeddings, or the prompt with markup.
        subjects: phrases for plugins that are not given their own.
        layout: likewise.
    """
    step = GuidedDenoise()
    step.guidance, step.reports = guidance, []
    step.wishes = Wishes.of(prompt, subjects, layout)
    return step


def _classic(components: Any) -> Any:
    """A classic pipeline of the same parts: what a family asks of one is asked of this."""
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet")
    parts = {name: getattr(components, name, None) for name in names}
    if parts["unet"] is None:
        raise ModelError("this modular pipeline has no unet; guided_denoise is for SDXL")
    return StableDiffusionXLPipeline(**parts, scheduler=components.scheduler, add_watermarker=False)


__all__ = ["GuidedDenoise", "guided_denoise"]
