"""Regional prompting: attention couple on U-Nets, Regional Prompting for DiTs (arXiv:2411.02395).

Each region has a text of its own, which the base prompt need not name. A region's cells attend to
its text, and what no region covers follows the base prompt.

    h_r = Attn(Q[cells of r], [text r, cells of r])      U-Nets: [text r] alone
    W_r = (1 - base) m_r s_r / max(1, sum_k m_k s_k)     m: share of the cell, s: strength
    h   = (1 - sum_r W_r) h_base + sum_r W_r h_r

With hard masks this is the published h = (1 - beta) h_region + beta h_base (the authors' FLUX code,
instantX-research/Regional-Prompting-FLUX@6011179), without a mask over all pairs of tokens. There a
region's cells see no other cells, and its text sees itself and them; `apart=False` lets them see
all, as InvokeAI found better on Z-Image. It acts in every `every`-th layer (double and single
blocks are counted apart, as there), and in the share of the run that the region says. Differs from
that code: soft masks, strengths and overlaps; the pooled text stays the base prompt's; a region's
`negative` is Normalized Attention Guidance within the region, so no guidance scale is needed, and
`negative` here is that of regions that have none: pushed away from a text that says nothing, a
region says what it says more clearly (docs/design/0009-extra-texts.md); a region's `lora` is
weighed by its mask, and by 1 in its text. A region without a text of its own is given its phrase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.guides.guide import PROMPT, Attention, Guide, Step
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.layout.layout import Layout
from adhere.plugins.mathematics.negation import normalized_guidance
from adhere.plugins.mathematics.own_regions import OwnRegions, number_of, weights


@dataclass(frozen=True)
class RegionalPrompting(Method):
    """Give every region of the picture a text of its own, without any gradient."""

    name: ClassVar[str] = "regional-prompting"
    task: ClassVar[str] = "place"

    layout: Layout | None = param(None, "regions with their texts; else the call's")
    base: float = share(0.1, "the base prompt's share in a region, if the layout has none")
    apart: bool = param(True, "a region's cells see no others (models with joint attention)")
    every: int = param(1, "act in every so many-th layer of each kind of block", low=1, high=100)
    stop: float = share(1.0, "share of the steps in which regions are heard at all")
    negative: str = param("", "of regions that have none; `a thing` makes what they say clearer")
    negative_scale: float = param(5.0, "how far from a region's negative", low=1, high=100)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    def __init__(self, plugin: RegionalPrompting, run: Run) -> None:
        self.plugin = plugin
        self.regions = OwnRegions(run.own_texts(plugin.layout))
        self.kept = self.regions.kept(plugin.base)
        self.adapters = self.regions.adapters
        silent = plugin.stop == 0 or min(self.kept) == 1
        self.off = silent and not self.adapters
        if max(self.kept) == 1:
            run.note(
                "base is 1: the whole prompt has all of every region; give it less, such as 0.2"
            )
        if not silent:
            for sentence in self.regions.unheard(run.steps, plugin.stop):
                run.note(sentence)
            for sentence in self.regions.faint(run.grid):
                run.note(sentence)
        self.columns = self.regions.texts(plugin.negative.strip())

    def attends(self, step: Step) -> bool:
        return step.progress < self.plugin.stop and bool(self.regions.loud(step.progress).any())

    def sees(self, name: str, grid: tuple[int, int]) -> Bool[Tensor, "batch cells"] | None:
        return self.regions.covers(grid)[:, number_of(name)] > 0 if self.plugin.apart else None

    def adapt(
        self, step: Step, adapter: str, where: tuple[int, int] | str
    ) -> Float[Tensor, "batch cells"]:
        named = self.regions.naming(adapter)
        # A picture whose own regions do not name it has it as it was loaded: everywhere.
        whole = ~named.any(dim=1, keepdim=True)
        if where == PROMPT:
            return whole.float()
        heard = named & (self.regions.loud(step.progress)[..., 0] > 0)
        heard &= torch.full_like(heard, step.progress < self.plugin.stop)
        if isinstance(where, str):
            return (heard[:, [number_of(where)]] | whole).float()
        cells = (heard[..., None] * self.regions.covers(where)).sum(dim=1).clamp(max=1)
        return torch.where(whole, torch.ones_like(cells), cells)

    def attend(self, step: Step, attention: Attention) -> Tensor | None:
        if attention.number % self.plugin.every:
            return None
        images = list(attention.images)
        covers = self.regions.covers(attention.site.grid)
        loud = (self.regions.loud(step.progress) * covers)[images]
        left = 1 - weights(self.kept)[images, None, None]
        shares = left * loud / loud.sum(dim=1, keepdim=True).clamp(min=1)
        base = attention.output()
        shares = shares.to(base)
        output = (1 - shares.sum(dim=1))[:, None, :, None] * base
        for number in self.regions.numbers:
            if bool(loud[:, number].any()):
                said = self._region(attention, number, loud[:, number] > 0)
                output = output + shares[:, number, None, :, None] * said
        return output

    def _region(
        self, attention: Attention, number: int, cells: Bool[Tensor, "batch cells"]
    ) -> Tensor:
        """What a region's cells get of its text, pushed away from its negative."""
        among = cells if self.plugin.apart else None
        said = attention.output({f"region {number}": 1.0}, cells=cells, among=among)
        name = f"not {number}"
        texts = self.columns.get(name, [None] * len(self.kept))
        denied = weights([texts[image] is not None for image in attention.images]) > 0
        if not denied.any():
            return said
        against = attention.output({name: 1.0}, cells=cells, among=among)
        pushed = normalized_guidance(said, against, self.plugin.negative_scale, 2.5, 0.25)
        return torch.where(denied.to(said.device)[:, None, None, None], pushed, said)
