"""The engine: gives every guide its moments in one run, and owns the gradient.

Guides state energies; the engine makes one conditional pass for all of them, stopped at the last
layer anybody reads, and takes one backward where their step rules allow.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adhere.errors import GuidanceError, GuidanceWarning, ModelError
from adhere.guides.guide import Guide, Plugin, Step, Text
from adhere.guides.maps import Maps, Read
from adhere.guides.run import Prompt, Run
from adhere.pipelines.engine import schedulers
from adhere.pipelines.engine.descent import Descent
from adhere.pipelines.engine.passes import Passes
from adhere.pipelines.engine.prediction import Predictions
from adhere.pipelines.engine.report import RunReport
from adhere.pipelines.families import Family
from adhere.pipelines.hooks.call import Call, differentiable, normal, single
from adhere.pipelines.hooks.hazards import refuse_compiled_in_place, refuse_unsafe_gradients
from adhere.pipelines.hooks.readout import BiasedLayer, Pass, native_attention, reading

if TYPE_CHECKING:
    from adhere.pipelines.engine.guidance import Memory


def _overrides(guide: Guide, moment: str) -> bool:
    return getattr(type(guide), moment) is not getattr(Guide, moment)


class Engine:
    """One run. Made at the first denoiser call, when everything about the run is known."""

    def __init__(
        self,
        *,
        family: Family,
        scheduler: Any,
        plugins: Sequence[Plugin],
        memory: Memory,
        record: bool,
        prompts: tuple[Prompt, ...],
        asked: int,
        call: Call,
        unscaled: Tensor | None,
    ) -> None:
        self.family, self.scheduler, self.record = family, scheduler, record
        self.busy = False
        batch = len(prompts)
        latents = family.latents(call, unscaled, batch)
        self.clock = schedulers.Clock(scheduler, family.timestep(call), asked)
        self.run = Run(
            prompts=prompts,
            tracks=family.tracks([prompt.plain for prompt in prompts], call) if plugins else (),
            grid=family.grid(latents, call),
            steps=self.clock.count,
            family=family.name,
            sampling=family.samples_from_noise() and self.clock.sampling,
        )
        self.names = [_label(plugins, i) for i in range(len(plugins))]
        self.guides = [plugin.guide(self.run) for plugin in plugins]
        self.report = RunReport(family.name, batch, self.run.steps)
        for track in self.run.tracks:
            for prompt in track.images:
                if prompt.cut is not None:
                    self.report.note(
                        f"the {prompt.encoder} encoder reads {prompt.width} tokens, so the prompt "
                        f"was cut before {prompt.prompt[prompt.cut :][:40]!r}"
                    )
        self.passes = Passes(self, memory)
        self.descent = Descent(self, memory)
        predicting = [guide for guide in self.guides if _overrides(guide, "predict")]
        self.predictions = Predictions(self, predicting, call)
        self._biasing = [guide for guide in self.guides if _overrides(guide, "bias")]
        self._embedding = [guide for guide in self.guides if _overrides(guide, "embed")]
        self._frames: list[Tensor] = []
        self._scales: dict[Read, list[str]] = {}
        self._reading: tuple[Pass, ExitStack] | None = None
        self._now: Now | None = None
        self._answering = False
        self._postponed: Tensor | None = None
        self._check(call)
        with self.occupied():
            self.predictions.encode()

    # The three moments of the pipeline's own loop

    def before(self, call: Call, unscaled: Tensor | None) -> Call | None:
        """Before the denoiser's own pass. Returns the call to make instead, None for the same."""
        family, batch = self.family, self.run.batch
        rows = family.conditional_rows(call, batch)
        if rows is None or self._now is not None:
            # The first call with the prompt's rows is the step's own; others follow it.
            return self._other_half(call)
        step = self.step_now(family.timestep(call))
        latents = family.latents(call, unscaled, batch)
        now = Now(step, call, call, rows, call.rows, latents, latents)
        self._now, self._answering = now, True
        first = schedulers.first_evaluation(self.scheduler)
        with self.occupied():
            now.call = self._embedded(now.call, step)
            self.passes.aim(now.call, step)
            if self.clock.made == 0 and self.run.sampling:
                now.moved = self._initial(now.moved)
            if first:
                now.moved, now.later = self.descent.descend(step, now.moved)
            if now.moved is not latents:
                now.call = family.with_latents(now.call, self.scaled(now.moved, call))
            now.call = self.predictions.extended(now.call, rows)
        self._watch(now)
        return None if now.call is call else now.call

    def after(self, output: Any) -> Any:
        """After the denoiser's own pass: reads what was recorded, changes the prediction."""
        now, answering = self._now, self._answering
        self._answering = False
        self._close_reading()
        if now is None:
            return None
        with self.occupied():
            if answering:
                return self.predictions.after(now, output)
            self.predictions.after_other(now, output)
        return None

    def step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Around the scheduler's step: from the moved latents, and moves the result if asked."""
        now, self._now = self._now, None
        if now is not None and now.moved is not now.latents:
            args, kwargs, sample = _with_sample(args, kwargs)
            schedulers.edited(self.scheduler)
            if sample is not None:
                args = (*args[:2], self._moved_sample(now, sample), *args[3:])
        if self.predictions.apart:
            args, kwargs, _ = _with_sample(args, kwargs)
            args = (self.predictions.combined(args[0]), *args[1:])
        result = original(*args, **kwargs)
        self.clock.tick()
        if now is not None and now.later is not None:
            self._postponed = now.later
        if self._postponed is not None and (
            schedulers.first_evaluation(self.scheduler) or self.done
        ):
            schedulers.moved_after(self.scheduler)
            result = self._moved_result(result, self._postponed)
            self._postponed = None
        return result

    @property
    def done(self) -> bool:
        return self.clock.done

    def finish(self) -> RunReport:
        for name, guide in zip(self.names, self.guides, strict=True):
            self.report.plugins[name] = dict(guide.report())
        for sentence in self.run.notes:
            self.report.note(sentence)
        return self.report

    def recorded(self) -> Float[Tensor, "batch steps h w tokens"] | None:
        return torch.stack(self._frames, dim=1) if self._frames else None

    def close(self) -> None:
        """Take off what a failed step has left on the denoiser."""
        if self._reading is not None:
            self._reading[1].close()
            self._reading = None

    # Services for passes and descent

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Inside, the engine's own calls of the pipeline's parts are not the pipeline's."""
        self.busy = True
        started = time.perf_counter()
        try:
            yield
        finally:
            self.busy = False
            self.report.seconds += time.perf_counter() - started

    def step_now(self, timestep: float) -> Step:
        sigma, noise, self.alpha_bar = schedulers.noise_levels(self.scheduler, timestep)
        return Step(self.clock.index, self.clock.count, timestep, sigma, noise)

    def scaled(self, latents: Tensor, call: Call) -> Tensor:
        """Latents as the model sees them."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return latents
        timestep = call.values.get("timestep", self.family.timestep(call))
        if isinstance(timestep, Tensor):
            timestep = timestep.flatten()[0]
        scaled: Tensor = self.scheduler.scale_model_input(latents, timestep)
        return scaled

    def bias_of(self, step: Step) -> Callable[[BiasedLayer], Tensor | None] | None:
        """All guides' biases for a layer, added up; None when no guide biases."""
        if not self._biasing:
            return None

        def total(layer: BiasedLayer) -> Tensor | None:
            parts = [guide.bias(step, layer) for guide in self._biasing]
            given = [part for part in parts if part is not None]
            return torch.stack(torch.broadcast_tensors(*given)).sum(0) if given else None

        return total

    def maps_of(
        self, running: Pass, images: Sequence[int], scales: dict[Read, list[str]]
    ) -> list[Maps]:
        """The maps of a finished pass, one value for each text encoder."""
        device, gain = next(iter(running.layers.values())).probabilities.device, self.family.gain

        def layers(read: Read) -> list[Any]:
            if read not in scales:
                raise GuidanceError(
                    f"a guide asked for {read.kind} maps at scale {read.scale!r} without declaring "
                    "it in its `reads`"
                )
            return [running.layers[name] for name in scales[read]]

        return [
            Maps(tuple(images), layers, _keep(track, images).to(device), self.run, number, gain)
            for number, track in enumerate(self.run.tracks)
        ]

    # Moments

    def _initial(self, latents: Tensor) -> Tensor:
        choosing = [guide for guide in self.guides if _overrides(guide, "initial")]
        if not choosing:
            return latents
        sigma = float(getattr(self.scheduler, "init_noise_sigma", 1.0))
        # A guide may differentiate here, which callers in inference mode would not allow.
        given = noise = normal(single(latents) / sigma)
        look = self.passes.look(noise, sigma)
        for guide in choosing:
            with differentiable(), look:
                chosen = guide.initial(noise, look).detach()
            if not torch.isfinite(chosen).all():
                self.report.note(
                    "the chosen starting noise was not finite, so it was left as it was"
                )
                continue
            noise = chosen
        if torch.equal(noise, given):
            return latents
        return (noise * sigma).to(latents.dtype)

    def _embedded(self, call: Call, step: Step) -> Call:
        """The step's own call with the text that the guides want."""
        if not self._embedding:
            self.passes.texts = {}
            return call
        family, batch = self.family, self.run.batch
        embeds: Tensor = call.values[family.text]
        rows, none = family.conditional_rows(call, batch), family.unconditional_rows(call, batch)
        assert rows is not None  # `before` has seen to that
        text = self._said(step, embeds[rows], None if none is None else embeds[none])
        self.passes.texts = dict(text.layers)
        changed = embeds.clone()
        changed[rows] = text.cond
        if none is not None and text.uncond is not None:
            changed[none] = text.uncond
        return family.retexted(call, changed)

    def _said(self, step: Step, cond: Tensor, uncond: Tensor | None) -> Text:
        """What the guides make of a step's embeddings."""
        width = (cond if uncond is None else uncond).shape[1]

        def encode(texts: Sequence[str]) -> Tensor:
            encoded: Tensor = self.family.encode(texts).values[self.family.text]
            return F.pad(encoded, (0, 0, 0, width - encoded.shape[1]))

        text = Text(cond, uncond, encode, sites=tuple(self.passes.cross_sites()))
        for guide in self._embedding:
            text = guide.embed(step, text)
        return text

    def _other_half(self, call: Call) -> Call | None:
        """A further call of a step follows the moved latents.

        Where the halves are called apart, it has the unconditional text.
        """
        now = self._now
        if now is None:
            return None
        changed = call
        if self._embedding and self.predictions.apart:
            name = self.family.text
            embeds: Tensor = call.values[name]
            with self.occupied():
                text = self._said(now.step, now.given.values[name][now.rows], embeds)
            if text.uncond is not None and text.uncond is not embeds:
                changed = self.family.retexted(call, text.uncond)
        if now.moved is not now.latents:
            changed = self.family.with_latents(changed, self.scaled(now.moved, call))
        return None if changed is call else changed

    # Housekeeping

    def warn(self, sentence: str) -> None:
        """Say it in the report and as a Python warning."""
        self.report.note(sentence)
        warnings.warn(sentence, GuidanceWarning, stacklevel=2)

    def _check(self, call: Call) -> None:
        """Refuse what cannot work, before any denoising."""
        gradient = any(guide.reads for guide in self.guides)
        steers = bool(self.predictions.texts) or any(guide.negative for guide in self.guides)
        reason = self.family.refuse(prediction=steers, gradient=gradient)
        if reason:
            raise ModelError(reason)
        if gradient:
            refuse_unsafe_gradients(self.family.denoiser)
            doubt = schedulers.doubt(self.scheduler)
            if doubt:
                self.warn(doubt)
        if steers and not self.predictions.available(call):
            if self.family.distilled:
                raise ModelError(self.family.distilled)
            self.warn(
                "guidance_scale is 1 or less, so there is no unconditional prediction and methods "
                "that steer the prediction have no effect; use a guidance_scale above 1"
            )

    def _watch(self, now: Now) -> None:
        """Hook the denoiser's own pass where layers are biased, recorded or given other text."""
        scales = self.passes.scales([Read("cross")]) if self.record else {}
        bias = self.bias_of(now.step)
        if not scales and bias is None and not self.passes.texts:
            return
        refuse_compiled_in_place(self.family.denoiser)
        running = self.passes.own(now.call, now.rows, scales, bias)
        stack = ExitStack()
        stack.enter_context(self.passes.eager())
        stack.enter_context(native_attention(self.family.denoiser))
        stack.enter_context(reading(running, self.family.modules(), self.family.attention_layers()))
        self._reading = (running, stack)
        self._scales = scales

    def _close_reading(self) -> None:
        if self._reading is None:
            return
        running = self._reading[0]
        self.close()
        if self.record and running.layers:
            maps = (
                self.maps_of(running, range(self.run.batch), self._scales)
                if self.run.tracks
                else []
            )
            cross = maps[0].cross() if maps else _plain_cross(running, self._scales)
            self._frames.append(cross.detach().float().cpu())

    def _moved_sample(self, now: Now, sample: Tensor) -> Tensor:
        if self.family.rounds:
            return sample + self.family.as_sample(now.moved - now.latents, sample)
        return self.family.as_sample(now.moved, sample)

    def _moved_result(self, result: Any, later: Tensor) -> Any:
        """The scheduler's result with its sample moved."""
        if isinstance(result, tuple):
            return (result[0] - self.family.as_sample(later, result[0]), *result[1:])
        result.prev_sample = result.prev_sample - self.family.as_sample(later, result.prev_sample)
        return result


@dataclass
class Now:
    """The step that is being made.

    `given` as the pipeline calls, `call` as it will be made, `rows` its conditional rows, `base`
    its rows before extra texts were added; `latents` as given, `moved` as the guides moved them,
    `later` the change after the step.
    """

    step: Step
    given: Call
    call: Call
    rows: slice
    base: int
    latents: Tensor
    moved: Tensor
    later: Tensor | None = None


def _label(plugins: Sequence[Plugin], index: int) -> str:
    """The plugin's name, numbered if it is used more than once."""
    name = plugins[index].name
    before = sum(plugin.name == name for plugin in plugins[:index])
    return name if not before else f"{name}#{before + 1}"


def _keep(track: Any, images: Sequence[int]) -> Tensor:
    width = max(prompt.width for prompt in track.images)
    keep = torch.zeros(len(images), width, dtype=torch.bool)
    for row, image in enumerate(images):
        keep[row, list(track.images[image].keep)] = True
    return keep


def _plain_cross(running: Pass, scales: dict[Read, list[str]]) -> Tensor:
    names = scales[Read("cross")]
    maps = Maps((), lambda read: [running.layers[name] for name in names], torch.zeros(0))
    return maps.cross()


def _with_sample(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any], Tensor | None]:
    """`scheduler.step(model_output, timestep, sample, ...)` with those three made positional."""
    named = dict(kwargs)
    given = list(args)
    for name in ("model_output", "timestep", "sample")[len(given) :]:
        given.append(named.pop(name))
    return tuple(given), named, given[2]
