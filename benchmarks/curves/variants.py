"""The variants that are compared, and a pipeline whose passes are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import adhere
from adhere.guides.guide import passes_of_preview
from adhere.pipelines.families import family_of
from adhere.pipelines.search.costs import Rows
from adhere.pipelines.search.plan import planned
from adhere.pipelines.search.search import APART, Search
from adhere.pipelines.toybox import TOYBOXES, check_folder, load_toybox, toybox_folder
from adhere.pipelines.toybox.model.folder import DEFAULTS, kind_of
from adhere.verifiers import verifier
from benchmarks import record

PICTURES = record.ROOT / "docs" / "pictures"
ALWAYS, PLACED = "attend-and-excite+syngen", "paint-with-words+zestguide+syngen"
DROPPING = "early dropping, for 4"
ENDED = {by: f"ended by {by}, for 4" for by in ("verifier", "attention", "both")}
ENDED_LONG = "ended by both, for 8"
PAIRS, CAPTIONS = "pairs", "captions"
VERIFIER = "clip-score"
ENOUGH, CONTENT = 0.82, 0.66


@dataclass(frozen=True)
class Toybox:
    """A model and how it draws."""

    name: str
    folder: Path
    steps: int
    scale: float

    @classmethod
    def of(cls, model: str) -> Toybox:
        """By its name, or a folder."""
        folder = toybox_folder(model) if model in TOYBOXES else Path(model).resolve()
        if wrong := check_folder(folder):
            raise SystemExit("; ".join(wrong))
        usual = DEFAULTS[kind_of(folder)]
        return cls(folder.name, folder, usual.steps, usual.guidance_scale)

    @property
    def plain(self) -> int:
        """Passes of a plain picture: with the prompt, and without."""
        return 2 * self.steps

    def results(self, runs: Path) -> tuple[Path, Path]:
        """Where table and figure are kept: with the rows, unless the model comes with adhere."""
        if self.folder != toybox_folder("toybox").with_name(self.name):
            return runs / "search_curves.json", runs / "search-curves.svg"
        of = self.name.removeprefix("toybox")
        table = record.RESULTS / f"search_curves{of.replace('-', '_')}.json"
        return table, PICTURES / f"search-curves{of}.svg"


@dataclass(frozen=True)
class Kept:
    """One picture that was kept, and the passes of all that was made, where its maker counts."""

    image: Image.Image
    passes: int | None = None


Make = Callable[["Counted", str, int], Kept]


class Counted:
    """A pipeline whose passes are counted."""

    def __init__(self, toybox: Toybox, device: str = "cpu") -> None:
        self.toybox = toybox
        self.pipe = load_toybox(folder=toybox.folder).to(device)
        self.pipe.set_progress_bar_config(disable=True)
        self._prompt = ""
        self._kept: dict[tuple[int, tuple[Any, ...]], tuple[Image.Image, int]] = {}
        self._again = 0

    def __call__(
        self, prompt: str, seeds: Sequence[int], *plugins: Any, each: bool = True
    ) -> list[Image.Image]:
        """Pictures of some seeds: calls' prompts, or (`each` false) one prompt's pictures."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        asked = {"prompt": [prompt] * len(seeds)} if each else {
            "prompt": prompt, "num_images_per_prompt": len(seeds)
        }  # fmt: skip
        placed = any(hasattr(one, "layout") for one in plugins)
        layout = [adhere.composed(prompt)] * len(seeds) if placed else None
        with adhere.Guidance(*plugins).attach(self.pipe, layout=layout):
            images: list[Image.Image] = self.pipe(
                **asked, generator=generators, **self.usual
            ).images
        return images

    @property
    def usual(self) -> dict[str, Any]:
        """Arguments of every call."""
        return {
            "num_inference_steps": self.toybox.steps,
            "guidance_scale": self.toybox.scale,
        }

    def alone(self, prompt: str, seeds: Sequence[int], *plugins: Any) -> list[Image.Image]:
        """Pictures of some seeds. One that another variant has had made for the same prompt is not
        made again, but paid for all the same.
        """
        if self._prompt != prompt:
            self._prompt, self._kept = prompt, {}
        missing = [seed for seed in seeds if (seed, plugins) not in self._kept]
        self._again = sum(self._kept[seed, plugins][1] for seed in seeds if seed not in missing)
        if missing:
            with Rows(family_of(self.pipe)) as made:
                images = self(prompt, missing, *plugins)
            for seed, image in zip(missing, images, strict=True):
                self._kept[seed, plugins] = (image, made.rows // len(missing))
        return [self._kept[seed, plugins][0] for seed in seeds]

    def counted(self, make: Make, prompt: str, seed: int) -> tuple[Image.Image, int]:
        """A picture, and the denoiser's passes for all that was made."""
        self._again = 0
        with Rows(family_of(self.pipe)) as counted:
            kept = make(self, prompt, seed)
        made = counted.rows + self._again
        return kept.image, made if kept.passes is None else kept.passes


def liked_best(images: Sequence[Image.Image], prompt: str) -> Image.Image:
    scores = list(verifier(VERIFIER)(images, [prompt] * len(images)))
    return images[scores.index(max(scores))]


def best_of(count: int, *plugins: Any) -> Make:
    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        seeds = [seed + k * APART for k in range(count)]
        return Kept(liked_best(pipe.alone(prompt, seeds, *plugins), prompt))

    return make


def foreseen(count: int, *plugins: Any) -> Make:
    look = adhere.BestOfN(VERIFIER, count, together=count)

    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        return Kept(pipe(prompt, [seed], look, *plugins)[0])

    return make


def foreseen_for(pictures: int) -> Make:
    """As many candidates as the passes of some pictures pay, beside the one that is finished."""

    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        look = passes_of_preview(adhere.BestOfN().look_at)
        return foreseen((pictures - 1) * pipe.toybox.plain // look)(pipe, prompt, seed)

    return make


def ended_for(pictures: int, by: str) -> Make:
    """A search at the passes of some pictures: all candidates but the one that promises most are
    ended at their look.
    """

    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        steps, at = pipe.toybox.steps, Search().look_at
        look = 2 * (round(at * steps) + 1)
        count = (pictures - 1) * pipe.toybox.plain // look
        given = {"n": count, "finish": 1, "drop_by": by, "together": count, "seed": seed}
        found = adhere.search(pipe.pipe, prompt, verifier=VERIFIER, **given, **pipe.usual)
        return Kept(found.pictures[0])

    return make


def steered(count: int, *plugins: Any) -> Make:
    steering = adhere.FkSteering(VERIFIER, strength=20.0)

    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        seeds = [seed + k * APART for k in range(count)]
        return Kept(liked_best(pipe(prompt, seeds, steering, *plugins, each=False), prompt))

    return make


def flown(judged: str, enough: float, **settings: float) -> Make:
    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        plan = planned(prompt, verifier=judged, enough=enough, **settings)
        flight = adhere.autopilot(pipe.pipe, plan, seed=seed, **pipe.usual)
        return Kept(flight.picture, round(flight.cost * pipe.toybox.plain))

    return make


_THRIFTY = flown(VERIFIER, CONTENT, budget=5 / 3)
VARIANTS: dict[str, dict[str, Make]] = {
    PAIRS: {
        "best of 8": best_of(8),  # first: those below choose among its pictures
        "best of 4": best_of(4),
        "best of 2": best_of(2),
        "plain": best_of(1),
        "early dropping, 8": foreseen(8),
        DROPPING: foreseen_for(4),
        **{name: ended_for(4, by) for by, name in ENDED.items()},
        ENDED_LONG: ended_for(8, "both"),
        "steered, 4": steered(4),
        "attend-and-excite": best_of(1, adhere.AttendAndExcite()),
        "syngen": best_of(1, adhere.SynGen()),
        "syngen, early dropping, 8": foreseen(8, adhere.SynGen()),
        ALWAYS: best_of(1, adhere.AttendAndExcite(), adhere.SynGen()),
        "zestguide+syngen": best_of(1, adhere.ZestGuide(), adhere.SynGen()),
        PLACED: best_of(1, adhere.PaintWithWords(), adhere.ZestGuide(), adhere.SynGen()),
        "autopilot, thrifty": _THRIFTY,
        "autopilot": flown(VERIFIER, ENOUGH),
        "autopilot, by the judge": flown("judge", 1.0),
    },
    CAPTIONS: {
        "plain": best_of(1),
        "syngen": best_of(1, adhere.SynGen()),
        ALWAYS: best_of(1, adhere.AttendAndExcite(), adhere.SynGen()),
        "autopilot, thrifty": _THRIFTY,
    },
}
