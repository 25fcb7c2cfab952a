"""DenseDiffusion (Kim et al., ICCV 2023, arXiv:2308.12964).

Pull the attention logits of a layout's phrases up inside their regions and down outside, and those
between image cells up within a region and down across regions. No gradient, no extra pass.

    A <- A + g (T - A)           T = the row's largest logit where R = 1, its smallest where R = 0
    g  = w (t / 1000)^5 (1 - S)  S: share of the picture that the cell's region covers
    R  = 1 for a cell and its region's tokens (cross), or two cells of one region (self)

which is the paper's A + R M_pos - (1 - R) M_neg, M_pos = max - A, M_neg = A - min (sec. 3.2). It
acts in the first 30 % of the steps, only in the conditional half of the pass. Each phrase is also
encoded alone, and those embeddings take its place in the prompt's.

Differs from the authors' code (naver-ai/DenseDiffusion@1ad7689): batches; any picture size; a cell
belongs to a region that covers half of it (each region to its fullest cells at least) where theirs
takes the nearest pixel; where the layout leaves ground free, which theirs never does, the free
cells make one more region, in which only the phrases of other regions are turned down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.guides.guide import Guide, Logits, Step, Text
from adhere.guides.maps import Kind
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run
from adhere.layout.layout import Layout
from adhere.plugins.mathematics.regions import alike, named, regions


@dataclass(frozen=True)
class DenseDiffusion(Free):
    """Keep phrases to their regions by moving attention logits, without any gradient."""

    name: ClassVar[str] = "dense-diffusion"
    task: ClassVar[str] = "place"

    layout: Layout | None = param(None, "phrases with regions; else the call's", source="sec. 3")
    cross: float = param(
        1.0, "w in cross attention", low=0, high=10, source="gradio_app.py@1ad7689"
    )
    own: float = param(0.3, "w in self attention", low=0, high=10, source="gradio_app.py@1ad7689")
    stop: float = share(0.3, "share of the steps at which it acts", source="sec. 4")
    splice: bool = param(
        True, "encode each phrase alone as well", source="gradio_app.py@1ad7689, SD 1.5"
    )

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    def __init__(self, plugin: DenseDiffusion, run: Run) -> None:
        self.plugin, self.run = plugin, run
        strengths: dict[Kind, float] = {"cross": plugin.cross, "self": plugin.own}
        acting = {kind for kind, strength in strengths.items() if strength and plugin.stop}
        self.biases = frozenset(acting)
        self.off = not (acting or plugin.splice)
        self.regions = run.regions(plugin.layout)
        self.phrases = [regions.phrases for regions in self.regions]
        self.places: dict[tuple[int, tuple[int, int]], Tensor] = {}
        self.alone: list[Tensor] = []
        if plugin.splice and run.encoders > 1:
            run.note(f"{plugin.name}: phrases are not encoded alone for several text encoders")

    def embed(self, step: Step, text: Text) -> Text:
        if not self.plugin.splice or self.run.encoders > 1:
            return text
        if not self.alone:
            self.alone = [text.encode(texts) for texts in self._texts()]
        cond = text.cond.clone()
        for image, phrases in enumerate(self.phrases):
            first = self.run.content(image)[0][0]
            for words, alone in zip(phrases, self.alone, strict=False):
                columns = list(words.columns[0])
                cond[image, columns] = alone[image, first : first + len(columns)].to(cond)
        return text.replace(cond=cond)

    def _texts(self) -> list[list[str]]:
        """The first phrase of every image, the second, and so on; nothing where there is none."""
        most = max(map(len, self.phrases))
        return [
            [phrases[k].text if k < len(phrases) else "" for phrases in self.phrases]
            for k in range(most)
        ]

    def bias(self, step: Step, logits: Logits) -> Float[Tensor, "batch heads cells columns"] | None:
        plugin, cross = self.plugin, logits.site.kind == "cross"
        strength = (plugin.cross if cross else plugin.own) * (step.timestep / 1000) ** 5
        if strength == 0 or step.progress >= plugin.stop:
            return None
        values = logits.values()
        up, down, size = [], [], []
        for image in logits.images:
            key = (image, logits.site.grid)
            if key not in self.places:
                self.places[key] = regions(self.regions[image].masks(key[1]).to(values))
            places = self.places[key]
            same = alike(places)
            size.append(same.to(values).mean(dim=1))
            one = named(places, self.phrases[image], values.shape[-1]) if cross else (same, ~same)
            up.append(one[0])
            down.append(one[1])
        gain = strength * (1 - torch.stack(size))
        return pull(values, torch.stack(up), torch.stack(down), gain)


def pull(
    values: Float[Tensor, "batch heads cells columns"],
    up: Bool[Tensor, "batch cells columns"],
    down: Bool[Tensor, "batch cells columns"],
    gain: Float[Tensor, "batch cells"],
) -> Float[Tensor, "batch heads cells columns"]:
    """g (T - A): towards each row's largest or smallest logit, or not at all."""
    highest, lowest = values.amax(dim=-1, keepdim=True), values.amin(dim=-1, keepdim=True)
    target = torch.where(down[:, None], lowest, values)
    target = torch.where(up[:, None], highest, target)
    return gain[:, None, :, None] * (target - values)
