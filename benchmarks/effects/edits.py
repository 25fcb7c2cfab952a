"""What noise-query, p-plus and scaling-concept do to a toybox's pictures, by its judge.

    python -m benchmarks.effects.edits noise-query p-plus scaling-concept [--count 60]
    python -m benchmarks.effects.edits noise-query --model toybox-sd3

noise-query      pictures of one thing or two, begun at the seeds of a library that are highest and
                 lowest in each statistic: what is the statistic of the finished picture? And by the
                 prompt's own likeness: is everything there?
p-plus           "a cat" in the middle layers and "a purple car" in the others, and the other way
                 round, and the car in the last layer alone, beside each text alone: whose kind is
                 drawn, in whose colour?
scaling-concept  drawn pictures of two things, "a red cat" being the concept, at several scales: is
                 it still there, is the other thing, and how like the concept is the picture?

Colours are not usual for their kinds. Each arm is held against the first from the same noises or of
the same pictures, none of which anything was tuned on. A prompt, or a picture, is one witness.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

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
from benchmarks.effects.pictures import Drawing, of_a_toybox
from benchmarks.effects.witnesses import Row, Witness, heard, whole

SEED = 8_000_000
SCALES: Mapping[str, Scaling] = {
    "drawn again": Scaling("-", scale=1, decay=0, keep=0),
    "scale 0": Scaling("-", scale=0),
    "scale 1.5": Scaling("-", scale=1.5),
    "scale 3": Scaling("-", scale=3),
}

LAST = 6
"""The last of the UNet toybox's layers that read a text: other seeds' choice of where the colour is
decided."""
ALIKE = "likeness to the concept"
"""The only question of its study whose answer is no share."""

Look = tuple[str, str]
"""A kind and its colour."""


def a(look: Look) -> str:
    words = " ".join(reversed(look)).strip()
    return f"{article(words)} {words}"


def looks(rng: Random) -> tuple[Look, Look]:
    """Two kinds in two colours, which are not usual for either of them."""
    one, other = rng.sample(KINDS, 2)
    free = [colour for colour in COLOURS if colour not in {*TYPICAL[one], *TYPICAL[other]}]
    first, second = rng.sample(free, 2)
    return (one, first), (other, second)


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
    draw: Drawing, path: str, names: Sequence[str], count: int, noises: int
) -> Iterator[Witness]:
    """Statistics at their highest and lowest, and what suits the prompt."""
    rng = Random(SEED)

    def asked(number: int, one: Look, other: Look) -> Iterator[Row]:
        prompt = a(one) if number % 2 else f"{a(one)} and {a(other)}"
        wanted = {one} if number % 2 else {one, other}
        seeds = [SEED + number * noises + noise for noise in range(noises)]
        plain = draw(prompt, None, seeds)
        values = statistics(plain)
        for name in names:
            column = list(STATISTICS).index(name)
            for noise in range(noises):
                yield name, "plain", noise, float(values[noise, column])
            for arm, level in (("highest", 1.0), ("lowest", 0.0)):
                plugin = NoiseQuery(path, target=name, level=level)
                there = statistics(draw(prompt, plugin, seeds))
                for noise in range(noises):
                    yield name, arm, noise, float(there[noise, column])
        suited = draw(prompt, NoiseQuery(path), seeds)
        for arm, images in (("plain", plain), ("by prompt", suited)):
            for noise, seen in enumerate(shown(images)):
                yield "all there", arm, noise, wanted <= seen

    return ((f"{n}", partial(asked, n, *looks(rng))) for n in range(count))


def p_plus(draw: Drawing, count: int, noises: int) -> Iterator[Witness]:
    """One text's shape in another's colours."""
    rng = Random(SEED + 1)

    def asked(number: int, one: Look, style: Look) -> Iterator[Row]:
        kind = one[0]
        shape, look = a((kind, "")), a(style)
        arms = {
            "the shape's text": (shape, None),
            "the style's text": (look, None),
            "shape in the middle": (shape, PPlus((look,))),
            "style in the middle": (look, PPlus((shape,))),
            "style in the last layer": (shape, PPlus((f"{LAST}-{LAST}={look}",))),
        }
        seeds = [SEED + number * noises + noise for noise in range(noises)]
        for arm, (prompt, plugin) in arms.items():
            for noise, seen in enumerate(shown(draw(prompt, plugin, seeds))):
                kinds, colours = {one for one, _ in seen}, {colour for _, colour in seen}
                yield "the shape's kind", arm, noise, kind in kinds
                yield "the style's colour", arm, noise, style[1] in colours
                yield "the style's kind", arm, noise, style[0] in kinds
                yield "mixed: that kind in that colour", arm, noise, (kind, style[1]) in seen

    return ((f"{n}", partial(asked, n, *looks(rng))) for n in range(count))


def scene(one: Look, other: Look, rng: Random) -> Scene:
    """Two things on a plain background."""
    things = [Thing(kind, colour, "small", 0, 0) for kind, colour in (one, other)]
    places = place(rng, [thing.side for thing in things])
    put = [replace(thing, x=x, y=y) for thing, (x, y) in zip(things, places, strict=True)]
    return Scene(tuple(put), shade=rng.randrange(2))


def scaling_concept(draw: Drawing, clip: Clip, count: int) -> Iterator[Witness]:
    """One of two things removed, suppressed and enhanced."""
    rng = Random(SEED + 2)

    @torch.no_grad()
    def asked(one: Look, other: Look, first: Scene) -> list[Row]:
        denoiser = Denoiser(draw.pipe, [a(one), ""], draw.steps)
        start = encoded(draw.pipe, render(first))
        path = inverted(denoiser, start, CONCEPT, Scaling("-").iterations, _unheard)
        rows: list[Row] = []
        for arm, how in SCALES.items():
            how = replace(how, steps=draw.steps)
            image = decoded(draw.pipe, scaled(denoiser, path, how, _unheard))
            (seen,) = shown([image])
            rows += [
                ("the concept is seen", arm, 0, one in seen),
                ("the other thing is seen", arm, 0, other in seen),
                ("only the other thing is seen", arm, 0, other in seen and one not in seen),
                (ALIKE, arm, 0, float(clip.pictures([image])[0] @ clip.texts([a(one)])[0])),
            ]
        return rows

    for number in range(count):
        one, other = looks(rng)
        yield f"{number}", partial(asked, one, other, scene(one, other, rng))


def _unheard(amount: float) -> None:
    pass


BASELINES = {
    "noise-query": "plain",
    "p-plus": "the shape's text",
    "scaling-concept": "drawn again",
}
"""Of each study, the arm that the others are held against."""
STUDIES = tuple(BASELINES)


def studied(name: str, out: Path, how: Mapping[str, Any], given: argparse.Namespace) -> None:
    """One study; what its witnesses have said is kept after each of them."""
    studio, clip = Studio(given.model, "cpu"), clip_of(given.model, None)
    draw = Drawing.of(studio.pipe, given.steps)
    assert clip is not None
    with tempfile.TemporaryDirectory() as folder:
        if name == "p-plus":
            witnesses = p_plus(draw, given.count, given.noises)
        elif name == "scaling-concept":
            witnesses = scaling_concept(draw, clip, given.count)
        else:
            path = library(studio, clip, given.library, Path(folder) / "library.safetensors")
            witnesses = noise_query(draw, path, given.statistics, given.count, given.noises)
        how = {**draw.how, **how}
        for done, found in enumerate(heard(out, how, witnesses), 1):
            results = {
                question: told(rows, BASELINES[name], share=question not in {ALIKE, *STATISTICS})
                for question, rows in found.items()
            }
            record.write(out, how | {"count": done}, results)


def main() -> None:
    """Measure, print, and keep JSON, a file a study, which has what is done if it is cut short;
    given again it goes on.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", choices=STUDIES)
    of_a_toybox(parser)
    parser.add_argument("--count", type=int, default=60, help="prompts, or pictures, of each")
    parser.add_argument("--noises", type=int, default=1, help="pictures of each prompt")
    parser.add_argument("--library", type=int, default=256, help="seeds of the noise library")
    parser.add_argument("--statistics", nargs="+", choices=STATISTICS, default=list(STATISTICS))
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="a folder")
    given = parser.parse_args()
    how = {"count": given.count, "noises": given.noises, "library": given.library}
    outs = {name: record.named(given.out, name, given.model) for name in given.studies}
    for name, out in outs.items():
        of_it = {"statistics": given.statistics} if name == "noise-query" else {}
        studied(name, out, {**how, **of_it}, given)
    for out in outs.values():  # whoever was stopped in the last one goes on there
        whole(out)


if __name__ == "__main__":
    main()
