"""What was read of a picture, and the files that it is kept in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.guides.stored import put
from adhere.pipelines.explaining.information import Parts, parts
from adhere.pipelines.studio.drawing.heatmaps import overlay
from adhere.pipelines.studio.drawing.sheet import sheet
from adhere.pipelines.studio.output import write_image, write_json

NAME = "explanation"
"""Of the files, before their endings."""


@dataclass(frozen=True)
class Pair:
    """Two words, what each says of the picture, and what both say together, in nats a cell."""

    words: tuple[str, str]
    alone: tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]
    joint: Float[Tensor, "h w"]

    @cached_property
    def maps(self) -> Parts:
        """The parts in each cell."""
        return parts(*self.alone, self.joint)

    @cached_property
    def totals(self) -> Parts:
        """The parts of what they say of the whole picture: not the sums of the maps."""
        return parts(self.alone[0].sum(), self.alone[1].sum(), self.joint.sum())

    def named(self, found: Parts) -> dict[str, Tensor]:
        """The parts of `maps` or `totals` by name."""
        first, second = self.words
        return {
            "redundant": found.redundant,
            f"unique to {first}": found.unique[0],
            f"unique to {second}": found.unique[1],
            "synergistic": found.synergistic,
        }


@dataclass(frozen=True)
class Explanation:
    """What the words of a prompt are to its picture.

    Attributes:
        prompt: without markup.
        image: the picture.
        words: the phrases that were asked about, in the order of the prompt.
        information: what each word says of each cell, in nats.
        pairs: every two of the words.
        context: whether a word was heard beside the rest of the prompt, and not alone.
    """

    prompt: str
    image: Image.Image
    words: tuple[str, ...]
    information: Float[Tensor, "words h w"]
    pairs: tuple[Pair, ...]
    context: bool

    def pair(self, first: str, second: str) -> Pair:
        """The pair of two words, whichever comes first.

        Raises:
            KeyError: they were not asked about.
        """
        return next(one for one in self.pairs if set(one.words) == {first, second})

    def to_json(self) -> dict[str, Any]:
        """The numbers for the whole picture, in nats."""
        totals = self.information.sum(dim=(1, 2)).tolist()
        return {
            "prompt": self.prompt,
            "context": self.context,
            "information": dict(zip(self.words, totals, strict=True)),
            "pairs": [
                {
                    "words": list(pair.words),
                    **{name: float(value) for name, value in pair.named(pair.totals).items()},
                }
                for pair in self.pairs
            ],
        }

    def tensors(self) -> dict[str, Float[Tensor, "h w"]]:
        """All maps by name, as `explanation.safetensors` has them."""
        words = [f"information/{word}" for word in self.words]
        found = dict(zip(words, self.information, strict=True))
        for pair in self.pairs:
            both = " + ".join(pair.words)
            found |= {f"{both}/{name}": one for name, one in pair.named(pair.maps).items()}
        return found

    def overview(self) -> Image.Image:
        """A row a pair: the picture, what each word says, and the four parts."""
        rows, notes = [], []
        for pair in self.pairs:
            alone = {f"says {w}": one for w, one in zip(pair.words, pair.alone, strict=True)}
            maps = alone | pair.named(pair.maps)
            totals = {name: one.sum() for name, one in alone.items()} | pair.named(pair.totals)
            shown = [overlay(self.image, one.clamp_min(0)) for one in maps.values()]
            rows.append([self.image, *shown])
            notes.append(["", *(f"{name}: {float(one):.3g}" for name, one in totals.items())])
        columns = ["picture", "first", "second", "redundant", "unique 1", "unique 2", "synergistic"]
        titles = [" + ".join(pair.words) for pair in self.pairs]
        return sheet(rows, columns, titles, notes)

    def save(self, folder: Path | str) -> tuple[Path, Path, Path]:
        """Write overview, numbers and maps: the paths of `.png`, `.json` and `.safetensors`."""
        folder = Path(folder)
        picture, numbers, maps = (folder / f"{NAME}.{k}" for k in ("png", "json", "safetensors"))
        write_image(picture, self.overview())
        write_json(numbers, self.to_json())
        put(maps, self.tensors(), {})
        return picture, numbers, maps
