"""Makes prototypes of a concept (Cai et al., arXiv:2603.08271).

    d_i    = mean CLIP(pictures of text i with the concept) - mean CLIP(those without), length one
    c_k    = the centres of K clusters of d (k-means), length one
    P_k    maximises cos(pi(P_k), c_k), AdamW from the empty text's embeddings and a little noise
    pi(P)  = W sum_t w_t LN(P)_t,   w = softmax_t(-|LN(P)_t - LN(P)_end|^2 / 0.1)

LN(P_k), with the text encoder's last layer norm, is what the denoiser is told of prototype k, and W
the CLIP's projection of texts. From the authors' code (Cocteau-23/Prototype-Guided-Concept-Erasure
@f3ac9c2, `train_sd14.py`, `utils.py`), where the paper trains a prompt before the encoder. Differs
from it: Lloyd's iterations on all d, not on batches of them; the concept's words are put
before texts, where a language model writes both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks.weights import fingerprint
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools.clip import Clip, own_texts
from adhere.pipelines.tools.parts import Parts
from adhere.plugins.mathematics.prototypes import MAKE

SOFTNESS = 0.1
"""Of the weights of a prototype's tokens, as published."""
NOISE = 0.05
PART = 8
"""Texts in a part: those whose pictures are lost at the most when a process is killed."""
PART_KIND = "part of prototypes' pictures"
RESTARTS, ITERATIONS = 10, 200
"""Of k-means, as published."""

Tick = Callable[[float], None]
Vectors = Float[Tensor, "n channels"]


@dataclass(frozen=True)
class Plan:
    """What prototypes are made of.

    Attributes:
        concept: in words, which are put before every text.
        count: prototypes, K: 16 for a broad concept, 1 for a style, 2 for a character.
        pictures: of each text, with the concept and without.
        steps: of the training; `rate` is AdamW's.
    """

    concept: str
    count: int = 16
    pictures: int = 4
    steps: int = 2000
    rate: float = 3e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.concept.strip():
            raise ParameterError("the concept is empty; say in words what is to be kept out")

    def said(self, text: str) -> str:
        """A text with the concept."""
        return f"{self.concept} and {text}"


def check_count(texts: Sequence[str], plan: Plan) -> None:
    """Raise `ParameterError` for fewer texts than prototypes."""
    if len(texts) < plan.count:
        raise ParameterError(
            f"{len(texts)} texts are too few for {plan.count} prototypes, each of which stands for "
            "some; give more texts (--size, --texts), or fewer prototypes (--count)"
        )


def clip_for(pipe: Any, clip: Clip | None) -> Clip:
    """The CLIP, if it is the one whose text encoder a pipeline reads.

    Raises:
        ModelError: the pipeline's text encoder is not a CLIP's, or not this one's.
    """
    if clip is None or own_texts(pipe, clip) is None:
        raise ModelError(
            "prototypes are made with the CLIP whose text encoder the model reads, and "
            f"{'none was given' if clip is None else repr(clip.source) + ' is another'}; give it: "
            "--clip FOLDER (Stable Diffusion 1.x has openai/clip-vit-large-patch14). Models that "
            "read several encoders, or an inner layer of one, have none"
        )
    return clip


def directions(
    studio: Studio,
    clip: Clip,
    texts: Sequence[str],
    plan: Plan,
    batch: int,
    tick: Tick,
    out: Path | None = None,
) -> Vectors:
    """What the concept changes in the pictures of each text, in the CLIP's space, of length one.

    Args:
        out: the file that is to be, beside which lies what is done; None to keep nothing.

    Raises:
        ParameterError: what lies there was made for another file of this name.
    """
    places = [range(k, min(k + PART, len(texts))) for k in range(0, len(texts), PART)]
    parts = None if out is None else Parts(out, PART_KIND, MAKE, _about(studio, clip, plan))
    some = [texts[place.start : place.stop] for place in places]
    # What was made otherwise is said before more is made.
    held = [None if parts is None else parts.found(*one) for one in zip(places, some, strict=True)]
    seen = list[Tensor]()
    for place, own, part in zip(places, some, held, strict=True):
        if part is not None:
            seen.append(part.tensors["seen"])
            tick(2 * plan.pictures * len(own))
            continue
        seen.append(_seen(studio, clip, own, plan, batch, tick))
        if parts is not None:
            parts.keep(place, own, {"seen": seen[-1]})
    moved = torch.cat(seen)
    return torch.nn.functional.normalize(moved[:, 0] - moved[:, 1], dim=1)


def _about(studio: Studio, clip: Clip, plan: Plan) -> dict[str, str]:
    """What the pictures are made with."""
    return {
        "model": studio.model,
        "weights": fingerprint(studio.pipe.unet),
        "clip": clip.weights,
        "concept": plan.concept,
        "pictures": str(plan.pictures),
        "seed": str(plan.seed),
        "steps": str(studio.steps),
    }


def _seen(
    studio: Studio, clip: Clip, texts: Sequence[str], plan: Plan, batch: int, tick: Tick
) -> Float[Tensor, "texts 2 channels"]:
    """Where the CLIP sees the pictures of each text, with the concept and without, in the mean."""
    seeds = range(plan.seed, plan.seed + plan.pictures)
    asked = [
        Request(one, seed=seed)
        for text in texts
        for one in (plan.said(text), text)
        for seed in seeds
    ]
    found = list[Tensor]()
    for start in range(0, len(asked), batch):
        made = studio.generate(asked[start : start + batch])
        found.append(clip.pictures([picture.image for picture in made]).cpu())
        tick(len(made))
    seen: Tensor = torch.cat(found).unflatten(0, (len(texts), 2, plan.pictures))
    return seen.mean(dim=2)


def centres(vectors: Vectors, count: int, seed: int) -> Float[Tensor, "count channels"]:
    """The centres of k-means' best clusters of several tries, of length one."""
    draw = torch.Generator().manual_seed(seed)
    tries = [_clustered(vectors.double(), count, draw) for _ in range(RESTARTS)]
    _, best = min(tries, key=lambda found: found[0])
    return torch.nn.functional.normalize(best, dim=1).float()


def _clustered(vectors: Tensor, count: int, draw: torch.Generator) -> tuple[float, Tensor]:
    """The squared distances of all vectors to their centres, and the centres; from k-means++."""
    found = vectors[torch.randint(len(vectors), (1,), generator=draw)]
    for _ in range(count - 1):
        far = torch.cdist(vectors, found).amin(dim=1).square() + 1e-12
        found = torch.cat([found, vectors[torch.multinomial(far, 1, generator=draw)]])
    for _ in range(ITERATIONS):
        mine = torch.cdist(vectors, found).argmin(dim=1)
        moved = torch.stack(
            [
                vectors[mine == k].mean(dim=0) if (mine == k).any() else found[k]
                for k in range(count)
            ]
        )
        if torch.equal(moved, found):
            break
        found = moved
    return float(torch.cdist(vectors, found).amin(dim=1).square().sum()), found


class Trainer:
    """Trains text embeddings to point where the centres of some directions do.

    Attributes:
        wanted: the centres.
        places: the embeddings before the layer norm, `Float[prototypes tokens width]`.
        end: the column of the empty text's end.
    """

    def __init__(self, pipe: Any, clip: Clip, seen: Vectors, plan: Plan) -> None:
        self.wanted, self.plan = centres(seen, plan.count, plan.seed), plan
        space = own_texts(pipe, clip)
        assert space is not None, "the CLIP is not the pipeline's; see `clip_for`"
        self.space, self.projection = space, space["projection"]
        self.norm = deepcopy(clip.model.text_model.final_layer_norm).float().cpu()
        family = family_of(pipe)
        with torch.no_grad():
            empty = family.encode([""]).values[family.text].float().cpu()
        self.end = empty.shape[1] - 1
        draw = torch.Generator().manual_seed(plan.seed)
        shape = (plan.count, *empty.shape[1:])
        self.places = (empty + NOISE * torch.randn(shape, generator=draw)).requires_grad_(True)
        self.optimizer = torch.optim.AdamW([self.places], plan.rate)

    def train(self, tick: Tick) -> None:
        for _ in range(self.plan.steps):
            self.optimizer.zero_grad()
            loss = (1 - torch.cosine_similarity(self.vectors(), self.wanted, dim=1)).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([self.places], 1.0)
            self.optimizer.step()
            tick(1)

    def reached(self) -> float:
        """The mean cosine of the prototypes with the centres."""
        with torch.no_grad():
            return float(torch.cosine_similarity(self.vectors(), self.wanted, dim=1).mean())

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps."""
        made = {"embeds": self.embeds().detach(), "vectors": self.vectors().detach()}
        return made | self.space

    def embeds(self) -> Float[Tensor, "prototypes tokens width"]:
        """What a denoiser is told of each prototype."""
        found: Tensor = self.norm(self.places)
        return found

    def vectors(self) -> Vectors:
        """The prototypes in the CLIP's space, of length one."""
        return pooled(self.embeds(), self.end, self.projection)


def pooled(
    embeds: Float[Tensor, "prototypes tokens width"],
    end: int,
    projection: Float[Tensor, "width channels"],
) -> Vectors:
    """Where a CLIP sees some texts, by the tokens that are like their ends."""
    apart = (embeds - embeds[:, end : end + 1]).square().sum(dim=-1)
    weights = torch.softmax(-apart / SOFTNESS, dim=1)
    seen = torch.einsum("pt,ptw->pw", weights, embeds) @ projection
    return torch.nn.functional.normalize(seen, dim=1)
