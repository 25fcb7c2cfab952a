"""What noise-query, p-plus and scaling-concept do to a toybox's pictures, by its judge.

    python -m benchmarks.effects.edits noise-query p-plus scaling-concept [--count 60]

noise-query      pictures of one thing or two, begun at the seeds of a library that are highest and
                 lowest in each statistic: what is the statistic of the finished picture? And by the
                 prompt's own likeness: is everything there?
p-plus           "a cat" in the middle layers and "a purple car" in the others, and the other way
                 round, beside each text alone: whose kind is drawn, in whose colour?
scaling-concept  drawn pictures of two things, "a red cat" being the concept, at several scales: is
                 it still there, is the other thing, and how like the concept is the picture?

Colours are not usual for their kinds. Each arm is held against the first from the same noises or of
the same pictures, none of which anything was tuned on. A prompt, or a picture, is one witness.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from adhere import Guidance
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools.clip import Clip, clip_of
from adhere.pipelines.tools.inversion import Denoiser, decoded, encoded, inverted
from adhere.pipelines.tools.noise_library import Maker, Plan, Shard
from adhere.pipelines.tools.scaling_concept import CONCEPT, Scaling, scaled
from adhere.pipelines.tools.statistics import STATISTICS, statistics
from adhere.pipelines.toybox import Judge, render
from adhere.pipelines.toybox.world.captions import article
from adhere.pipelines.toybox.world.faults import TYPICAL
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS
from adhere.pipelines.toybox.world.world import Scene, Thing, place
from adhere.plugins.edit.p_plus import PPlus
from adhere.plugins.noise.noise_query import NoiseQuery
from benchmarks import record
from benchmarks.effects.paired import told

SEED = 8_000_000
SCALE, STEPS = 4.0, 25
SCALES: Mapping[str, Scaling] = {
    "drawn again": Scaling("-", scale=1, steps=STEPS, decay=0, keep=0),
    "scale 0": Scaling("-", scale=0, steps=STEPS),
    "scale 1.5": Scaling("-", scale=1.5, steps=STEPS),
    "scale 3": Scaling("-", scale=3, steps=STEPS),
}

Look = tuple[str, str]
"""A kind and its colour."""
Found = dict[str, dict[str, dict[tuple[str, int], float]]]
"""Of each question, each arm's scores by prompt and noise."""


def a(look: Look) -> str:
    words = " ".join(reversed(look)).strip()
    return f"{article(words)} {words}"


def looks(rng: Random) -> tuple[Look, Look]:
    """Two kinds in two colours, which are not usual for either of them."""
    one, other = rng.sample(KINDS, 2)
    free = [colour for colour in COLOURS if colour not in {*TYPICAL[one], *TYPICAL[other]}]
    first, second = rng.sample(free, 2)
    return (one, first), (other, second)


def score(found: Found, arm: str, key: tuple[str, int], scores: Mapping[str, float]) -> None:
    for question, value in scores.items():
        found.setdefault(question, {}).setdefault(arm, {})[key] = float(value)


def drawn(pipe: Any, prompt: str, plugin: Any, seeds: Sequence[int]) -> list[Image.Image]:
    """One picture from each seed's noise."""
    generators = [torch.Generator().manual_seed(SEED + seed) for seed in seeds]
    with nullcontext() if plugin is None else Guidance(plugin).attach(pipe):
        images: list[Image.Image] = pipe(
            [prompt] * len(seeds),
            num_inference_steps=STEPS,
            guidance_scale=SCALE,
            generator=generators,
        ).images
    return images


def shown(images: Sequence[Image.Image]) -> Iterator[set[Look]]:
    """What the judge sees in some pictures."""
    for verdict in Judge.load()(list(images)):
        yield {(thing.kind, thing.colour) for thing in verdict.things}


def library(studio: Studio, clip: Clip | None, size: int, path: Path) -> str:
    """A noise library of the toybox."""
    maker = Maker(studio, clip, Plan(size), path, batch=16)
    for seeds in maker.missing(Shard()):
        maker.make(seeds, lambda _: None)
    maker.finish()
    return str(path)


def noise_query(
    pipe: Any, path: str, names: Sequence[str], count: int, noises: int
) -> Iterator[dict[str, Any]]:
    """Statistics at their highest and lowest, and what suits the prompt."""
    rng, found = Random(SEED), Found()
    for number in range(count):
        one, other = looks(rng)
        prompt = a(one) if number % 2 else f"{a(one)} and {a(other)}"
        wanted = {one} if number % 2 else {one, other}
        seeds = [number * noises + noise for noise in range(noises)]
        plain = drawn(pipe, prompt, None, seeds)
        values = statistics(plain)
        for name in names:
            column = list(STATISTICS).index(name)
            for arm, level in (("highest", 1.0), ("lowest", 0.0)):
                plugin = NoiseQuery(path, target=name, level=level)
                there = statistics(drawn(pipe, prompt, plugin, seeds))
                for noise in range(noises):
                    key = f"{number}", noise
                    score(found, arm, key, {name: float(there[noise, column])})
                    score(found, "plain", key, {name: float(values[noise, column])})
        suited = drawn(pipe, prompt, NoiseQuery(path), seeds)
        for arm, images in (("plain", plain), ("by prompt", suited)):
            for noise, seen in enumerate(shown(images)):
                score(found, arm, (f"{number}", noise), {"all there": wanted <= seen})
        whole = {name: told(_plain_first(found[name]), "plain", share=False) for name in names}
        yield whole | {"all there": told(found["all there"], "plain")}


def _plain_first(rows: dict[str, Any]) -> dict[str, Any]:
    return {"plain": rows["plain"], **rows}


def p_plus(pipe: Any, count: int, noises: int) -> Iterator[dict[str, Any]]:
    """One text's shape in another's colours."""
    rng, found = Random(SEED + 1), Found()
    for number in range(count):
        (kind, _), style = looks(rng)
        shape, look = a((kind, "")), a(style)
        arms = {
            "the shape's text": (shape, None),
            "the style's text": (look, None),
            "shape in the middle": (shape, PPlus((look,))),
            "style in the middle": (look, PPlus((shape,))),
        }
        seeds = [number * noises + noise for noise in range(noises)]
        for arm, (prompt, plugin) in arms.items():
            for noise, seen in enumerate(shown(drawn(pipe, prompt, plugin, seeds))):
                kinds, colours = {one for one, _ in seen}, {colour for _, colour in seen}
                score(
                    found,
                    arm,
                    (f"{number}", noise),
                    {
                        "the shape's kind": kind in kinds,
                        "the style's colour": style[1] in colours,
                        "the style's kind": style[0] in kinds,
                        "mixed: that kind in that colour": (kind, style[1]) in seen,
                    },
                )
        yield {question: told(rows, "the shape's text") for question, rows in found.items()}


def scene(one: Look, other: Look, rng: Random) -> Scene:
    """Two things on a plain background."""
    things = [Thing(kind, colour, "small", 0, 0) for kind, colour in (one, other)]
    places = place(rng, [thing.side for thing in things])
    put = [replace(thing, x=x, y=y) for thing, (x, y) in zip(things, places, strict=True)]
    return Scene(tuple(put), shade=rng.randrange(2))


@torch.no_grad()
def scaling_concept(pipe: Any, clip: Clip, count: int) -> Iterator[dict[str, Any]]:
    """One of two things removed, suppressed and enhanced."""
    rng, found = Random(SEED + 2), Found()
    for number in range(count):
        one, other = looks(rng)
        denoiser = Denoiser(pipe, [a(one), ""], STEPS)
        start = encoded(pipe, render(scene(one, other, rng)))
        path = inverted(denoiser, start, CONCEPT, Scaling("-").iterations, _unheard)
        for arm, how in SCALES.items():
            image = decoded(pipe, scaled(denoiser, path, how, _unheard))
            (seen,) = shown([image])
            alike = float(clip.pictures([image])[0] @ clip.texts([a(one)])[0])
            scores = {
                "the concept is seen": one in seen,
                "the other thing is seen": other in seen,
                "only the other thing is seen": other in seen and one not in seen,
                "likeness to the concept": alike,
            }
            score(found, arm, (f"{number}", 0), scores)
        yield {
            question: told(rows, "drawn again", share=question != "likeness to the concept")
            for question, rows in found.items()
        }


def _unheard(amount: float) -> None:
    pass


STUDIES = ("noise-query", "p-plus", "scaling-concept")


def studied(name: str, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One study's results, after each prompt or picture those of all so far."""
    studio, clip = Studio("toybox", "cpu"), clip_of("toybox", None)
    assert clip is not None
    if name == "p-plus":
        yield from p_plus(studio.pipe, given.count, given.noises)
        return
    if name == "scaling-concept":
        yield from scaling_concept(studio.pipe, clip, given.count)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = library(studio, clip, given.library, Path(folder) / "library.safetensors")
        yield from noise_query(studio.pipe, path, given.statistics, given.count, given.noises)


def main() -> None:
    """Measure, print, and keep JSON, a file a study, which has what is done if it is cut short."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", choices=STUDIES)
    parser.add_argument("--count", type=int, default=60, help="prompts, or pictures, of each")
    parser.add_argument("--noises", type=int, default=1, help="pictures of each prompt")
    parser.add_argument("--library", type=int, default=256, help="seeds of the noise library")
    parser.add_argument("--statistics", nargs="+", choices=STATISTICS, default=list(STATISTICS))
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="a folder")
    given = parser.parse_args()
    how = {
        "device": "cpu",
        "count": given.count,
        "noises": given.noises,
        "library": given.library,
        "steps": STEPS,
        "guidance_scale": SCALE,
    }
    for name in given.studies:
        for done, results in enumerate(studied(name, given), 1):
            record.write(given.out / f"{name}.json", how | {"count": done}, results)


if __name__ == "__main__":
    main()
