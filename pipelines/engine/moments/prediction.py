"""Prediction methods at work: extra texts in the denoiser's batch, and what guides make of them.

Three kinds of pipeline. *Together*: one call a step with the rows [uncond, cond]; the conditional
rows are changed and the pipeline's own classifier-free guidance does the rest. *Apart*: a
conditional call and then an unconditional one (FLUX and Qwen-Image in true-CFG mode). There the
first call's prediction has left before the second is known, so what the pipeline makes of both is
corrected on its way into the scheduler. *Unguided*: no unconditional prediction at all (distilled
models, a guidance scale of 1). For guides that can do with it, the empty text's is made in one more
row, and what is changed goes to the scheduler as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adhere.errors import ModelError
from adhere.guides.guide import Guide, Prediction, Step
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.denoiser_call import Call, single
from adhere.pipelines.hooks.schedulers import predictions


@dataclass
class _Parts:
    """The predictions of one step, in the model's own terms, `Float[batch channels h w]` each."""

    cond: Tensor
    extra: tuple[Tensor, ...]
    uncond: Tensor | None = None
    changed: Tensor | None = None


class Predictions:
    """The guides of a run that change the prediction."""

    def __init__(self, state: State, call: Call) -> None:
        self.state, self.guided = state, state.run.guided
        every = state.overriding("predict")
        self.guides = [guide for guide in every if self.guided or guide.unguided]
        self.texts = [text for guide in self.guides for text in guide.texts]
        self.apart = state.family.apart(call)
        self._acting: list[Guide] = []
        self._encoded: dict[int, Mapping[str, Any]] = {}
        self._nothing: Mapping[str, Any] = {}
        self._parts: _Parts | None = None

    def encode(self) -> None:
        """Embed the guides' own texts, once a run, and an empty one where that is needed."""
        if self.texts:
            rows, start = Call(self.state.encoded(self.texts).values, len(self.texts)), 0
            for guide in self.guides:
                own = slice(start, start + len(guide.texts))
                self._encoded[id(guide)], start = rows.select(own).values, own.stop
        if self.guides and not self.guided:
            self._nothing = self.state.encoded([""]).values
            names = [self.state.names[self.state.guides.index(guide)] for guide in self.guides]
            self.state.report.note(
                "this call makes no prediction without the prompt, so the empty text's is made "
                f"for {', '.join(names)}: one more row for each image"
            )

    def extended(self, call: Call, rows: slice, step: Step) -> Call:
        """The call with one more part for each extra text of the guides that act."""
        # A guidance scale that is changed midway ends what it was there for.
        there = self.state.family.guided(call, self.state.run.batch) == self.guided
        self._acting = [guide for guide in self.guides if there and guide.predicts(step)]
        start = call.rows
        for guide in self._acting:
            if guide.texts:
                call = self._longer(call, rows, self._encoded[id(guide)], len(guide.texts))
        call = self._own_embeds(call, start)
        if self._acting and not self.guided:
            call = self._longer(call, rows, self._nothing, 1)
        return call

    def _longer(self, call: Call, rows: slice, texts: Mapping[str, Any], count: int) -> Call:
        """The call with its conditional rows again for each of some encoded texts."""
        call, extra = self.state.family.fitted(call, dict(texts))
        longer = call.repeat_rows(rows, count)
        return longer.replace(**spliced(longer.values, extra, call.rows, self.state.run.batch))

    def _own_embeds(self, call: Call, start: int) -> Call:
        """The call with what guides gave in place of their texts, whose rows begin at `start`."""
        family, batch = self.state.family, self.state.run.batch
        embeds: Tensor = call.values[family.text]
        for guide in self._acting:
            for place, own in self.state.extra.get(id(guide), {}).items():
                first = start + place * batch
                embeds = embeds.clone()
                embeds[first : first + batch] = own.to(embeds)
            start += len(guide.texts) * batch
        return call if embeds is call.values[family.text] else family.retexted(call, embeds)

    def after(self, now: Now, output: Any) -> Any:
        """The call with the conditional rows has been made. Returns another output, or None."""
        if not self._acting:
            return None
        family, batch = self.state.family, self.state.run.batch
        everything = family.output(output, now.given)
        _refuse_other_rows(everything, now)
        own, rest = everything[: now.base], everything[now.base :]
        extra = list(rest.split(batch)) if len(rest) else []
        uncond = None if self.guided else extra.pop()
        parts = _Parts(own[now.rows], tuple(extra))
        if self.apart:
            self._parts = parts
            return family.with_output(output, own) if len(rest) else None
        if uncond is None:
            none = family.unconditional_rows(now.given, batch)
            assert none is not None  # or the call would not be guided
            uncond = own[none]
        changed = self._changed(now, parts, uncond)
        if changed is None:
            return family.with_output(output, own) if len(rest) else None
        own = own.clone()
        own[now.rows] = changed.to(own.dtype)
        return family.with_output(output, own)

    def after_other(self, now: Now, output: Any) -> None:
        """A further call of the step has been made; in pipelines apart, the unconditional one."""
        parts = self._parts
        if parts is None or parts.uncond is not None:
            return
        parts.uncond = self.state.family.output(output, now.given)
        parts.changed = self._changed(now, parts, parts.uncond)

    def combined(self, given: Tensor) -> Tensor:
        """What the pipeline would have made of the changed prediction.

        Args:
            given: what it made of the model's own predictions, as the scheduler is to have it.
        """
        parts, self._parts = self._parts, None
        if parts is None or parts.changed is None or parts.uncond is None:
            return given
        family = self.state.family
        packed = [family.as_sample(p, given) for p in (parts.uncond, parts.cond, parts.changed)]
        return family.recombined(given, *packed).to(given.dtype)

    def _changed(self, now: Now, parts: _Parts, uncond: Tensor) -> Tensor | None:
        """The conditional prediction after all guides, in the model's terms; None if untouched."""
        state, family = self.state, self.state.family
        seen = single(state.scaled(now.moved, now.call))
        level = single(state.level.alpha_bar).to(uncond.device)
        given = [single(part) for part in (uncond, parts.cond, *parts.extra)]
        noise = [predictions.to_noise(state.scheduler, part, seen, level) for part in given]
        none, cond, extra = noise[0], noise[1], noise[2:]
        scale = family.guidance_scale() if self.guided else 1.0
        change = agreed(self._acting, now.step, Prediction(none, cond, tuple(extra), scale, seen))
        if change is None:
            return None
        # Only the change is converted back: at high noise the round trip would cost digits.
        unseen = torch.zeros_like(seen)
        return parts.cond + predictions.from_noise(state.scheduler, change, unseen, level)


def _refuse_other_rows(predicted: Tensor, now: Now) -> None:
    if len(predicted) != now.call.rows:
        raise ModelError(
            f"the denoiser was called with {now.call.rows} rows and predicted {len(predicted)}, so "
            "the prompt's cannot be told from the others; take off what exchanges its forward"
        )


def agreed(guides: Sequence[Guide], step: Step, eps: Prediction) -> Tensor | None:
    """What all guides together add to the conditional prediction; None if they add nothing.

    Args:
        eps: with the extra predictions of all guides, in their order.
    """
    change: Tensor | None = None
    place = 0
    for guide in guides:
        mine = eps.extra[place : place + len(guide.texts)]
        place += len(guide.texts)
        if not guide.predicts(step):
            continue
        wanted = guide.predict(step, replace(eps, extra=mine))
        if wanted is not eps.cond:
            # Each guide starts from the model's own prediction, so their order does not matter.
            change = wanted - eps.cond if change is None else change + (wanted - eps.cond)
    return change


def spliced(values: Any, extra: Any, start: int, batch: int) -> dict[str, Any]:
    """`values` with the extra texts' rows from `start` on put in, each text `batch` times."""
    changed: dict[str, Any] = {}
    for name, rows in extra.items():
        if isinstance(rows, Tensor):
            base = values[name]
            repeated = rows.to(base.device, base.dtype).repeat_interleave(batch, dim=0)
            changed[name] = torch.cat([base[:start], repeated])
        else:
            inner = values.get(name) or {}
            changed[name] = {**inner, **spliced(inner, rows, start, batch)}
    return changed
