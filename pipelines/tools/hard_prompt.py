"""PEZ: a prompt of real words for a picture (Wen et al., NeurIPS 2023, arXiv:2302.03668).

Walk through embeddings of tokens by the gradient, but take the gradient where real tokens are.

    P      M embeddings, at first of random tokens
    P'     = the nearest tokens' embeddings (cosine), each of P's for itself
    g      = gradient of 1 - cos(CLIP(P'), CLIP(picture)) at P'
    P      <- AdamW(P, g)

The best P' of all steps is what was looked for. Differs from the authors' code
(YuxinWenRick/hard-prompts-made-easy): tokens that do not end a word, and special ones, are left out
unless they are asked for, so that the text is read back as it was found; the best is chosen by the
cosine of the text as a tokenizer reads it, not by that of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adhere.errors import ParameterError
from adhere.pipelines.tools.clip import Clip

WORD_END = "</w>"
"""What CLIP's tokens that end a word end in."""


@dataclass(frozen=True)
class Search:
    """How to look for a prompt.

    Attributes:
        length: tokens of the prompt, M.
        steps: gradient steps (the authors' code: 3000).
        learning_rate, weight_decay: AdamW's (the authors' code).
        whole_words: whether only tokens that are words by themselves are tried.
        seed: of the tokens at the start.
    """

    length: int = 16
    steps: int = 1000
    learning_rate: float = 0.1
    weight_decay: float = 0.1
    whole_words: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """The best prompt so far, of `step` steps: its text, and its cosine with the pictures."""

    text: str
    similarity: float
    step: int


def search(clip: Clip, target: Float[Tensor, "n channels"], how: Search) -> Iterator[Found]:
    """The best prompt after each step; stop whenever it is good enough.

    Args:
        target: embeddings of one picture or of several, which one prompt is to suit alike.

    Raises:
        ParameterError: the encoder does not read so many tokens, or has no words.
    """
    most = clip.length - 2
    if how.length > most:
        raise ParameterError(
            f"length={how.length} is more than the CLIP {clip.source!r} reads; give {most} or less"
        )
    walk = _Walk(clip, target, how)
    best: Found | None = None
    nearest = float("-inf")
    for step in range(1, how.steps + 1):
        ids, similarity = walk.step()
        if best is None or similarity > nearest:
            nearest = similarity
            text = clip.tokenizer.decode(ids).strip()
            real = float((clip.texts([text]) @ target.T).mean())
            if best is None or real > best.similarity:
                best = Found(text, real, step)
        yield best


class _Walk:
    """The embeddings on their way."""

    def __init__(self, clip: Clip, target: Tensor, how: Search) -> None:
        self.clip, self.target = clip, target
        table = clip.model.text_model.embeddings.token_embedding.weight.detach()
        self.ids = allowed(clip, how.whole_words).nonzero()[:, 0]
        self.table = table[self.ids]
        generator = torch.Generator("cpu").manual_seed(how.seed)
        first = torch.randint(len(self.ids), (how.length,), generator=generator)
        self.place = self.table[first.to(self.table.device)].clone().requires_grad_(True)
        self.optimiser = torch.optim.AdamW(
            [self.place], lr=how.learning_rate, weight_decay=how.weight_decay
        )

    def step(self) -> tuple[Int[Tensor, " tokens"], float]:
        """The tokens nearest to where the walk is, and their similarity; then a step on."""
        near = nearest(self.place.detach(), self.table)
        embeds = self.table[near].clone().requires_grad_(True)
        similarity = (self._encoded(embeds, self.ids[near]) @ self.target.T).mean()
        (self.place.grad,) = torch.autograd.grad(1 - similarity, [embeds])
        self.optimiser.step()
        return self.ids[near], float(similarity.detach())

    def _encoded(
        self, embeds: Float[Tensor, "tokens c"], ids: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "1 channels"]:
        """The text of some tokens, differentiable in their embeddings."""
        row = self.clip.ids([""])[0].clone()  # start, end, padding
        row[1 : len(ids) + 2] = torch.cat([ids, row[1:2]])
        table = self.clip.model.text_model.embeddings.token_embedding.weight.detach()
        whole = torch.cat([table[row[:1]], embeds, table[row[len(ids) + 1 :]]])
        return self.clip.of_tokens(row[None], whole[None])


def nearest(
    places: Float[Tensor, "tokens c"], table: Float[Tensor, "words c"]
) -> Int[Tensor, " tokens"]:
    """For each place the word of the table with the highest cosine."""
    normal = torch.nn.functional.normalize
    return (normal(places, dim=-1) @ normal(table, dim=-1).T).argmax(dim=-1)


def allowed(clip: Clip, whole_words: bool) -> Bool[Tensor, " vocabulary"]:
    """Which tokens a prompt may have: no special ones, and only whole words if asked.

    Raises:
        ParameterError: no token is a word, as this tokenizer writes them.
    """
    table = clip.model.text_model.embeddings.token_embedding.weight
    kept = torch.zeros(len(table), dtype=torch.bool, device=table.device)
    special = set(clip.tokenizer.all_special_ids)
    for token, number in clip.tokenizer.get_vocab().items():
        word = token.endswith(WORD_END) and token.removesuffix(WORD_END).isalpha()
        kept[number] = number not in special and (word or not whole_words)
    if not kept.any():
        raise ParameterError(
            f"no token of {clip.source!r} ends in {WORD_END}, so no words are known; look among "
            "all tokens: whole_words=False, --any-token"
        )
    return kept
