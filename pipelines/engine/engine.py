"""The engine: gives every guide its moments in one run, and owns the gradient.

Guides state energies; the engine makes one conditional pass for all of them, stopped at the last
layer anybody reads, and takes one backward where their step rules allow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adhere.errors import GuidanceError, ModelError, ParameterError
from adhere.guides.guide import Guide, Plugin
from adhere.guides.recording import RecordedAttention
from adhere.guides.run import Prompt, Run
from adhere.pipelines.engine.moments.descent import Descent
from adhere.pipelines.engine.moments.embedding import Embedding
from adhere.pipelines.engine.moments.finished import Pictures
from adhere.pipelines.engine.moments.looking import chosen_noise, seed_of
from adhere.pipelines.engine.moments.masking import Masking
from adhere.pipelines.engine.moments.own_pass import OwnPass
from adhere.pipelines.engine.moments.passes import Passes
from adhere.pipelines.engine.moments.prediction import Predictions
from adhere.pipelines.engine.moments.resuming import resumed
from adhere.pipelines.engine.moments.selecting import Selecting
from adhere.pipelines.engine.report import RunReport
from adhere.pipelines.engine.state import Now, Setup, State
from adhere.pipelines.families import Family
from adhere.pipelines.hooks.denoiser_call import Call, single
from adhere.pipelines.hooks.hazards import refuse_caches, refuse_unsafe_gradients
from adhere.pipelines.hooks.schedulers import edits, fit, levels
from adhere.pipelines.hooks.schedulers.clock import Clock, first_evaluation
from adhere.pipelines.hooks.weights import fingerprint
from adhere.prompt.tokens import Track


def begun(
    setup: Setup,
    family: Family,
    scheduler: Any,
    prompts: tuple[Prompt, ...],
    asked: int,
    call: Call,
    unscaled: Tensor | None,
) -> State:
    """A run, as it is known at its first denoiser call.

    Args:
        prompts: one for each image.
        asked: number of steps that was asked for, 0 if the timesteps were given.
        call: the denoiser call.
        unscaled: the latents before the scheduler scaled them, where it does.
    """
    reason = fit.refuse(scheduler)
    if reason:
        raise ModelError(reason)
    tracks, unread = _tracks(setup, family, [prompt.plain for prompt in prompts], call)
    latents = family.latents(call, unscaled, len(prompts))
    clock = Clock(scheduler, family.timestep(call), asked)

    run = Run(
        prompts=prompts,
        tracks=tracks,
        grid=family.grid(latents, call),
        steps=clock.count,
        family=family.name,
        sampling=family.samples_from_noise() and clock.sampling,
        multistep=edits.remembers(scheduler),
        unread=unread,
        pictures=sum(family.pictures(call)),
        guided=family.guided(call, len(prompts)),
        size=_size(family),
        seeds=tuple(map(seed_of, single(latents))),
        weights=functools.partial(fingerprint, family.denoiser),
    )
    report = RunReport(family.name, len(prompts), run.steps, guided=run.guided)
    acting = _acting(setup.plugins, run)
    if unread is not None and any(guide.reads for _, guide in acting):
        raise unread
    if unread is not None and acting:
        report.note(f"no plugin of this run looks for words, which is as well: {unread}")
    state = State(
        setup=setup,
        family=family,
        scheduler=scheduler,
        run=run,
        clock=clock,
        report=report,
        names=tuple(name for name, _ in acting),
        guides=tuple(guide for _, guide in acting),
        unread=str(run.unread or ""),
    )
    state.note_losses(tracks)
    return state


def _acting(plugins: Sequence[Plugin], run: Run) -> list[tuple[str, Guide]]:
    """The guides that will change something, and their names.

    Raises:
        ParameterError: one puts another text in the prompt's place, and one looks for words there,
            or another one puts in its own, or two do so in the negative prompt's.
    """
    acting, looking = list[tuple[str, Guide]](), list[str]()
    for name, plugin in zip(_labels(plugins), plugins, strict=True):
        run.used.discard("words")
        guide = plugin.guide(run)
        if guide.off:
            continue
        acting.append((name, guide))
        if "words" in run.used or guide.reads or guide.watches:
            looking.append(name)
    denying = [name for name, guide in acting if guide.renegates]
    _refuse_several(denying, "another text than the negative prompt")
    anew = [name for name, guide in acting if guide.rewords]
    _refuse_several(anew, "another text than the prompt")
    if anew:
        refusal = ParameterError(
            f"{anew[0]} gives the model another text than the prompt, in which "
            f"{' and '.join(looking) or 'a plugin'} would look for the prompt's words in the wrong "
            "place; leave one of them out (caption-jitter:way=noise puts in no words)"
        )
        if looking:
            raise refusal
        run.unread = refusal
    return acting


def _refuse_several(names: Sequence[str], what: str) -> None:
    """Raise `ParameterError` for guides that each put a text in the same place."""
    if len(names) > 1:
        raise ParameterError(
            f"{' and '.join(names)} each give the model {what}, and the last one alone would be "
            "heard; leave one of them out"
        )


def _size(family: Family) -> tuple[int, int] | None:
    """Height and width that the pipeline was asked for, if it was."""
    height, width = (family.argument(name, None) for name in ("height", "width"))
    return (height, width) if height and width else None


def _tracks(
    setup: Setup, family: Family, texts: list[str], call: Call
) -> tuple[tuple[Track, ...], GuidanceError | None]:
    """The prompts' columns, or why there are none: a method that needs no words can do without."""
    if not setup.plugins and not setup.record:
        return (), None
    try:
        return family.tracks(texts, call), None
    except GuidanceError as error:
        return (), error


class Engine:
    """One run, moment by moment."""

    def __init__(self, state: State, call: Call) -> None:
        self.state = state
        self.passes = Passes(state)
        self.descent = Descent(state, self.passes)
        self.embedding = Embedding(state, self.passes.cross_sites())
        self.masking = Masking(state)
        self.predictions = Predictions(state, call)
        self.own_pass = OwnPass(state, self.passes)
        self.selecting = Selecting(state, self.passes)
        self._now: Now | None = None
        self._first: Now | None = None
        self._answering = False
        self._postponed: Tensor | None = None
        self._check(call)
        with state.occupied():
            self.predictions.encode()
            self.passes.extras.encode()

    # The three moments of the pipeline's own loop

    def before(self, call: Call, unscaled: Tensor | None) -> Call | None:
        """Before the denoiser's own pass. Returns the call to make instead, None for the same."""
        rows = self.state.family.conditional_rows(call, self.state.run.batch)
        if rows is None or self._now is not None:
            # The first call with the prompt's rows is the step's own; others follow it.
            return self._following(call)
        latents = self.state.family.latents(call, unscaled, self.state.run.batch)
        step = self.state.step_at(self.state.family.timestep(call))
        now = Now(step, call, call, rows, call.rows, latents, latents)
        self._now, self._answering = now, True
        self._first = self._first or now
        with self.state.occupied():
            self._guide(now)
        longer = self.own_pass.open(now)
        return None if longer is call else longer

    def _guide(self, now: Now) -> None:
        """All that guides do before a step's own call: text, noise, descent, extra texts."""
        now.call = self.embedding.applied(now.call, now.step)
        self.masking.decide(now.step)
        now.call = self.masking.applied(now.call)
        self.passes.aim(now.call, now.step)
        if self.state.clock.made == 0 and self.state.run.sampling:
            now.moved = chosen_noise(self.state, self.passes, now)
        if first_evaluation(self.state.scheduler):
            if self.state.run.sampling:
                assert self._first is not None  # this step is, or an earlier one
                now.moved = resumed(self.state, self.passes, now, self._first)
            now.moved, now.later = self.descent.descend(now.step, now.moved)
        if now.moved is not now.latents:
            scaled = self.state.scaled(now.moved, now.given)
            now.call = self.state.family.with_latents(now.call, scaled)
        now.call = self.predictions.extended(now.call, now.rows, now.step)

    def _following(self, call: Call) -> Call | None:
        """A further call of a step follows the moved latents.

        Where the halves are called apart, it has the unconditional text.
        """
        now = self._now
        if now is None:
            return None
        self._refuse_other_latents(call, now)
        self.passes.adapters.aim(call, now.step, range(self.state.run.batch))
        changed = self.masking.applied(call)
        if self.predictions.apart:
            with self.state.occupied():
                changed = self.embedding.applied_apart(changed, now)
        if now.moved is not now.latents:
            scaled = self.state.scaled(now.moved, call)
            changed = self.state.family.with_latents(changed, scaled)
        return None if changed is call else changed

    def _refuse_other_latents(self, call: Call, now: Now) -> None:
        """Raise `ModelError` where a further call of a step is on another picture than its own."""
        family, batch = self.state.family, self.state.run.batch
        seen, own = (family.latents(one, None, batch) for one in (call, now.given))
        if seen.shape != own.shape or not torch.equal(seen, own):
            raise ModelError(
                f"{type(family.pipe).__name__} calls its denoiser several times a step on "
                "different latents (views of a panorama, passes of its own), and guidance would "
                "put one's in the others' place; use the model's plain pipeline"
            )

    def after(self, output: Any) -> Any:
        """After the denoiser's own pass: reads what was recorded, changes the prediction."""
        now, answering = self._now, self._answering
        self._answering = False
        self.passes.adapters.done()
        self.own_pass.finish()
        if now is None:
            return None
        with self.state.occupied():
            if answering:
                return self.predictions.after(now, output)
            self.predictions.after_other(now, output)
        return None

    def step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Around the scheduler's step: from the moved latents, and moves the result if asked."""
        now, self._now = self._now, None
        scheduler = self.state.scheduler
        if now is not None and now.moved is not now.latents:
            args, kwargs, sample = _with_sample(args, kwargs)
            if sample is not None:
                moved = self._moved_sample(now, sample)
                edits.moved(scheduler, moved - sample)
                args = (*args[:2], moved, *args[3:])
        if self.predictions.apart:
            args, kwargs, _ = _with_sample(args, kwargs)
            args = (self.predictions.combined(args[0]), *args[1:])
        if now is not None and self.selecting.guides:
            args, kwargs, sample = _with_sample(args, kwargs)
            assert sample is not None  # as `_with_sample` gives it to every scheduler
            self.selecting.before(now, args[0], sample)
        result = original(*args, **kwargs)
        self.state.clock.tick()
        if now is not None and now.later is not None:
            self._postponed = now.later
        if self._postponed is not None and (first_evaluation(scheduler) or self.done):
            later = levels.scale_after(scheduler) * self._postponed
            edits.moved(scheduler, -later)
            change = self.state.family.as_sample(later, sample_of(result))
            result = with_sample(result, sample_of(result) - change)
            self._postponed = None
        if self.selecting.guides:
            result = with_sample(result, self.selecting.after(sample_of(result)))
        if self.done:
            self._show_finished(result)
        return result

    def _show_finished(self, result: Any) -> None:
        """Let guides ask what the model makes of what the last step has returned."""
        asking = self.state.overriding("finished")
        if not asking or self._first is None:
            return
        pictures = Pictures(self.state, self._first, sample_of(result))
        with self.state.occupied(), torch.no_grad():
            for guide in asking:
                guide.finished(pictures)

    @property
    def done(self) -> bool:
        return self.state.clock.done

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do: no guide acts, nobody records or may interrupt."""
        setup = self.state.setup
        return not (self.state.guides or setup.record or setup.interrupt)

    def finish(self) -> RunReport:
        report = self.state.report
        for name, guide in zip(self.state.names, self.state.guides, strict=True):
            report.plugins[name] = dict(guide.report())
        for sentence in self.state.run.notes:
            report.note(sentence)
        if names := " + ".join(self.state.names):
            for what in self.state.run.unused():
                report.note(
                    f"the {what} had no effect with {names}: no plugin there follows it, or each "
                    "has its own"
                )
        return report

    def recorded(self) -> tuple[RecordedAttention, ...]:
        return self.own_pass.recorded()

    def close(self) -> None:
        """Take off what a failed step has left on the denoiser."""
        self.own_pass.close()

    def _check(self, call: Call) -> None:
        """Refuse what cannot work, before any denoising."""
        state, family = self.state, self.state.family
        gradient = any(guide.reads for guide in state.guides)
        predicting = state.overriding("predict")
        steering = [g for g in state.guides if g.negative or (g.texts and g in predicting)]
        reason = family.refuse(prediction=bool(steering)) or self.masking.refuse(call)
        if reason:
            raise ModelError(reason)
        inside = (
            self.passes.biasing
            or self.passes.extras.guides
            or self.own_pass.watches
            or state.setup.record
        )
        if inside:
            self._refuse_no_attention()
        if gradient or inside or state.overriding("finished"):
            refuse_caches(family.denoiser)
        if gradient:
            refuse_unsafe_gradients(family.denoiser)
            doubt = fit.doubt(state.scheduler)
            if doubt:
                state.warn(doubt)
        if not state.run.guided:
            self._refuse_unguided(steering)

    def _refuse_unguided(self, steering: Sequence[Guide]) -> None:
        """Raise `ModelError`, or warn, for guides that need the pipeline's own guidance here."""
        state = self.state
        idle = [state.names[state.guides.index(guide)] for guide in steering if not guide.unguided]
        if not idle:
            return
        if state.family.distilled:
            raise ModelError(f"{', '.join(idle)}: {state.family.distilled}")
        state.warn(
            "guidance_scale is 1 or less, so there is no unconditional prediction to steer from, "
            f"and no effect of {', '.join(idle)}; use a guidance_scale above 1, or, for "
            "negatives, plugins that need none (nag, vsf, delayed-negative with negative=...)"
        )

    def _refuse_no_attention(self) -> None:
        """Raise `ModelError` for a guide that changes attention of kinds that are not there."""
        state, there = self.state, {layer.kind for layer in self.state.family.attention_layers()}
        attending = [(guide, frozenset({"cross"})) for guide in self.passes.extras.guides]
        wanted = [*attending, *((guide, guide.biases) for guide in self.passes.biasing)]
        for guide, kinds in wanted:
            if not kinds & there:
                name = state.names[state.guides.index(guide)]
                what = "text" if "cross" in kinds else "the picture itself"
                raise ModelError(
                    f"no layer of this {type(state.family.denoiser).__name__} attends to {what}, "
                    f"so {name} has nothing to change; leave it out, or use another model"
                )

    def _moved_sample(self, now: Now, sample: Tensor) -> Tensor:
        family = self.state.family
        if family.rounds:
            return sample + family.as_sample(now.moved - now.latents, sample)
        return family.as_sample(now.moved, sample)


def sample_of(result: Any) -> Tensor:
    """The sample in what a scheduler's step gives out."""
    sample: Tensor = result[0] if isinstance(result, tuple) else result.prev_sample
    return sample


def with_sample(result: Any, sample: Tensor) -> Any:
    """What a scheduler's step gives out, with another sample."""
    if isinstance(result, tuple):
        return (sample, *result[1:])
    result.prev_sample = sample
    return result


def _labels(plugins: Sequence[Plugin]) -> tuple[str, ...]:
    """The plugins' names, numbered where one is used more than once."""
    names = [plugin.name for plugin in plugins]
    counts = [names[:index].count(name) for index, name in enumerate(names)]
    return tuple(f"{n}#{k + 1}" if k else n for n, k in zip(names, counts, strict=True))


def _with_sample(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any], Tensor | None]:
    """`scheduler.step(model_output, timestep, sample, ...)` with those three made positional."""
    named = dict(kwargs)
    given = list(args)
    for name in ("model_output", "timestep", "sample")[len(given) :]:
        given.append(named.pop(name))
    return tuple(given), named, given[2]
