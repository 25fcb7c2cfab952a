"""SynGen, linguistic binding (Rassin et al., NeurIPS 2023, arXiv:2306.08877).

An attribute goes astray when its word attends elsewhere than the noun. Before each of the first
steps pull the maps of every noun and its modifiers together, and push both from the other words.

    A_w   = map of word w, scaled to sum to one over the cells
    d(u, v) = (KL(A_u || A_v) + KL(A_v || A_u)) / 2                             sec. 3.2
    L     = sum over pairs (noun n, modifier m) of
              d(n, m) - 1 / (2 |U|) sum over u in U of (d(n, u) + d(m, u))      sec. 3.2
    x    <- x - 20 grad L

U is every token of the prompt outside the noun and its modifiers. Of words in several pieces the
farthest pieces count.

Differs from the authors' code (RoyiRa/Linguistic-Binding-in-Diffusion-Models@7497ccc): batches,
each image with its own parse; the project's parser in place of spaCy's (which is optional); every
modifier is paired with its own noun, never with another one that a merged list put last; an image
without modifiers is left alone with a note.
`against="entities"` leaves lead-ins ("a photo of") and function words out of U, as later work does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.energy import EnergyMethod
from adhere.guides.maps import ImageMaps
from adhere.guides.parameters import param, share, step_length
from adhere.guides.run import BoundNoun, Run
from adhere.plugins.mathematics.attention import divergences
from adhere.prompt.tokens import Phrase

Binding = tuple[BoundNoun, tuple[Phrase, ...] | None]
"""A noun with modifiers, and what they are pushed from; None for the whole prompt."""


@dataclass(frozen=True)
class SynGen(EnergyMethod[tuple[Binding, ...]]):
    """Give every noun its own colours and properties."""

    name: ClassVar[str] = "syngen"
    task: ClassVar[str] = "bind"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases to bind; all of the parser's if left out", source="sec. 3.1"
    )
    step_size: float = step_length(20.0, source="sec. 4, run.py@7497ccc")
    stop: float = share(0.5, "share of the steps that are guided", source="sec. 4")
    against: Literal["prompt", "entities"] = param(
        "prompt", "push from all other words, or from other nouns and modifiers", source="sec. 3.2"
    )

    def wanted(self, run: Run) -> Sequence[tuple[Binding, ...]]:
        bindings = []
        everything = run.all_nouns()
        for image, nouns in enumerate(run.nouns(self.subjects)):
            run.prompts[image].parsed.require_nouns()
            bound = [noun for noun in nouns if noun.modifiers]
            if not bound:
                text = run.prompts[image].plain
                run.note(f"syngen left {text!r} alone: no noun has a modifier to bind")
            words = tuple(phrase for noun in everything[image] for phrase in noun.phrases)
            among = words if self.against == "entities" else None
            bindings.append(tuple((noun, among) for noun in bound))
        return bindings

    def loss(self, maps: ImageMaps, wanted: tuple[Binding, ...]) -> Float[Tensor, ""]:
        outside = [maps.others(bound.phrases, among) for bound, among in wanted]
        rows = sorted({c for bound, _ in wanted for p in bound.phrases for c in maps.columns(p)})
        columns = sorted({*rows, *(column for others in outside for column in others)})
        attention, parts = maps.cross(), []
        apart = divergences(attention[:, :, rows], attention[:, :, columns])
        for (bound, _), others in zip(wanted, outside, strict=True):
            noun = [rows.index(column) for column in maps.columns(bound.noun)]
            far = apart[:, [columns.index(column) for column in others]]
            for modifier in bound.modifiers:
                own = [rows.index(column) for column in maps.columns(modifier)]
                parts.append(apart[noun][:, [columns.index(rows[k]) for k in own]].amax())
                if others:
                    parts.append(-(far[noun].amax(dim=0).mean() + far[own].amax(dim=0).mean()) / 2)
        return torch.stack(parts).sum()

    def report(self, wanted: Sequence[tuple[Binding, ...]]) -> Mapping[str, Any]:
        return {"pairs": [sum(len(noun.modifiers) for noun, _ in one) for one in wanted]}
