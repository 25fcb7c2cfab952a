"""Makes noise libraries: part by part, in any number of processes, each going on where it stopped.

A seed's picture is what the model draws from its noise when it is told nothing: the empty prompt
without classifier-free guidance (Wang et al., arXiv:2412.05101, sec. 3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Look
from adhere.guides.run import Run
from adhere.guides.stored import KIND, Stored, read, write
from adhere.pipelines.hooks.weights import fingerprint
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools.clip import Clip, own_texts, pooled_texts
from adhere.pipelines.tools.statistics import STATISTICS, statistics
from adhere.plugins.mathematics.noise_library import LIBRARY, MAKE, POOLED, noise_of

PART = 64
"""Seeds in a part: what is lost at the most when a process is killed."""
PART_KIND = f"part of a {LIBRARY}"
OF_SEEDS = ("seeds", "statistics", "features")
"""The tensors that have a row for each seed."""


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` of the work, counted from 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """From `i/n`.

        Raises:
            ParameterError: it does not read, or there is no such part.
        """
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        made = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= made.index <= made.count:
            raise ParameterError(
                f"--shard {text!r} is no part of the work; write i/n, for example 2/4 for the "
                "second of four processes"
            )
        return made


@dataclass(frozen=True)
class Plan:
    """What a library is to hold.

    Attributes:
        size: how many seeds, from 0.
        steps: of each picture; the model's own if None, as for `scheduler`, `width`, `height`.
    """

    size: int
    steps: int | None = None
    scheduler: str | None = None
    width: int | None = None
    height: int | None = None

    def parts(self) -> Iterator[range]:
        """The seeds of each part."""
        return (range(k, min(k + PART, self.size)) for k in range(0, self.size, PART))


@dataclass(frozen=True)
class _OfSeeds:
    """Starts each image of a batch from its seed's noise, in every family and precision alike."""

    name: ClassVar[str] = "of-seeds"
    seeds: tuple[int, ...]

    def guide(self, run: Run) -> Guide:
        return _Starting(self.seeds)


class _Starting(Guide):
    def __init__(self, seeds: tuple[int, ...]) -> None:
        self.seeds = seeds
        self.shape: tuple[int, ...] = ()

    def initial(self, noise: Tensor, look: Look) -> Tensor:
        self.shape = tuple(noise.shape[1:])
        return torch.stack([noise_of(seed, self.shape) for seed in self.seeds]).to(noise)

    def report(self) -> dict[str, Any]:
        return {"shape": self.shape}


class Maker:
    """Makes the parts of one library, and the library of the parts.

    Args:
        clip: in whose space pictures are told apart; None for statistics alone.
        out: the library; its parts lie in a folder beside it until it is whole.
    """

    def __init__(
        self, studio: Studio, clip: Clip | None, plan: Plan, out: Path, batch: int = 4
    ) -> None:
        self.studio, self.clip, self.plan, self.out, self.batch = studio, clip, plan, out, batch
        self.folder = out.with_name(f"{out.name}.parts")
        denoiser = getattr(studio.pipe, "unet", None) or studio.pipe.transformer
        self.about = {
            "model": studio.model,
            "weights": fingerprint(denoiser),
            "clip": clip.weights if clip else "",
            "steps": str(plan.steps or studio.steps),
            "scheduler": plan.scheduler or type(studio.pipe.scheduler).__name__,
            "pixels": f"{plan.width or 'own'}x{plan.height or 'own'}",
            "statistics": json.dumps(list(STATISTICS)),
        }

    def missing(self, shard: Shard) -> list[range]:
        """The parts of a shard that are still to be made.

        Raises:
            ParameterError: there are parts of another library under the same name.
        """
        mine = [
            seeds
            for number, seeds in enumerate(self.plan.parts())
            if number % shard.count == shard.index - 1
        ]
        return [seeds for seeds in mine if not self._made(seeds)]

    def make(self, seeds: range, tick: Callable[[float], None]) -> None:
        """One part, from its pictures to its file."""
        rows: list[dict[str, Tensor]] = []
        shape = ""
        for start in range(seeds.start, seeds.stop, self.batch):
            some = tuple(range(start, min(start + self.batch, seeds.stop)))
            images, shape = self._pictures(some)
            rows.append({"seeds": torch.tensor(some), "statistics": statistics(images)})
            if self.clip is not None:
                rows[-1]["features"] = self.clip.pictures(images).cpu()
            tick(len(some))
        tensors = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        write(self._path(seeds), PART_KIND, tensors, {**self.about, "latents": shape})

    def finish(self) -> bool:
        """Join the parts, if all are there, and take them away; whether the library is whole."""
        ranges = list(self.plan.parts())
        try:
            parts = [self._part(seeds) for seeds in ranges if self._made(seeds)]
        except ParameterError:
            if self.whole():  # another process has joined them in this moment
                return True
            raise
        if len(parts) < len(ranges):
            return self.whole()
        shapes = sorted({part.about["latents"] for part in parts})
        if len(shapes) > 1:
            raise ParameterError(
                f"the parts in {str(self.folder)!r} have latents of {' and '.join(shapes)}; take "
                "the folder away and make them again"
            )
        tensors = {
            name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors
        }
        words, about = self._words()
        write(self.out, LIBRARY, {**tensors, **words}, {**parts[0].about, **about})
        for seeds in ranges:
            self._path(seeds).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        return True

    def _words(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The way from the model's own text embeddings to the CLIP's space, if there is one, and
        which embeddings those are.
        """
        if self.clip is None:
            return {}, {}
        words = own_texts(self.studio.pipe, self.clip)
        if words is not None:
            return words, {}
        words = pooled_texts(self.studio.pipe, self.clip)
        return ({}, {}) if words is None else (words, {"texts": POOLED})

    def reworded(self) -> bool:
        """Give a library that is there what it lacks to compare texts, if there is a way; whether
        it was lacking. Those of earlier versions lack it for models of several text encoders.
        """
        held = self._library()
        if held is None or "projection" in held.tensors:
            return False
        words, about = self._words()
        if words:
            write(self.out, LIBRARY, {**held.tensors, **words}, {**held.about, **about})
        return bool(words)

    def whole(self) -> bool:
        """Whether the library is there already, made as planned, with as many seeds or more.

        Raises:
            ParameterError: another file has its name.
        """
        return self.seeds() >= self.plan.size

    def seeds(self) -> int:
        """How many seeds the library has that is there already, from 0 on.

        Raises:
            ParameterError: another file has its name.
        """
        found = self._library()
        return 0 if found is None else len(found.tensors["seeds"])

    def _library(self) -> Stored | None:
        if not self.out.exists():
            return None
        found = read(self.out, LIBRARY, MAKE, {"seeds": 1, "statistics": 2})
        self._check(found, self.out)
        seeds = found.tensors["seeds"]
        if not bool((seeds == torch.arange(len(seeds))).all()):
            raise ParameterError(
                f"{str(self.out)!r} is a noise library of other seeds than those from 0 on; give "
                "another --out"
            )
        return found

    def _pictures(self, seeds: tuple[int, ...]) -> tuple[list[Image.Image], str]:
        """Of each seed the unconditional picture; and the shape of its latents."""
        request = Request(
            "",
            plugins=(_OfSeeds(seeds),),
            steps=self.plan.steps,
            guidance_scale=None if self.studio.guidance_scale is None else 1.0,
            width=self.plan.width,
            height=self.plan.height,
            scheduler=self.plan.scheduler,
        )
        made = self.studio.generate([request.with_seed(seed) for seed in seeds])
        shape = made[0].report["plugins"][_OfSeeds.name]["shape"]
        return [picture.image for picture in made], "x".join(map(str, shape))

    def _path(self, seeds: range) -> Path:
        return self.folder / f"{seeds.start:07}-{seeds.stop - 1:07}.safetensors"

    def _made(self, seeds: range) -> bool:
        if self._path(seeds).is_file():
            return bool(self._read(seeds))
        return seeds.stop <= self.seeds()

    def _part(self, seeds: range) -> Stored:
        """A part from its file, or from a library of fewer seeds that is to grow."""
        held = None if self._path(seeds).is_file() else self._library()
        if held is None:
            return self._read(seeds)
        rows = {name: held.tensors[name] for name in OF_SEEDS if name in held.tensors}
        some = {name: tensor[seeds.start : seeds.stop] for name, tensor in rows.items()}
        return Stored(held.path, some, held.about)

    def _read(self, seeds: range) -> Stored:
        found = read(self._path(seeds), PART_KIND, MAKE)
        self._check(found, self.folder)
        return found

    def _check(self, found: Stored, where: Path) -> None:
        """Raise `ParameterError` for a file that was made otherwise."""
        for key, value in self.about.items():
            if found.about.get(key) != value:
                raise ParameterError(
                    f"{str(where)!r} has a {found.about.get(KIND)} with {key} "
                    f"{found.about.get(key)!r}, and this one is to have {value!r}; give another "
                    "--out, or take it away"
                )
