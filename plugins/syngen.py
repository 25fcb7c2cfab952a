"""SynGen, linguistic binding (Rassin et al., NeurIPS 2023, arXiv:2306.08877).

An attribute goes astray when the attention of a modifier lies elsewhere than that of its noun.
Parse the prompt; before each of the first steps pull the maps of every noun and its modifiers
together, and push both away from the other words of the prompt.

    A_w   = map of word w, scaled to sum to one over the cells
    d(u, v) = (KL(A_u || A_v) + KL(A_v || A_u)) / 2                             sec. 3.2
    L     = sum over pairs (noun n, modifier m) of
              d(n, m) - 1 / (2 |U|) sum over u in U of (d(n, u) + d(m, u))      sec. 3.2
    x    <- x - 20 grad L

U is every token of the prompt outside the noun and its modifiers, function words included. Of
words in several pieces the farthest pieces count.

Differs from the authors' code (RoyiRa/Linguistic-Binding-in-Diffusion-Models@7497ccc): batches,
each image with its own parse; the project's parser in place of spaCy's (which is optional); the
distances are computed together, not one by one; every modifier is paired with its own noun, never
with another one that a merged list put last; an image without modifiers is left alone with a note.
`against="entities"` leaves lead-ins ("a photo of") and function words out of U, as later work does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides import parameters
from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.parameters import param
from adhere.guides.run import BoundNoun, Run

Columns = tuple[int, ...]
Entities = Sequence[Sequence[BoundNoun]]


@dataclass(frozen=True)
class SynGen:
    """Give every noun its own colours and properties."""

    name: ClassVar[str] = "syngen"

    subjects: tuple[str, ...] | None = param(
        None, "nouns or phrases to bind; all of the parser's if left out", source="sec. 3.1"
    )
    step_size: float = param(
        20.0,
        "length of a step along the gradient",
        low=0,
        high=1000,
        source="sec. 4, run.py@7497ccc",
    )
    stop: float = param(0.5, "share of the steps that are guided", low=0, high=1, source="sec. 4")
    against: Literal["prompt", "entities"] = param(
        "prompt", "push from all other words, or from other nouns and modifiers", source="sec. 3.2"
    )

    def __post_init__(self) -> None:
        parameters.check(self)

    def guide(self, run: Run) -> Guide:
        return _Guide(self, run)


@dataclass(frozen=True)
class Binding:
    """A noun, one of its modifiers and the outside U of both, as token columns."""

    noun: Columns
    modifier: Columns
    outside: Columns


class _Guide(Guide):
    reads = frozenset({Read("cross")})

    def __init__(self, plugin: SynGen, run: Run) -> None:
        self.plugin = plugin
        pairs = run.nouns(plugin.subjects)
        for image, found in enumerate(pairs):
            prompt = run.prompts[image].parsed
            prompt.require_nouns()
            if not any(pair.modifiers for pair in found):
                run.note(f"syngen left {prompt.text!r} alone: no noun has a modifier to bind")
        everything = run.nouns() if plugin.against == "entities" else None
        self.bindings = [
            [
                bindings(found, track, _rest(run, image, track, everything))
                for image, found in enumerate(pairs)
            ]
            for track in range(len(run.tracks))
        ]

    def guides(self, step: Step) -> bool:
        plugin = self.plugin
        return plugin.step_size > 0 and step.progress < plugin.stop and any(map(any, self.bindings))

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        wanted = [self.bindings[maps.track][image] for image in maps.images]
        return Energy(misbinding(maps.cross(), wanted), self.plugin.step_size)

    def report(self) -> dict[str, Any]:
        return {"pairs": [len(image) for image in self.bindings[0]]}


def _rest(
    run: Run, image: int, track: int, entities: Sequence[Sequence[BoundNoun]] | None
) -> Columns:
    """The columns that a noun and its modifiers may be pushed from."""
    if entities is None:
        return run.tracks[track].images[image].content
    words = [word for pair in entities[image] for word in (pair.noun, *pair.modifiers)]
    return tuple(sorted({column for word in words for column in word.columns[track]}))


def bindings(pairs: Sequence[BoundNoun], track: int, rest: Columns) -> list[Binding]:
    """Every noun with each of its modifiers, and what lies outside them all."""
    found = []
    for pair in pairs:
        own = {c for word in (pair.noun, *pair.modifiers) for c in word.columns[track]}
        outside = tuple(column for column in rest if column not in own)
        found += [
            Binding(pair.noun.columns[track], modifier.columns[track], outside)
            for modifier in pair.modifiers
        ]
    return found


def misbinding(
    attention: Float[Tensor, "batch h w tokens"], wanted: Sequence[Sequence[Binding]]
) -> Float[Tensor, " batch"]:
    """L for each image; zero for one without pairs."""
    zero = attention.flatten(1).sum(dim=1) * 0
    losses = [
        _misbinding(*one) if one[1] else zero[0] for one in zip(attention, wanted, strict=True)
    ]
    return zero + torch.stack(losses)


def _misbinding(
    attention: Float[Tensor, "h w tokens"], pairs: Sequence[Binding]
) -> Float[Tensor, ""]:
    rows = sorted({column for pair in pairs for column in (*pair.noun, *pair.modifier)})
    columns = sorted({column for pair in pairs for column in (*pair.outside, *rows)})
    apart = distances(attention[:, :, rows], attention[:, :, columns])
    row = {column: k for k, column in enumerate(rows)}
    place = {column: k for k, column in enumerate(columns)}
    parts = []
    for pair in pairs:
        noun, modifier = ([row[column] for column in word] for word in (pair.noun, pair.modifier))
        parts.append(apart[noun][:, [place[column] for column in pair.modifier]].amax())
        if pair.outside:
            far = apart[:, [place[column] for column in pair.outside]]
            parts.append(-(far[noun].amax(dim=0).mean() + far[modifier].amax(dim=0).mean()) / 2)
    return torch.stack(parts).sum()


def distances(
    one: Float[Tensor, "h w rows"], other: Float[Tensor, "h w columns"]
) -> Float[Tensor, "rows columns"]:
    """d: the symmetric Kullback-Leibler divergence of every map to every other, in nats."""
    p, q = _shares(one)[:, None], _shares(other)[None]
    # (p - q)(log p - log q) sums both directions in one, and each term is >= 0: nothing cancels.
    return ((p - q) * (p.log() - q.log())).sum(dim=-1) / 2


def _shares(maps: Float[Tensor, "h w words"]) -> Float[Tensor, "words cells"]:
    """Each map as a distribution over the cells."""
    flat = maps.flatten(0, 1).T.clamp_min(torch.finfo(maps.dtype).tiny)
    return flat / flat.sum(dim=-1, keepdim=True)
