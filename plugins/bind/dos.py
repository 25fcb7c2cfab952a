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

alpha' has the end tokens' cosines in place of the words'. c_1 and c_2 are the authors' for SDXL.

From the authors' code (AAAI 2026, MIT; seen in a copy without its commit). Differs from it: the
lists of attributes and places are this project's own; the pooled embedding of SDXL is not reached;
batches; the parser finds the objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Method, param
from adhere.guides.run import Run
from adhere.plugins.mathematics.texts import ends, last_words, likeness, nearness

ATTRIBUTES = ("round", "long", "flat", "tall", "furry", "smooth", "striped", "wooden", "scaly")
PLACES = ("in a forest", "at sea", "in a desert", "in the snow", "on a street", "in a kitchen")
CENTRES = ((0.5550, 0.1592), (0.5474, 0.3862))
"""c_1 and c_2, for the words' weight and for the end token's."""


@dataclass(frozen=True)
class Dos(Method):
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
        self.shift: Tensor | None = None
        self.weights: list[dict[str, float]] = [{} for _ in run.prompts]
        for prompt, own in zip(run.prompts, self.subjects, strict=True):
            if len(own) < 2:
                run.note(f"{plugin.name} left {prompt.plain!r} alone: one object")

    def embed(self, step: Step, text: Text) -> Text:
        if self.shift is None:
            self.shift = torch.stack([self._shift(k, text) for k in range(len(text.cond))])
        return text.replace(cond=text.cond + self.shift.to(text.cond))

    def _shift(self, image: int, text: Text) -> Float[Tensor, "tokens channels"]:
        """What is added to an image's embeddings."""
        shift, end = torch.zeros_like(text.cond[image]).float(), self.run.content(image)[0][-1] + 1
        objects = [(one, Profile.of(text, one.text)) for one in self.subjects[image]]
        for (one, n), (other, m) in permutations(objects, 2):
            words, ending = (
                self.plugin.strength / (len(objects) - 1) * nearness(p, q, centres)
                for p, q, centres in zip(n.parts, m.parts, CENTRES, strict=True)
            )
            shift[list(one.columns[0])] += words * (n.own - m.own)
            ways = [
                f"a {one.text} {way} a {other.text}" for way in ("separated from", "mixed with")
            ]
            apart, mixed = ends(text, ways)
            shift[end] += ending * (apart - mixed)
            self.weights[image][f"{one.text}, {other.text}"] = words
        return shift

    def report(self) -> dict[str, Any]:
        return {"weights": self.weights}


@dataclass(frozen=True)
class Profile:
    """An object's embedding and, for its words and for the end token, looks and scene."""

    own: Float[Tensor, " channels"]
    parts: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, text: Text, name: str) -> Profile:
        plain, size = f"a {name}", len(name)
        looks = [plain, *(f"a {attribute} {name}" for attribute in ATTRIBUTES)]
        scene = [plain, *(f"{place}, there is a {name}" for place in PLACES)]
        words, end = last_words(text, looks, size), ends(text, looks)
        there, there_end = last_words(text, scene, size), ends(text, scene)
        # As published, the words' profile begins with the object's likeness to itself.
        of_words = (likeness(words[0], words), likeness(words[0], there))
        return cls(
            words[0], (of_words, (likeness(end[0], end[1:]), likeness(end[0], there_end[1:])))
        )
