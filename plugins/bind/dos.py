"""DOS, directional object separation (Byun et al., AAAI 2026, arXiv:2510.14376).

In a text's embeddings objects lean towards one another, the more the likelier they look alike or
live in different places. Move each object's words away from the others', and the end token from
what a mixture of both would be.

    o_n, E(t)  the embedding of object n's words in "a n"; that of a text t's end token
    looks_n    z-scores of cosine(o_n, its words in "a <attribute> n")               attributes
    scene_n    z-scores of cosine(o_n, its words in "<place>, there is a n")             places
    alpha_nm = lambda / (N - 1) max(sigmoid((cos(looks_n, looks_m) - c_1) / 0.6),
                                    sigmoid((1 - cos(scene_n, scene_m) - c_2) / 0.6))
    words of n <- words of n + sum over m of alpha_nm (o_n - o_m)
    end token  <- end token + sum over n, m of alpha'_nm (E("a n separated from a m")
                                                        - E("a n mixed with a m"))
    pooled      <- likewise, with the pooled embeddings of the two texts       SDXL and SD3

alpha' has the end tokens' cosines in place of the words', the pooled embedding's its own. c_1 and
c_2 are the authors' for SDXL, and for SD3.5, of whose encoders CLIP's alone are moved.

From the authors' code (dongnami/DOS@dbbede5, `methods/dos.py`; MIT). Differs from it: the lists of
attributes and places are this project's own; batches; the parser finds the objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, ClassVar

import torch
from torch import Tensor

from adhere.errors import PromptError
from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Free, param
from adhere.guides.run import Run
from adhere.plugins.mathematics.texts import Profile, ends, nearness

ATTRIBUTES = ("round", "long", "flat", "tall", "furry", "smooth", "striped", "wooden", "scaly")
PLACES = ("in a forest", "at sea", "in a desert", "in the snow", "on a street", "in a kitchen")
WAYS = ("separated from", "mixed with")
SDXL = ((0.5550, 0.1592), (0.5474, 0.3862), (0.5366, 0.5835))
"""c_1 and c_2, for the words' weight, the end token's and the pooled embedding's."""
SD3 = ((0.5536, 0.1705), (0.5473, 0.3877), (0.6168, 0.4325))


@dataclass(frozen=True)
class Dos(Free):
    """Keep objects apart in the text, before the model reads it."""

    name: ClassVar[str] = "dos"
    task: ClassVar[str] = "bind"

    subjects: tuple[str, ...] | None = param(
        None, "phrases to keep apart; the parser's nouns if left out", source="paper"
    )
    strength: float = param(1.0, "lambda", low=0, high=10, source="code, lambda_sep")

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


class _Guide(Guide):
    def __init__(self, plugin: Dos, run: Run) -> None:
        self.plugin, self.run = plugin, run
        self.off = plugin.strength == 0
        self.subjects = run.subjects(plugin.subjects)
        self.centres = SD3 if "sd3" in run.family else SDXL
        self.shifts: tuple[Tensor, Tensor] | None = None
        self.weights: list[dict[str, float]] = [{} for _ in run.prompts]
        for prompt, own in zip(run.prompts, self.subjects, strict=True):
            if len(own) < 2:
                run.note(f"{plugin.name} left {prompt.plain!r} alone: one object")
            for one, other in combinations(own, 2):
                if {*one.columns[0]} & {*other.columns[0]}:
                    raise PromptError(
                        f"{plugin.name}: {one.text!r} and {other.text!r} share words of "
                        f"{prompt.plain!r}; name phrases that do not overlap"
                    )

    def embed(self, step: Step, text: Text) -> Text:
        if self.shifts is None:
            made = [self._shifts(k, text) for k in range(len(text.cond))]
            cond, pooled = (torch.stack(part) for part in zip(*made, strict=True))
            self.shifts = cond, pooled
        text = text.replace(cond=text.cond + self.shifts[0].to(text.cond))
        if text.pooled is None:
            return text
        return text.replace(pooled=text.pooled + self.shifts[1].to(text.pooled))

    def _shifts(self, image: int, text: Text) -> tuple[Tensor, Tensor]:
        """What is added to an image's embeddings, and to its pooled one."""
        shift, end = torch.zeros_like(text.cond[image]).float(), self.run.content(image)[0][-1] + 1
        whole = torch.zeros(1) if text.pooled is None else 0 * text.pooled[image].float()
        objects = [
            (one, Profile.of(text, one.text, ATTRIBUTES, PLACES)) for one in self.subjects[image]
        ]
        for (one, n), (other, m) in permutations(objects, 2):
            words, ending, pooled = (
                self.plugin.strength / (len(objects) - 1) * nearness(p, q, centres)
                for p, q, centres in zip(n.parts, m.parts, self.centres, strict=True)
            )
            shift[list(one.columns[0])] += words * (n.own - m.own)
            ways = [f"a {one.text} {way} a {other.text}" for way in WAYS]
            apart, mixed = ends(text, ways)
            shift[end] += ending * (apart - mixed)
            if text.pooled is not None:
                apart, mixed = text.pool(ways).float()
                whole += pooled * (apart - mixed)
            self.weights[image][f"{one.text}, {other.text}"] = words
        return shift, whole

    def report(self) -> dict[str, Any]:
        return {"weights": self.weights}
