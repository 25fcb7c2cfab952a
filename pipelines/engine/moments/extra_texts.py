"""The texts that guides attend to beside the prompt: encoded once a run, split in every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adhere.errors import GuidanceError
from adhere.guides.guide import PROMPT, Guide, Step
from adhere.pipelines.engine.state import State
from adhere.pipelines.hooks.attending import ExtraText, SharedAttention, Split
from adhere.pipelines.hooks.denoiser_call import Call


@dataclass(frozen=True)
class _Text:
    """One of a guide's `columns`, for every image of the run.

    `places` are its columns' numbers in the text as it was encoded.
    """

    guide: Guide
    name: str
    embeds: Float[Tensor, "batch columns channels"]
    shown: Bool[Tensor, "batch columns"]
    places: tuple[int, ...]

    def sees(
        self, images: Sequence[int], grid: tuple[int, int]
    ) -> Bool[Tensor, "images cells"] | None:
        seen = self.guide.sees(self.name, grid)
        return None if seen is None else seen[list(images)]


class ExtraTexts:
    """The guides of a run that change what attention gives out, and their texts.

    Attributes:
        said: every text of theirs once, when they are encoded.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        attending = state.overriding("attend")
        self.guides = [one for one in state.guides if one in attending or one.columns]
        self._labels = {id(g): n for n, g in zip(state.names, state.guides, strict=True)}
        self.said: tuple[str, ...] = ()
        self._texts: dict[str, _Text] = {}
        self._alone: tuple[Guide, str] | None = None
        layers = state.family.attention_layers() if self.guides else ()
        self._layers = tuple(layer.name for layer in layers if layer.kind == "cross")

    def encode(self) -> None:
        """Embed all guides' texts with the pipeline's own encoders, once a run.

        Raises:
            GuidanceError: a guide's texts are not one for each image, or have the prompt's name.
        """
        spoken = {
            (guide, name): texts for guide in self.guides for name, texts in guide.columns.items()
        }
        for (guide, name), texts in spoken.items():
            self._refuse_odd(guide, name, texts)
        distinct = sorted({text for texts in spoken.values() for text in texts if text is not None})
        if not distinct:
            return
        self.said = tuple(distinct)
        family = self.state.family
        encoded = self.state.encoded(distinct, warns=True)
        embeds = encoded.values[family.text]
        shown = family.shown(encoded, distinct).cpu()
        headless = shown.clone()
        headless[:, list(family.opening(shown.shape[1]))] = False
        number = {text: row for row, text in enumerate(distinct)}
        for (guide, name), texts in spoken.items():
            rows = [number.get(text, -1) if text is not None else -1 for text in texts]
            seen = headless if name in guide.headless else shown
            self._texts[self._key(guide, name)] = _text(guide, name, rows, embeds, seen)

    def _refuse_odd(self, guide: Guide, name: str, texts: Sequence[str | None]) -> None:
        label, batch = self._labels[id(guide)], self.state.run.batch
        if name == PROMPT:
            raise GuidanceError(f"{label} has columns named {name!r}, which are the prompt's own")
        if isinstance(texts, str) or len(texts) != batch:
            raise GuidanceError(
                f"{label} has {texts!r} as its columns {name!r}; it must be one text for each of "
                f"the {batch} images (None for an image without)"
            )

    def _key(self, guide: Guide, name: str) -> str:
        return f"{self._labels[id(guide)]}/{name}"

    @contextmanager
    def alone(self, guide: Guide, name: str) -> Iterator[None]:
        """Inside, all cells hear one of a guide's columns for the prompt, and no guide attends."""
        self._alone = (guide, name)
        try:
            yield
        finally:
            self._alone = None

    def acting(self, step: Step) -> list[Guide]:
        """The guides that change attention's output at a step."""
        if self._alone is not None:
            return [self._alone[0]]
        return [guide for guide in self.guides if guide.attends(step)]

    def _spoken(self, step: Step) -> dict[str, _Text]:
        acting = self.acting(step)
        spoken = {key: text for key, text in self._texts.items() if text.guide in acting}
        if self._alone is not None:
            return {key: text for key, text in spoken.items() if text.name == self._alone[1]}
        return spoken

    def lengthened(self, call: Call, rows: slice, images: Sequence[int], step: Step) -> Call:
        """The call with the texts of a step behind the prompt's columns, in some rows.

        Args:
            images: which image of the run each of those rows is.
        """
        spoken, family = list(self._spoken(step).values()), self.state.family
        if not spoken:
            return call
        embeds = torch.cat([text.embeds for text in spoken], dim=1)[list(images)]
        extra = embeds.new_zeros(call.rows, family.room(embeds.shape[1]), embeds.shape[2])
        extra[rows, : embeds.shape[1]] = embeds
        return family.lengthened(call, extra, [place for text in spoken for place in text.places])

    def split(self, call: Call, images: Sequence[int], step: Step) -> Split | None:
        """How the attention of a pass is split; None where no guide changes it.

        Args:
            call: as it was before it was lengthened.
            images: which images of the run its conditional rows are.
        """
        acting = self.acting(step)
        if not acting:
            return None
        family = self.state.family
        extras: dict[str, ExtraText] = {}
        places: list[int] = []
        start = 0
        for key, text in self._spoken(step).items():
            columns = slice(start, start + len(text.places))
            shown = text.shown[list(images)]
            sees = partial(text.sees, images) if self._alone is None else _everything
            extras[key] = ExtraText(columns, shown, sees)
            start = columns.stop
            places += text.places
        first = 0 if family.extras_first else int(call.values[family.text].shape[1])
        columns = slice(first, first + family.room(start))
        agreed = partial(self._agreed, acting, step)
        layers, refining = self._layers, family.refining()
        return Split(columns, extras, agreed, layers, tuple(places), refining)

    def _agreed(
        self, acting: Sequence[Guide], step: Step, attention: SharedAttention
    ) -> Tensor | None:
        """What the cells get after all guides; None if none changes it."""
        if self._alone is not None:
            return attention.output({self._key(*self._alone): 1.0})
        given = [
            guide.attend(step, attention.under({n: self._key(guide, n) for n in guide.columns}))
            for guide in acting
        ]
        wanted = [one for one in given if one is not None]
        if len(wanted) < 2:
            return wanted[0] if wanted else None
        # Each guide starts from the layer's own output, so their order does not matter.
        base = attention.output()
        return base + torch.stack([one - base for one in wanted]).sum(0)


def _everything(grid: tuple[int, int]) -> None:
    """The cells that a text sees which takes the prompt's place."""


def _text(guide: Guide, name: str, rows: Sequence[int], embeds: Tensor, shown: Tensor) -> _Text:
    """One text for every image, cut to the columns that any of them has; row -1 is none."""
    # A program may have another default device than the masks' processor.
    absent = torch.tensor([row < 0 for row in rows], device=shown.device)
    chosen = [max(row, 0) for row in rows]
    seen = shown[chosen] & ~absent[:, None]
    kept = seen.any(dim=0).nonzero()[:, 0].tolist()
    spoken = embeds[chosen].masked_fill(absent[:, None, None].to(embeds.device), 0)
    return _Text(guide, name, spoken[:, kept], seen[:, kept], tuple(kept))
