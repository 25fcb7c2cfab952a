"""Prediction methods as a diffusers guider, for modular pipelines whose loop is left alone.

    guidance = Guidance(SafeLatentDiffusion("strong"), DelayedNegative())
    pipe.update_components(guider=prediction_guider(pipe, guidance, guidance_scale=5.0))

A guider decides which predictions a step makes and how they are joined, and sees no latents that it
could move. So it can serve guides that change the prediction (`texts`, `predict`) or the text it
is made under (`embed`), and no others: those belong in the loop (`modular.py`).

    pred_cond, pred_uncond    as in classifier-free guidance
    pred_extra_0, ...         one more for each text of the guides
    pred_cond <- predict(...) and classifier-free guidance joins it with pred_uncond

Each extra prediction is a call of its own with the prompt's inputs, in which the texts are put just
before the denoiser sees them: the family knows under which names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.guiders.guider_utils import GuiderOutput
from torch import Tensor, nn

from adhere.errors import GuidanceError, ModelError, ParameterError
from adhere.guides.guide import Guide, Plugin, Prediction, Step, Text, unpooled
from adhere.guides.run import NO_TEXT, Prompt, Run
from adhere.pipelines.engine.guidance import Guidance
from adhere.pipelines.engine.moments.looking import seed_of
from adhere.pipelines.engine.moments.prediction import agreed, spliced
from adhere.pipelines.families import Family, family_of
from adhere.pipelines.hooks import compat
from adhere.pipelines.hooks.denoiser_call import Call, single
from adhere.pipelines.hooks.schedulers import levels, predictions
from adhere.pipelines.modular.blocks import classic_twin
from adhere.prompt.tokens import Track

_ELSEWHERE = ("initial", "energy", "bias", "attend", "watch", "mask")
"""Moments that need latents or attention."""

_NO_GUIDER = (
    "{} acts on latents or attention, or reads the prompt, which no guider sees; put it in the "
    "loop: guided_blocks(blocks, Guidance(...)) before init_pipeline"
)

COND, UNCOND = 1, 2
"""Which of a step's denoiser calls is which, counted as diffusers does."""


@dataclass
class _Run:
    """One call of the pipeline: its family, guides and extra texts, found at its first step.

    `given` is the step's call with the prompt's inputs, `seen` the latents that the model saw.
    """

    family: Family
    scheduler: Any
    guides: list[Guide]
    extra: dict[str, Any] | None = None
    given: Call | None = None
    seen: Call | None = None


class PredictionGuider(ClassifierFreeGuidance):
    """Classifier-free guidance with the prediction methods of a `Guidance` in it.

    As with diffusers' own guiders, the state of a call lives on the guider: one pipeline, one call
    at a time.

    Args:
        pipe: the modular pipeline, whose encoders embed the guides' texts.
        guidance: plugins that change the prediction or the text and nothing else.
        options: of `ClassifierFreeGuidance`: guidance_scale, guidance_rescale, start, stop...

    Raises:
        ModelError: the pipeline asks no guider, or cannot be guided.
        ParameterError: a plugin acts on latents or attention.
    """

    def __init__(self, pipe: Any, guidance: Guidance, **options: Any) -> None:
        super().__init__(**options)
        if "guider" not in pipe.component_names:
            raise ModelError(
                f"{type(pipe).__name__} asks no guider: its loop makes one prediction a step; use "
                "the classic pipeline with a negative prompt and true_cfg_scale above 1"
            )
        self.pipe, self.guidance = pipe, guidance
        guides = [guide for guide in map(_tried, guidance.plugins) if not guide.off]
        self.texts = [text for guide in guides for text in guide.texts]
        self._steers = bool(self.texts) or any(guide.negative for guide in guides)
        extra = [f"pred_extra_{number}" for number in range(len(self.texts))]
        compat.name_predictions(self, compat.predictions_of(ClassifierFreeGuidance) + extra)
        self._run: _Run | None = None
        self._hook: Any = None

    def new(self, **changes: Any) -> PredictionGuider:
        """A guider for the same pipeline and plugins, with other options."""
        config: Any = self.config
        options = {name: value for name, value in config.items() if not name.startswith("_")}
        return type(self)(self.pipe, self.guidance, **{**options, **changes})

    @property
    def num_conditions(self) -> int:
        both: int = super().num_conditions
        return both if both == 1 else both + len(self.texts)

    @property
    def is_conditional(self) -> bool:
        return compat.calls_prepared(self) != UNCOND

    def reports(self) -> list[dict[str, Any]]:
        """What each plugin's guide reports of the last call."""
        return [dict(guide.report()) for guide in self._run.guides] if self._run else []

    # A step, in the order in which a loop calls its guider

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        super().set_state(step, num_inference_steps, timestep)
        if step == 0:
            self._run = None
            off = not compat.guider_is_on(self) or self._scale() == 1
            if self._steers and off:
                raise ModelError(
                    "this guider is switched off or at a scale of 1, so there is no unconditional "
                    "prediction to steer from; use a guidance_scale above 1"
                )

    def prepare_inputs(self, data: Any) -> list[Any]:
        """One batch for each prediction; those under extra texts begin as the prompt's."""
        found: list[Any] = super().prepare_inputs(data)
        names = compat.predictions_of(self)[len(found) : self.num_conditions]
        return found + [compat.inputs_for(self, data, name) for name in names]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
        found: list[Any] = super().prepare_inputs_from_block_state(data, input_fields)
        names = compat.predictions_of(self)[len(found) : self.num_conditions]
        return found + [compat.inputs_from_state(self, input_fields, data, name) for name in names]

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Before each denoiser call: a hook that fires once, in that call."""
        super().prepare_models(denoiser)
        number = compat.calls_prepared(self)

        def once(module: nn.Module, args: Any, kwargs: Any) -> Any:
            handle.remove()
            changed = self._changed(number, args, kwargs)
            return None if changed is None else ((), changed)

        # In the prompt's call a guided loop looks for gradients, and must see the text by then.
        first = number == COND
        if self._hook is not None:
            self._hook.remove()  # of a call that was never made, since something before it failed
        handle = self._hook = denoiser.register_forward_pre_hook(
            once, with_kwargs=True, prepend=first
        )

    def forward(
        self, pred_cond: Tensor, pred_uncond: Tensor | None = None, **extra: Tensor
    ) -> GuiderOutput:
        changed = pred_cond
        if pred_uncond is not None:
            changed = self._predicted(pred_cond, pred_uncond, list(extra.values()))
        return super().forward(changed, pred_uncond)

    # What the guides make of it

    def _changed(self, number: int, args: Any, kwargs: Any) -> dict[str, Any] | None:
        """The arguments of the step's `number`th denoiser call; None if they stay."""
        if self._run is None:
            twin = classic_twin(self.pipe, self.pipe.blocks.model_name)
            self._run = self._begun(family_of(twin), args, kwargs)
        run = self._run
        family = run.family
        call = family.bind(args, kwargs)
        if number == COND:
            run.given = call
            said = self._said(run, call, None)
            return None if said is None else family.arguments(said)
        if number == UNCOND:
            run.seen = call
            said = self._said(run, run.given, call)
            return None if said is None else family.arguments(said)
        assert run.extra is not None  # or there would be no third call
        call, texts = family.fitted(call, run.extra)
        rows = _one_text(texts, number - UNCOND - 1)
        return family.arguments(call.replace(**spliced(call.values, rows, 0, call.rows)))

    def _begun(self, family: Family, args: Any, kwargs: Any) -> _Run:
        call = family.bind(args, kwargs)
        latents = family.latents(call, None, call.rows)
        grid = family.grid(latents, call)
        # Extra texts get the width of the prompt's, which the loop was given as embeddings.
        family.encodings = [{"prompt_embeds": call.values[family.text]}]
        family.scale = self._scale()
        prompts = (Prompt(NO_TEXT),) * call.rows
        seeds = tuple(map(seed_of, single(latents)))
        described = Run(prompts, (), grid, compat.step_of(self)[1], family.name, seeds=seeds)
        made = [plugin.guide(described) for plugin in self.guidance.plugins]
        guides = [guide for guide in made if not guide.off]
        run = _Run(family, self.pipe.scheduler, guides)
        if self.texts:
            run.extra = dict(family.encode(self.texts).values)
        return run

    def _said(self, run: _Run, given: Call | None, other: Call | None) -> Call | None:
        """The prompt's call, or the `other`, with the text that the guides want."""
        assert given is not None  # the prompt's call comes first
        family, name = run.family, run.family.text
        cond = given.values[name]
        uncond = None if other is None else other.values[name]
        width = (cond if uncond is None else uncond).shape[1]

        def encode(texts: Sequence[str]) -> Tensor:
            return family.widened(family.encode(texts).values[name], width)

        def tracks(texts: Sequence[str]) -> tuple[Track, ...]:
            return family.tracks_of(texts, given)

        def pool(texts: Sequence[str]) -> Tensor:
            found = family.pooled(family.encode(texts).values)
            return unpooled(texts) if found is None else found

        pooled = family.pooled(given.values) if other is None else None
        text = Text(
            cond,
            uncond,
            encode,
            tracks=tracks,
            pooled=pooled,
            pool=pool,
            verbatim=family.layer_texts,
        )
        for guide in run.guides:
            text = guide.embed(self._now(run, given), text)
        if other is None and text.pooled is not pooled:
            pooling = family.repooled(given, _known(text.pooled))
            return family.retouched(pooling, text.cond, run.guides)
        if other is None:
            return None if text.cond is cond else family.retouched(given, text.cond, run.guides)
        kept = text.uncond is None or text.uncond is uncond
        return None if kept else family.retouched(other, _known(text.uncond), run.guides)

    def _predicted(self, cond: Tensor, uncond: Tensor, extra: list[Tensor]) -> Tensor:
        """The conditional prediction after all guides, in the loop's own form."""
        run = self._run
        if run is None or run.seen is None:
            return cond
        family, call = run.family, run.seen
        level = single(levels.level(run.scheduler, family.timestep(call)).alpha_bar)
        level = level.to(cond.device)
        parts = [single(_unpacked(family, call, part)) for part in (uncond, cond, *extra)]
        seen = single(family.latents(call, None, call.rows))[:, : parts[0].shape[1]]
        noise = [predictions.to_noise(run.scheduler, part, seen, level) for part in parts]
        eps = Prediction(noise[0], noise[1], tuple(noise[2:]), family.guidance_scale(), seen)
        change = agreed(run.guides, self._now(run, call), eps)
        if change is None:
            return cond
        clean = torch.zeros_like(seen)
        changed = parts[1] + predictions.from_noise(run.scheduler, change, clean, level)
        return family.as_sample(changed, cond)

    def _now(self, run: _Run, call: Call) -> Step:
        timestep = run.family.timestep(call)
        level = levels.level(run.scheduler, timestep)
        return Step(*compat.step_of(self), timestep, level.sigma, level.noise)

    def _scale(self) -> float:
        return float(self.guidance_scale) + float(self.use_original_formulation)


def prediction_guider(pipe: Any, guidance: Guidance, **options: Any) -> PredictionGuider:
    """The prediction methods of a `Guidance` as a guider of a modular pipeline.

    Args:
        pipe: the modular pipeline that it is for, with its encoders loaded.
        guidance: plugins that change the prediction (`safe-latent-diffusion`, `sega`) or the
            negative text (`delayed-negative`).
        options: of `ClassifierFreeGuidance`: guidance_scale, guidance_rescale, start, stop...

    Raises:
        ModelError: the pipeline asks no guider (FLUX.1), or cannot be guided.
        ParameterError: a plugin acts on latents or attention.
    """
    return PredictionGuider(pipe, guidance, **options)


def _tried(plugin: Plugin) -> Guide:
    """A plugin's guide in a run that nobody makes, to learn its texts and what it acts on.

    Raises:
        ParameterError: it is no method for a guider.
    """
    try:
        guide = plugin.guide(Run((Prompt(NO_TEXT),), (), (1, 1), 1, ""))
    except GuidanceError as error:  # it looks for words or a layout
        raise ParameterError(_NO_GUIDER.format(plugin.name)) from error
    if any(getattr(type(guide), m) is not getattr(Guide, m) for m in _ELSEWHERE):
        raise ParameterError(_NO_GUIDER.format(plugin.name))
    return guide


def _unpacked(family: Family, call: Call, prediction: Tensor) -> Tensor:
    """A prediction as the scheduler gets it, as `Float[batch channels h w]`."""
    posing = call.replace(**{family.leading: prediction})
    return family.latents(posing, None, call.rows)


def _one_text(rows: Any, index: int) -> dict[str, Any]:
    """One text of several, of every argument."""
    return {
        name: value[index : index + 1] if isinstance(value, Tensor) else _one_text(value, index)
        for name, value in rows.items()
    }


def _known(text: Tensor | None) -> Tensor:
    assert text is not None  # asked before
    return text


__all__ = ["PredictionGuider", "prediction_guider"]
