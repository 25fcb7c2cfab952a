"""Subject-enhanced attention guidance (Liu et al. 2024, arXiv:2405.06948).

An IP-Adapter shows its pictures to every cell alike, and the looks of two subjects mix. Let each
subject's picture be heard where the attention of the subject's words is, step by step.

    a_s = G * sum over the tokens j of subject s of A[:, j]       G: a Gaussian
    m_s = (a_s - min a_s) / (max a_s - min a_s)                   over the cells
    M_s = 1 where m_s >= tau, and no other subject has more       one subject a cell at the most
    h   = Attn(Q, K, V) + scale sum_s M_s Attn(Q, K_s, V_s)       K_s, V_s: of the subject's picture

A is what the denoiser's own pass has attended to in the step before: no pass is added, and in the
first step no picture is heard. Several tokens and pictures are those of diffusers' IP-Adapters,
whose scale stays the pipeline's (`pipe.set_ip_adapter_scale`).

The idea is the paper's forward guidance: maps of each subject's tokens, smoothed by a Gaussian,
make the masks in which the subject's features are injected. No code is out, and its formula of the
mask was not at hand: the two lines of m_s and M_s are this file's. Differs from it: any IP-Adapter
in place of its own trained one; batches; moving the latents to the subjects is another method's
(attend-and-excite, which stacks with it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ModelError, PromptError
from adhere.guides.guide import Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import Method, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.attention import SMOOTHING, smooth
from adhere.prompt.tokens import Phrase


@dataclass(frozen=True)
class SubjectGuidance(Method):
    """Give each subject the look of its own picture, through the pipeline's IP-Adapter."""

    name: ClassVar[str] = "subject-guidance"
    task: ClassVar[str] = "bind"
    pictures: ClassVar[bool] = True

    subjects: tuple[str, ...] | None = param(
        None, "phrases, in the order of the pictures; the prompt's nouns if left out"
    )
    threshold: float = share(0.5, "tau, least attention of a subject's cell, its peak being 1")
    sigma: float = param(SMOOTHING, "width of the Gaussian, in cells of the map", low=0, high=10)
    start: float = share(0.0, "share of the steps before which no picture is heard")
    stop: float = share(
        1.0, "share of the steps after which they are heard everywhere", behind="start"
    )

    def guide(self, run: Run) -> Guide:
        if not run.pictures:
            raise ModelError(
                f"{self.name} shows subjects to an IP-Adapter that takes masks, and this "
                f"{run.family} pipeline was called with none: pipe.load_ip_adapter(...), then "
                "pipe(..., ip_adapter_image=[[one, other]]), on Stable Diffusion 1.x, 2.x or XL"
            )
        subjects = run.subjects(self.subjects)
        for image, phrases in enumerate(subjects):
            if len(phrases) != run.pictures:
                said = ", ".join(repr(phrase.text) for phrase in phrases)
                raise PromptError(
                    f"{self.name}: {run.pictures} pictures for the subjects {said} of "
                    f"{run.prompts[image].plain!r}; give one picture for each, and name the "
                    "subjects in the pictures' order (subjects=('cat', 'dog'))"
                )
        return _Guide(self, subjects, run.pictures)


class _Guide(Guide):
    watches = frozenset({Read("cross")})

    def __init__(
        self, plugin: SubjectGuidance, subjects: Sequence[tuple[Phrase, ...]], pictures: int
    ) -> None:
        self.plugin, self.subjects = plugin, subjects
        self.off = plugin.stop == 0
        self.places = torch.zeros(len(subjects), pictures, 1, 1)
        self.covered: list[list[list[float]]] = []

    def watch(self, step: Step, maps: Maps) -> None:
        found = []
        for one in maps.each():
            attention = torch.stack([one.of(phrase) for phrase in self.subjects[one.image]])
            found.append(places(attention, self.plugin.threshold, self.plugin.sigma))
        self.places = torch.stack(found)
        self.covered.append(self.places.mean(dim=(2, 3)).tolist())

    def mask(self, step: Step) -> Float[Tensor, "batch pictures h w"] | None:
        if step.progress >= self.plugin.stop:
            return None
        return self.places * (step.progress >= self.plugin.start)

    def follow(self, parents: Sequence[int]) -> None:
        self.places = self.places[list(parents)]

    def report(self) -> dict[str, Any]:
        return {"covered": self.covered}


def places(
    attention: Float[Tensor, "subjects h w"], threshold: float, sigma: float
) -> Float[Tensor, "subjects h w"]:
    """M: the cells of each subject, by the attention of their words."""
    smoothed = smooth(attention, sigma)
    least, most = smoothed.amin(dim=(1, 2), keepdim=True), smoothed.amax(dim=(1, 2), keepdim=True)
    shares = (smoothed - least) / (most - least).clamp_min(torch.finfo(smoothed.dtype).tiny)
    own = (shares >= threshold) & (shares >= shares.amax(dim=0))
    return own.to(attention)
