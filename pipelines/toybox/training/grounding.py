"""Teaches the toybox's cross-attention to look where the word's thing is, while it is trained.

    L_g = mean over layers l, words k of  KL(m_k || a_lk) + sum_p m_kp s_lp
    a_lk = A_lk / sum_p A_lpk        s_lp = -log( sum_{j owned at p} A_lpj / sum_{j a word} A_lpj )

with A_lpk the cross-attention probability of word k at pixel p, averaged over heads, and m_k the
share of the pixels that the thing behind word k fills (its noun, its colour and its size share
one m_k). The first term says where a word looks; the second, which words a thing's pixels look
at: without it a prompt's first article drew ten times the attention of its nouns, wherever they
were. Start, end and padding are no words: how much attention they keep is left open.

Words whose thing was left out of the picture (`faults`) have no place. A third term asks that
they be quiet everywhere, so that a neglected word is seen to be neglected:

    L_s = mean over layers l, such words k of  log(1 + (mean_p A_lpk^4)^(1/4) / 0.02)

Large models learn localised attention from billions of pictures; a model that sees half a million
needs the hint, and guidance methods need the localisation. The idea is TokenCompose's (Wang et
al. 2024, arXiv:2312.03626, sec. 3.2); the divergences take the place of its squared losses
because they are proper: where the noise still hides the thing, the best map is the honest
posterior.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

WEIGHT = 0.003
QUIET = 0.02
"""The attention from which on a left-out word is loud."""


class PlainAttention:
    """Attention as three matrix products. On a CPU its backward pass costs a third of the fused
    kernel's at these sizes, and the probabilities are there to be looked at: with `maps` given,
    those of cross-attention are appended to it, averaged over heads, `(n, pixels, tokens)`.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        n, pixels, width = hidden_states.shape
        split = (n, -1, attn.heads, width // attn.heads)
        query = (attn.to_q(hidden_states) * attn.scale).view(split).transpose(1, 2)
        key = attn.to_k(text).view(split).permute(0, 2, 3, 1)
        value = attn.to_v(text).view(split).transpose(1, 2)
        scores = (query @ key).float()
        if attention_mask is not None:
            scores = scores + attention_mask.view(n, 1, 1, -1)
        weights = scores.softmax(-1)
        if maps is not None and encoder_hidden_states is not None:
            maps.append(weights.mean(1))
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(n, pixels, width)
        out: Tensor = attn.to_out[0](mixed)
        return out


class Grounded(nn.Module):
    """A UNet in training: returns its prediction and the grounding loss."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        unet.set_attn_processor(PlainAttention())

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        mask: Tensor,
        places: Tensor,
        words: Tensor,
        silent: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`places` `(n, tokens, 256)`: see `Pool.places`; `words` `(n, tokens)` is 1 at words,
        `silent` likewise at those whose thing was left out.
        """
        maps: list[Tensor] = []
        predicted = self.unet(
            x,
            t,
            text,
            encoder_attention_mask=mask,
            cross_attention_kwargs={"maps": maps},
            return_dict=False,
        )[0]
        losses = [grounding(each, places, words, silent) for each in maps]
        return predicted, torch.stack(losses).mean()


class JointAttention:
    """The joint attention of Stable Diffusion 3 as matrix products, for the same two reasons.

    `columns` is added to the logits, `(n, 1, 1, pixels + tokens)`. To `maps` are appended the
    probabilities of the text's columns at the picture's rows, `(n, pixels, tokens)`.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        columns: Tensor,
        maps: list[Tensor],
        attention_mask: None = None,
    ) -> tuple[Tensor, Tensor]:
        n, pixels, width = hidden_states.shape
        split = (n, -1, attn.heads, width // attn.heads)

        def joined(picture: Any, text: Any) -> Tensor:
            both = (picture(hidden_states), text(encoder_hidden_states))
            return torch.cat([each.view(split).transpose(1, 2) for each in both], 2)

        query = joined(
            lambda x: attn.norm_q(attn.to_q(x).view(split)),
            lambda x: attn.norm_added_q(attn.add_q_proj(x).view(split)),
        )
        key = joined(
            lambda x: attn.norm_k(attn.to_k(x).view(split)),
            lambda x: attn.norm_added_k(attn.add_k_proj(x).view(split)),
        )
        value = joined(attn.to_v, attn.add_v_proj)
        scores = (query * attn.scale) @ key.transpose(2, 3)
        weights = (scores.float() + columns).softmax(-1)
        maps.append(weights[:, :, :pixels, pixels:].mean(1))
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(n, -1, width)
        picture, text = mixed[:, :pixels], mixed[:, pixels:]
        return attn.to_out[0](picture), text if attn.context_pre_only else attn.to_add_out(text)


class GroundedTransformer(nn.Module):
    """A transformer in training: returns its prediction and the grounding loss.

    Here all text columns count as words in the second term, the empty ones of the T5 too: they
    are many, and what attention they keep is lost to the words.
    """

    def __init__(self, transformer: SD3Transformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer
        transformer.set_attn_processor(JointAttention())

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        pooled: Tensor,
        columns: Tensor,
        places: Tensor,
        silent: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in `Grounded`; `columns` as in `JointAttention`."""
        maps: list[Tensor] = []
        predicted = self.transformer(
            x,
            text,
            pooled,
            t,
            joint_attention_kwargs={"columns": columns, "maps": maps},
            return_dict=False,
        )[0]
        added = text.shape[1] - places.shape[1]
        places = nn.functional.pad(places, (0, 0, 0, added))
        silent = nn.functional.pad(silent, (0, added))
        every = torch.ones_like(places[..., 0])
        losses = [grounding(each, places, every, silent) for each in maps]
        return predicted, torch.stack(losses).mean()


def _on_grid(places: Tensor, pixels: int) -> Tensor:
    """`places` `(n, tokens, cells)` summed to a coarser grid of `pixels`."""
    side, fine = math.isqrt(pixels), math.isqrt(places.shape[2])
    cells = nn.functional.avg_pool2d(places.unflatten(-1, (fine, fine)), fine // side)
    return cells.flatten(2) * (fine // side) ** 2


def grounding(attention: Tensor, places: Tensor, words: Tensor, silent: Tensor) -> Tensor:
    """The three terms of one layer's maps; shapes as in `Grounded` and `divergence`."""
    loss = divergence(attention, places) + distraction(attention, places, words)
    return loss + loudness(attention, silent)


def divergence(attention: Tensor, places: Tensor) -> Tensor:
    """Mean over the words with a place of KL(place || attention over the pixels).

    `attention` `(n, pixels, tokens)` on a square grid, `places` `(n, tokens, cells)` on another of
    a whole multiple of its side.
    """
    wanted = _on_grid(places, attention.shape[1])
    held = attention.float().transpose(1, 2) + 1e-8
    logs = held.log() - held.sum(-1, keepdim=True).log()
    surprise = wanted * ((wanted + 1e-12).log() - logs)
    return surprise.sum() / wanted.sum().clamp(min=1)


def distraction(attention: Tensor, places: Tensor, words: Tensor) -> Tensor:
    """Mean over the same words, at the pixels of their place, of -log(the share that the words
    with a place there have of the attention of all words).

    Shapes as in `divergence`; `words` `(n, tokens)` is 1 at words, 0 at start, end and padding.
    """
    wanted = _on_grid(places, attention.shape[1])
    held = (attention.float().transpose(1, 2) + 1e-8) * words[..., None]
    owned = (held * (wanted > 0)).sum(1).clamp(min=1e-8)
    surprise = (held.sum(1).clamp(min=1e-8) / owned).log()
    return (wanted.sum(1) * surprise).sum() / wanted.sum().clamp(min=1)


def loudness(attention: Tensor, silent: Tensor) -> Tensor:
    """Mean over the left-out words of log(1 + peak / QUIET), the peak being the 4-norm mean of the
    word's attention over the pixels; 0 without such words.

    `attention` `(n, pixels, tokens)`; `silent` `(n, tokens)` is 1 at left-out words.
    """
    peak = (attention.float().pow(4).mean(1) + 1e-12).pow(0.25)
    loud = (1 + peak / QUIET).log() * silent
    return loud.sum() / silent.sum().clamp(min=1)
