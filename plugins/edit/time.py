"""TIME, editing implicit assumptions (Orgad, Kawar and Belinkov, ICCV 2023, arXiv:2303.08084).

A prompt that does not say which colour a rose has gets the usual one. Let the layers read, wherever
"a rose" stands, what they read in "a blue rose", and leave what other texts say nearly as it is.

    W' = argmin sum_i ||W' c_i - W d_i||^2 + lambda ||W' - W||^2     keys' and values' projections
       = (lambda W + sum_i W d_i c_i^T) (lambda 1 + sum_i c_i c_i^T)^-1
    c_i   the embeddings of "a rose", every column;   d_i   those of the same words in "a blue rose"

All W are moved by one factor: W' c = W (c + (D - C)^T (lambda 1 + C C^T)^-1 C c), with rows c_i in
C and d_i in D. So the text embeddings are edited, and the model's weights never are.

From the authors' code (bahjat-kawar/time-diffusion@171db64, `train_closed_form`, `--with_to_k`;
MIT). Columns behind the last word go with those behind the other's last word. Differs from it:
several edits act at once; both projections always; the texts that other plugins bring (a negative
text's columns, SEGA's edits) and a pooled embedding (SDXL) are not edited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.texts import aligned, refuse_unclear, require_verbatim

STARTS = ("a photo of ", "an image of ", "a picture of ")


@dataclass(frozen=True)
class Time(Free):
    """Change what the model takes for granted where the prompt does not say."""

    name: ClassVar[str] = "time"
    task: ClassVar[str] = "edit"

    edits: tuple[str, ...] = param(
        (), "what is said > what is to be meant, as in a rose > a blue rose", source="paper"
    )
    keep: float = param(
        0.1, "lambda, weight of leaving other texts as they are", low=1e-4, high=1e4, source="code"
    )
    augmented: bool = param(
        False,
        "whether photos, images and pictures of it are edited in so many words",
        source="code",
    )
    stop: float = share(1.0, "share of the steps that read the edited text")

    def __post_init__(self) -> None:
        super().__post_init__()
        for edit in self.edits:
            if not all(map(str.strip, edit.partition(">"))) or edit.count(">") > 1:
                raise ParameterError(
                    f"{self.name}: {edit!r} is no edit; write a rose > a blue rose"
                )
        refuse_unclear(self.name, self.pairs())

    def guide(self, run: Run) -> Guide:
        if not self.edits:
            raise ParameterError(
                f"{self.name}: no edits; say what is to be changed: edits=('a rose > a blue rose',)"
                ", --plugin 'time:edits=a rose > a blue rose'"
            )
        return _Guide(self)

    def pairs(self) -> list[tuple[str, str]]:
        """What is said and what is meant."""
        pairs = [(a.strip(), b.strip()) for a, _, b in (edit.partition(">") for edit in self.edits)]
        starts = ("", *STARTS) if self.augmented else ("",)
        return [(start + said, start + meant) for said, meant in pairs for start in starts]


class _Guide(Guide):
    def __init__(self, plugin: Time) -> None:
        self.plugin, self.off = plugin, plugin.stop == 0
        self.factor: Tensor | None = None

    def embed(self, step: Step, text: Text) -> Text:
        if step.progress >= self.plugin.stop:
            return text
        if self.factor is None:
            self.factor = self._factor(text).to(text.cond.device, torch.float32)
        uncond = None if text.uncond is None else self._edited(text.uncond)
        return text.replace(cond=self._edited(text.cond), uncond=uncond)

    def _edited(self, embeds: Float[Tensor, "b tokens c"]) -> Float[Tensor, "b tokens c"]:
        assert self.factor is not None
        return embeds + (embeds.float() @ self.factor.T).to(embeds)

    def _factor(self, text: Text) -> Float[Tensor, "c c"]:
        """(D - C)^T (lambda 1 + C C^T)^-1 C, in double precision, for columns are much alike."""
        require_verbatim(text, self.plugin.name)
        texts = [one for pair in self.plugin.pairs() for one in pair]
        embeds, (track, *_) = text.encode(texts).double().cpu(), text.tracks(texts)
        said, meant = embeds[::2], embeds[1::2]
        pairs = zip(track.images[::2], track.images[1::2], strict=True)
        columns = [aligned(one, other, embeds.shape[1]) for one, other in pairs]
        meant = torch.stack([one[places] for one, places in zip(meant, columns, strict=True)])
        rows, moved = said.flatten(0, 1), (meant - said).flatten(0, 1)
        inner = rows @ rows.T + self.plugin.keep * torch.eye(len(rows)).double()
        factor: Tensor = moved.T @ torch.linalg.solve(inner, rows)
        return factor

    def report(self) -> dict[str, Any]:
        return {"edits": dict(self.plugin.pairs())}
