"""Prediction methods at work: extra texts in the denoiser's batch, and what guides make of them.

Two kinds of pipeline. *Together*: one call a step with the rows [uncond, cond]; the conditional
rows are changed and the pipeline's own classifier-free guidance does the rest. *Apart*: a
conditional call and then an unconditional one (FLUX and Qwen-Image in true-CFG mode). There the
first call's prediction has left before the second is known, so what the pipeline makes of both is
corrected on its way into the scheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        self.state, self.guides = state, tuple(state.overriding("predict"))
        self.texts = [text for guide in self.guides for text in guide.texts]
        self.apart = state.family.apart(call)
        self._extra: dict[str, Any] | None = None
        self._parts: _Parts | None = None

    def encode(self) -> None:
        """Embed the guides' own texts, once a run."""
        if self.texts:
            self._extra = dict(self.state.encoded(self.texts).values)

    def available(self, call: Call) -> bool:
        """Whether a step of this pipeline call makes an unconditional prediction at all."""
        family = self.state.family
        return self.apart or family.unconditional_rows(call, self.state.run.batch) is not None

    def extended(self, call: Call, rows: slice) -> Call:
        """The call with one more part for each extra text."""
        if self._extra is None or not self.available(call):
            return call
        call, extra = self.state.family.fitted(call, self._extra)
        longer = call.repeat_rows(rows, len(self.texts))
        longer = longer.replace(**spliced(longer.values, extra, call.rows, self.state.run.batch))
        return self._own_embeds(longer, call.rows)

    def _own_embeds(self, call: Call, start: int) -> Call:
        """The call with what guides gave in place of their texts, whose rows begin at `start`."""
        family, batch = self.state.family, self.state.run.batch
        embeds: Tensor = call.values[family.text]
        for guide in self.guides:
            for place, own in self.state.extra.get(id(guide), {}).items():
                first = start + place * batch
                embeds = embeds.clone()
                embeds[first : first + batch] = own.to(embeds)
            start += len(guide.texts) * batch
        return call if embeds is call.values[family.text] else family.retexted(call, embeds)

    def after(self, now: Now, output: Any) -> Any:
        """The call with the conditional rows has been made. Returns another output, or None."""
        if not self.guides or not self.available(now.given):
            return None
        family, batch = self.state.family, self.state.run.batch
        everything = family.output(output, now.given)
        _refuse_other_rows(everything, now)
        own, rest = everything[: now.base], everything[now.base :]
        extra = rest.split(batch) if len(rest) else ()
        parts = _Parts(own[now.rows], tuple(extra))
        if self.apart:
            self._parts = parts
            return family.with_output(output, own) if extra else None
        none = family.unconditional_rows(now.given, batch)
        assert none is not None  # `available` has seen to that
        changed = self._changed(now, parts, own[none])
        if changed is None:
            return family.with_output(output, own) if extra else None
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
        eps = Prediction(none, cond, tuple(extra), family.guidance_scale(), seen)
        change = agreed(self.guides, now.step, eps)
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
