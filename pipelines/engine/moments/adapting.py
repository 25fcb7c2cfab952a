"""LoRA adapters that guides let some cells and texts hear alone.

What an adapter adds in a layer is weighed token by token: cells as the guide says, a guide's own
text wholly or not at all, the prompt not. Since a region's text stands beside the prompt with
keys and values of its own, cells that do not hear the text do not hear what the adapter makes of
it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ModelError
from adhere.guides.guide import PROMPT, Guide, Step
from adhere.pipelines.engine.state import State
from adhere.pipelines.hooks import weights
from adhere.pipelines.hooks.attending import Split
from adhere.pipelines.hooks.compat import compiled_in_place, unwrapped
from adhere.pipelines.hooks.denoiser_call import Call

_OF_TEXT = re.compile(r"\battn2\.to_[kv]$|add_[qkv]|to_add_out|context|txt")
"""Layers, by name, that work on text, where there are as many cells."""


@dataclass(frozen=True)
class _Aim:
    """The forward pass that comes: its text columns, its rows' images, and where texts stand."""

    step: Step
    width: int
    images: tuple[int, ...]
    rows: slice
    split: Split | None


class Adapting:
    """The adapters of a run that guides keep to places."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.guides = [guide for guide in state.guides if guide.adapters]
        self._aim: _Aim | None = None
        self._told: set[str] = set()
        self._stack = ExitStack()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name for guide in self.guides for name in guide.adapters}))

    def open(self, mine: Callable[[], bool]) -> None:
        """From now on adapters are heard where guides say.

        Args:
            mine: whether the calling thread works for this run: pipelines may share a denoiser.

        Raises:
            ModelError: one is not there, or cannot be told from the weights.
        """
        denoiser = self.state.family.denoiser
        there = weights.adapters_of(denoiser)
        for name in self.names:
            if name not in there:
                raise ModelError(
                    f"a region asks for the LoRA {name!r}, and the denoiser has "
                    f"{', '.join(map(repr, there)) or 'none'}; load it with "
                    f"pipe.load_lora_weights(..., adapter_name={name!r}), or --lora FILE, whose "
                    "names are lora-0, lora-1..."
                )
            if unwrapped(denoiser) is not denoiser or compiled_in_place(denoiser):
                raise ModelError(
                    f"a region asks for the LoRA {name!r}, and the denoiser is compiled, so that "
                    "its layers cannot be reached; use it uncompiled"
                )
            self._note_encoders(name)
        for name in self.names:
            weighing = partial(self._weighed, mine, name)
            self._stack.enter_context(weights.weighed(denoiser, name, weighing))

    def close(self) -> None:
        self._stack.close()

    def aim(
        self,
        call: Call,
        step: Step,
        images: Sequence[int],
        rows: slice = slice(0, 0),
        split: Split | None = None,
    ) -> None:
        """The next pass is this call's, as it will be made.

        Args:
            images: of its first rows; the same follow again under other texts.
            rows: those that the guides' texts stand in, if any; `split`: where they stand.
        """
        if self.guides:
            width = int(call.values[self.state.family.text].shape[1])
            self._aim = _Aim(step, width, tuple(images), rows, split)

    def done(self) -> None:
        """The pass has been made; one that nobody has aimed at hears no adapter."""
        self._aim = None

    def _note_encoders(self, name: str) -> None:
        for part in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            encoder = getattr(self.state.family.pipe, part, None)
            if encoder is not None and name in weights.adapters_of(encoder):
                self.state.warn(
                    f"the LoRA {name!r} changes the {part}, too, which reads every text with it, "
                    "and not the region's alone; load its part for the denoiser only"
                )

    def _weighed(
        self, mine: Callable[[], bool], adapter: str, layer: str, output: Tensor
    ) -> Tensor:
        """What an adapter adds in a layer, where it is heard."""
        if not mine():
            return output
        if self._aim is None:
            return torch.zeros_like(output)
        rows = [self._aim.images[k % len(self._aim.images)] for k in range(len(output))]
        if output.ndim == 4:
            h, w = output.shape[2:]
            cells = self._cells(adapter, (h, w))[rows].reshape(-1, 1, h, w)
            changed: Tensor = output * cells.to(output)
            return changed
        if output.ndim != 3 or output.shape[1] == 1:
            return self._for_all_at_once(adapter, layer, output, rows)
        found = self._tokens(adapter, layer, output.shape[1], rows)
        if len(found) != 1:
            raise ModelError(
                f"{layer} works on {output.shape[1]} tokens, and which of them are a region's "
                f"cannot be told, so the LoRA {adapter!r} cannot be kept to it; load it for the "
                "whole picture, without a region that names it"
            )
        changed = output * found[0][..., None].to(output)
        return changed

    def _for_all_at_once(
        self, adapter: str, layer: str, output: Tensor, rows: Sequence[int]
    ) -> Tensor:
        """What is added for a picture as a whole: left out where it is not the whole picture's."""
        heard = self._whole(adapter, rows).reshape(-1, *[1] * (output.ndim - 1))
        if not bool((heard == 1).all()):
            self._note_left_out(adapter, layer)
        changed: Tensor = output * heard.to(output)
        return changed

    def _note_left_out(self, adapter: str, layer: str) -> None:
        if adapter not in self._told:
            self._told.add(adapter)
            self.state.warn(
                f"what the LoRA {adapter!r} changes for all of the picture at once ({layer}) is "
                "left out, since a region asks for it alone"
            )

    def _tokens(
        self, adapter: str, layer: str, count: int, rows: Sequence[int]
    ) -> list[Float[Tensor, "rows tokens"]]:
        """The weights of so many tokens: of the text, of the cells of a grid, or of both."""
        family, (h, w) = self.state.family, self.state.run.grid
        whole = self._whole(adapter, rows)
        texts = self._filled(self._texts(adapter, rows), whole)
        if count == texts.shape[1] and _OF_TEXT.search(layer):
            return [texts]
        found = []
        factors = {layer.factor for layer in family.attention_layers()}
        beside = int(getattr(family, "beside", 0))
        for grid in {(math.ceil(h / f), math.ceil(w / f)) for f in factors}:
            cells = self._filled(self._cells(adapter, grid)[rows], whole)
            picture = torch.cat([cells, whole.expand(-1, beside)], dim=1)
            if count in (cells.shape[1], picture.shape[1]):
                found.append(picture[:, :count])
            if family.joint and count == texts.shape[1] + picture.shape[1]:
                first = getattr(family, "text_first", False)
                found.append(torch.cat([texts, picture] if first else [picture, texts], dim=1))
        return found or ([texts] if count == texts.shape[1] else [])

    def _filled(
        self, weights: Float[Tensor, "rows tokens"], whole: Float[Tensor, "rows 1"]
    ) -> Float[Tensor, "rows more_tokens"]:
        """With the filling that the model puts behind tokens, which no region has."""
        count = weights.shape[1]
        more = self.state.family.room(count) - count
        return torch.cat([weights, whole.expand(-1, more)], dim=1)

    def _whole(self, adapter: str, rows: Sequence[int]) -> Float[Tensor, "rows 1"]:
        """1 for pictures that hear an adapter everywhere, whose prompt does, and 0 for others."""
        return self._share(adapter, PROMPT, self.guides)[rows]

    def _cells(self, adapter: str, grid: tuple[int, int]) -> Float[Tensor, "batch cells"]:
        return self._share(adapter, grid, self.guides)

    def _share(
        self, adapter: str, where: tuple[int, int] | str, guides: Sequence[Guide]
    ) -> Float[Tensor, "batch cells"]:
        """How much an adapter is heard for the sake of any of some guides."""
        assert self._aim is not None  # or no adapter is heard
        step, asked = self._aim.step, [one for one in guides if adapter in one.adapters]
        return torch.stack([one.adapt(step, adapter, where) for one in asked]).amax(0)

    def _texts(self, adapter: str, rows: Sequence[int]) -> Float[Tensor, "rows columns"]:
        """The weights of the text's columns, in which the guides' own texts have theirs."""
        aim = self._aim
        assert aim is not None
        heard = self._whole(adapter, rows).repeat(1, aim.width)
        if aim.split is None:
            return heard
        start = aim.split.columns.start
        for key, extra in aim.split.extras.items():
            label, _, name = key.partition("/")
            guide = self.state.guides[self.state.names.index(label)]
            if adapter in guide.adapters:
                columns = slice(start + extra.columns.start, start + extra.columns.stop)
                share = self._share(adapter, name, [guide])
                heard[aim.rows, columns] = share[list(aim.images)]
        return heard
