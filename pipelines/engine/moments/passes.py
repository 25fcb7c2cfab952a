"""Passes that are looked into: extra ones on the conditional rows, and the denoiser's own."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from adhere.errors import GuidanceError, ModelError, ParameterError
from adhere.guides.guide import Step
from adhere.guides.maps import Layer, Maps, Read, Site
from adhere.pipelines.engine.moments.adapting import Adapting
from adhere.pipelines.engine.moments.extra_texts import ExtraTexts
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.attending import BiasedLayer, Pass, StopForward
from adhere.pipelines.hooks.backends import native_attention
from adhere.pipelines.hooks.compat import compiled_in_place, holds_compiled, unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.hazards import (
    refuse_caches,
    refuse_compiled_in_place,
    refuse_unheard,
    refuse_unread,
)
from adhere.pipelines.hooks.readout import reading
from adhere.prompt.tokens import Track

Scales = Mapping[Read, Sequence[str]]
"""The layers, by name, that serve each read."""


class Passes:
    """Makes the extra passes of a run; aimed at one step's call at a time.

    Attributes:
        biasing: the guides that bias attention in this run.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.extras, self.adapters = ExtraTexts(state), Adapting(state)
        self.biasing = [guide for guide in state.overriding("bias") if guide.biases]
        self._call: Call | None = None
        self._ahead = False
        self.now: Step | None = None

    def aim(self, call: Call, step: Step, ahead: bool = False) -> None:
        """From now on passes are made at this step, on the conditional rows of this call.

        Args:
            ahead: at a step that the scheduler has not come to: latents are given as the model
                sees them, since the scheduler scales for its own step only.
        """
        rows = self.state.family.conditional_rows(call, self.state.run.batch)
        assert rows is not None
        self._call, self._ahead = call.select(rows), ahead
        self.now = step

    def scales(self, reads: Sequence[Read]) -> Scales:
        """The layers, by name, that serve each read.

        Raises:
            ParameterError: the user has chosen layers, and none of them serves it.
        """
        family, chosen = self.state.family, self.state.memory.layers
        found: dict[Read, list[str]] = {}
        for read in reads:
            layers = family.selectable(read) if chosen else family.wanted(read)
            names = [layer.name for layer in layers]
            if chosen:
                found[read] = [n for n in names if any(fnmatch.fnmatch(n, g) for g in chosen)]
                if not found[read]:
                    raise ParameterError(
                        f"no {read.kind} attention layer matches {', '.join(chosen)}; "
                        f"there are: {', '.join(names)}"
                    )
            else:
                found[read] = names
        return found

    def cross_sites(self) -> tuple[Site, ...]:
        """The cross-attention layers, for methods that give each its own text."""
        (h, w), family = self.state.run.grid, self.state.family
        if not family.layer_texts:
            return ()
        return tuple(
            Site(layer.name, layer.kind, (-(-h // layer.factor), -(-w // layer.factor)), 0)
            for layer in family.attention_layers()
            if layer.kind == "cross"
        )

    def read(
        self, latents: Tensor, images: Sequence[int], reads: Sequence[Read], step: Step
    ) -> list[Maps]:
        """One conditional pass on some images, stopped at the last layer read.

        Args:
            latents: `Float[images channels h w]` unscaled; differentiable if it requires grad.
            images: which images of the run they are.
            reads: what will be looked at.
            step: for guides that bias the attention.
        """
        self.state.heed_interrupt()
        family, scales = self.state.family, self.scales(reads)
        call = self._call_on(latents, images)
        rows = slice(0, len(images))
        texts = {name: rows[list(images)] for name, rows in self.state.texts.items()}
        read = _names(scales)
        self.running = self._pass(call, rows, images, step, read=read, texts=texts, stop=True)
        longer = self.extras.lengthened(call, rows, images, step)
        self.adapters.aim(longer, step, images, rows, self.running.split)
        args, kwargs = family.form(longer)
        with self.open(self.running), suppress(StopForward):
            family.denoiser(*args, **kwargs)
        refuse_unread(self.running)
        _refuse_no_gradient(self.running, latents)
        self.state.report.passed(images)
        return self.maps_of(self.running, images, scales)

    def _call_on(self, latents: Tensor, images: Sequence[int]) -> Call:
        """The call aimed at, on these latents of these images."""
        assert self._call is not None
        call, family = self._call, self.state.family
        if list(images) != list(range(self.state.run.batch)):
            # A look may be at fewer images, or at several noises of the same one.
            call = call.select(torch.tensor(images, device=latents.device))
        given = call.values[family.leading]
        seen = latents if self._ahead else self.state.scaled(latents, call)
        return family.with_latents(call.normal(), seen.to(given.dtype))

    def own(self, now: Now, scales: Scales) -> Pass:
        """The denoiser's own pass, read, biased or split on its conditional rows."""
        call, rows = now.call, now.rows
        texts = {}
        for name, given in self.state.texts.items():
            texts[name] = call.values[self.state.family.text].clone()
            texts[name][rows] = given.to(texts[name].dtype)
        images = range(self.state.run.batch)
        return self._pass(call, rows, images, now.step, read=_names(scales), texts=texts)

    def predicted(self, call: Call, rows: slice, images: Sequence[int], step: Step) -> Any:
        """What the denoiser gives out for a call of some images, as it will in the run itself.

        Args:
            rows: its conditional rows; attention is biased and split there.
        """
        self.state.heed_interrupt()
        family, running = self.state.family, self._pass(call, rows, images, step)
        refuse_caches(family.denoiser)
        longer = self.extras.lengthened(call, rows, images, step)
        self.adapters.aim(longer, step, images, rows, running.split)
        args, kwargs = family.form(longer)
        if running.bias is None and running.split is None:
            return family.denoiser(*args, **kwargs)
        refuse_compiled_in_place(family.denoiser)
        with self.open(running):
            output = family.denoiser(*args, **kwargs)
        refuse_unheard(running, family.attention_layers())
        return output

    def _pass(
        self, call: Call, rows: slice, images: Sequence[int], step: Step, **more: Any
    ) -> Pass:
        """A pass at a step, biased and split as the guides want it there.

        Args:
            call: before it is lengthened; `rows`: its conditional rows, of these images.
            more: what else the pass is to do.
        """
        bias = self.bias_of(step)
        return Pass(
            reader=self.state.family,
            grid=self.state.run.grid,
            rows=rows,
            images=tuple(images),
            total=call.rows,
            width=self.state.family.text_width(call),
            biased=self._biased if bias is not None else frozenset(),
            bias=bias,
            split=self.extras.split(call, images, step),
            **more,
        )

    @contextmanager
    def open(self, running: Pass) -> Iterator[None]:
        """The denoiser is looked into for the length of a pass."""
        family = self.state.family
        with ExitStack() as stack:
            stack.enter_context(self._eager())
            stack.enter_context(native_attention(family.denoiser))
            stack.enter_context(family.placed(running))
            stack.enter_context(reading(running, family.modules(), family.attention_layers()))
            yield

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """The backward pass: checkpointed blocks run again and must meet the same attention."""
        family = self.state.family
        if not getattr(family.denoiser, "is_gradient_checkpointing", False):
            yield
            return
        self.running.replaying = True
        layers = family.attention_layers()
        with family.placed(self.running), reading(self.running, family.modules(), layers):
            yield

    def bias_of(self, step: Step) -> Callable[[BiasedLayer], Tensor | None] | None:
        """All guides' biases for a layer, added up; None when no guide biases."""
        if not self.biasing:
            return None

        def total(layer: BiasedLayer) -> Tensor | None:
            kind = layer.site.kind
            parts = [guide.bias(step, layer) for guide in self.biasing if kind in guide.biases]
            given = [part for part in parts if part is not None]
            return torch.stack(torch.broadcast_tensors(*given)).sum(0) if given else None

        return total

    def maps_of(self, running: Pass, images: Sequence[int], scales: Scales) -> list[Maps]:
        """The maps of a finished pass, one value for each text encoder."""
        device = next(iter(running.layers.values())).probabilities.device

        def layers(read: Read) -> list[Layer]:
            if read not in scales:
                raise GuidanceError(
                    f"a guide asked for {read.kind} maps at scale {read.scale!r} without declaring "
                    "it in its `reads`"
                )
            return [running.layers[name] for name in scales[read]]

        run, gain = self.state.run, self.state.family.gain
        return [
            Maps(tuple(images), layers, _keep(track, images).to(device), run, number, gain)
            for number, track in enumerate(run.tracks)
        ]

    def _eager(self) -> Any:
        """Compiled denoisers run uncompiled where their insides are looked at."""
        return torch.compiler.set_stance("force_eager") if self._compiled else nullcontext()

    @cached_property
    def _compiled(self) -> bool:
        """Whether the denoiser or a part of it, such as its repeated blocks, was compiled."""
        denoiser = self.state.family.denoiser
        inner = unwrapped(denoiser)
        return inner is not denoiser or any(
            compiled_in_place(module) or holds_compiled(module) for module in inner.modules()
        )

    @cached_property
    def _biased(self) -> frozenset[str]:
        """The layers, by name, of the kinds that some guide biases."""
        kinds = {kind for guide in self.biasing for kind in guide.biases}
        layers = self.state.family.attention_layers()
        return frozenset(layer.name for layer in layers if layer.kind in kinds)


def _names(scales: Scales) -> frozenset[str]:
    return frozenset(name for names in scales.values() for name in names)


def _keep(track: Track, images: Sequence[int]) -> Tensor:
    width = max(prompt.width for prompt in track.images)
    keep = torch.zeros(len(images), width, dtype=torch.bool)
    for row, image in enumerate(images):
        keep[row, list(track.images[image].keep)] = True
    return keep


def _refuse_no_gradient(running: Pass, latents: Tensor) -> None:
    through = any(layer.probabilities.requires_grad for layer in running.layers.values())
    if latents.requires_grad and torch.is_grad_enabled() and not through:
        raise ModelError(
            "no gradient comes through the denoiser's attention (some quantised layers let "
            "none through); use the model unquantised, or plugins without a gradient"
        )
