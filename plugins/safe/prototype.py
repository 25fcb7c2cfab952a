"""Prototype-guided concept erasure (Cai et al., CVPR 2026, arXiv:2603.08271).

A broad concept, such as violence, looks like many things. Find what it looks like once, as a few
prototypes; guide each picture away from the one that its prompt comes nearest to, if it does.

    k     = argmax_k cos(CLIP(prompt), p_k), and only if that cosine is above tau
    d_c   = eps_p - eps_0,  d_k = eps_k - eps_0       prompt p, prototype k, no text 0
    d_k  <- d_k where |d_k| > m, else 0               element by element
    plain = eps_0 + a d_c                             a: the guidance scale
    eps   = plain - b d_k
    eps  <- phi eps std(plain) / std(eps) + (1 - phi) eps            until the last steps

`adhere train prototype` makes the prototypes, as text embeddings.

The paper has neither m nor phi, which are from the authors' code (Cocteau-23/Prototype-Guided-
Concept-Erasure@f3ac9c2, `generate_sd14.py`, `apply_erasure`), as are tau, b and the end. Differs
from that code: the prompt is read as usual (theirs passes it through the encoder's last layer norm
a second time); with a negative prompt that is what eps_0 is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Prediction, Step, Text
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.guides.stored import PROBE
from adhere.plugins.mathematics.prototypes import MAKE, Prototypes, erasure
from adhere.plugins.mathematics.texts import ends


@dataclass(frozen=True)
class Prototype(Method):
    """Keep a broad concept out of the picture, by whichever of its looks the prompt is near to."""

    name: ClassVar[str] = "prototype"
    task: ClassVar[str] = "safe"

    prototypes: str | None = param(
        None, "file that adhere train prototype has made", source="sec. 3", local=()
    )
    scale: float = param(20.0, "b", low=0, high=1000, source="code")
    threshold: float = param(
        0.15, "tau, the cosine from which a prompt is near", low=-1, high=1, source="code"
    )
    floor: float = param(0.005, "m, size of differences that count", low=0, high=10, source="code")
    rescale: float = share(0.5, "phi, how far the plain picture's contrast is kept", source="code")
    stop: float = share(0.6, "share of the steps at which it ends", source="code")

    def extra_passes(self, steps: int) -> int:
        """Passes that it adds to one picture: a row, and without guidance an empty text's."""
        return 2 * steps

    def guide(self, run: Run) -> Guide:
        if self.prototypes is None:
            raise ParameterError(
                f"{self.name}: no prototypes; make them ({MAKE}), name them: "
                "prototypes=prototypes.safetensors"
            )
        return _Guide(self, Prototypes.read(self.prototypes), run)


class _Guide(Guide):
    texts = ("",)
    unguided = True

    def __init__(self, plugin: Prototype, prototypes: Prototypes, run: Run) -> None:
        self.plugin, self.prototypes = plugin, prototypes
        self.prompts = run.spoken()
        self.off = plugin.scale == 0 or plugin.stop == 0 or plugin.threshold == 1
        self.cosines: list[float] = []
        self.places: list[int] = []

    def embed(self, step: Step, text: Text) -> Text:
        if not self.cosines:
            probe, *embeds = ends(text, [PROBE, *self.prompts]).cpu()
            self.prototypes.check(probe, text.cond.shape[1])
            cosines, places = self.prototypes.nearest(torch.stack(embeds))
            self.cosines, self.places = cosines.tolist(), places.tolist()
        return text.replace(extra={0: self.prototypes.embeds[self.places]})

    @property
    def near(self) -> list[bool]:
        return [cosine > self.plugin.threshold for cosine in self.cosines]

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        if step.progress >= self.plugin.stop or not any(self.near):
            return eps.cond
        how, cond = self.plugin, eps.cond.float()
        none, away = eps.uncond.float(), eps.extra[0].float()
        erased = erasure(none, cond, away, eps.scale, how.scale, how.floor, how.rescale)
        # What the pipeline's own guidance makes the erased prediction of.
        changed = none + (erased - none) / eps.scale
        acts = torch.tensor(self.near, device=cond.device)[:, None, None, None]
        return torch.where(acts, changed, cond).to(eps.cond)

    def report(self) -> dict[str, Any]:
        images = zip(self.cosines, self.places, self.near, strict=True)
        return {
            "images": [{"cosine": c, "prototype": k if near else None} for c, k, near in images]
        }
