"""What the helpers that `adhere train` makes for a toybox are worth: a steerer, a noise network.

    python -m benchmarks.effects.trained concept-steering golden-noise [--count 60]
    python -m benchmarks.effects.trained concept-steering --model toybox-sd3

concept-steering  "a red cat and a blue dog" without the dog: is it gone, and is the cat there?
                  "a red cat at a haunted castle" without the skull that nobody asked for. Held
                  against the plain picture, and beside a negative prompt that says the same.
golden-noise      two things in two colours, from the noise as it is, from where a network of
                  `--pairs` pairs moves it, and from x_T', which the network learns: the most that
                  any network could reach.

Both helpers are trained as the command does, on captions and noises of other seeds; colours are not
usual for their kinds, and nothing was tuned on the noises of the pictures.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch

from adhere.guides import stored
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools import autoencoder, golden_noise
from adhere.pipelines.tools.captions import captions
from adhere.pipelines.tools.inversion import Denoiser
from adhere.pipelines.toybox import Judge
from adhere.plugins.edit.concept_steering import ConceptSteering
from adhere.plugins.mathematics.autoencoder import AUTOENCODER
from adhere.plugins.mathematics.noise_library import noise_of
from adhere.plugins.noise.golden_noise import GoldenNoise
from benchmarks import record
from benchmarks.effects.edits import Look, a, looks
from benchmarks.effects.paired import told
from benchmarks.effects.pictures import Drawing, of_a_toybox
from benchmarks.effects.witnesses import Found, Row, Witness, heard, whole

SEED = 10_000_000
SKULL = "a skull"
STEERER = autoencoder.Plan(seed=SEED)
TEXTS = 4000
NETWORK_OF = golden_noise.Plan(steps=300, seed=SEED)
STRENGTHS = (0.2, 0.5, 1.0)


def steerer(studio: Studio, path: Path) -> str:
    """An autoencoder of the toybox's text encoder."""
    texts = captions(studio.model, TEXTS, SEED)
    states = autoencoder.states_of(studio.pipe, texts, STEERER, lambda _: None)
    found = autoencoder.learnt(studio.pipe, states, STEERER, None, lambda _: None)
    stored.write(path, AUTOENCODER, found.tensors, {**found.about, "model": studio.model})
    return str(path)


def removed(draw: Drawing, path: str, number: int, one: Look, other: Look) -> Iterator[Row]:
    """What is left of a concept, and of the rest of the picture, in both places."""
    judge = Judge.load()
    places = {
        "one of two things": (f"{a(one)} and {a(other)}", a(other)),
        "haunted": (f"{a(one)} at a haunted castle", SKULL),
    }
    for where, (prompt, concept) in places.items():
        arms: dict[str, tuple[Any, str]] = {"plain": (None, "")}
        for strength in STRENGTHS:
            steering = ConceptSteering(path, concept=concept, strength=strength)
            arms[f"strength {strength:g}"] = (steering, "")
        arms["negative prompt"] = (None, concept)
        for arm, (plugin, negative) in arms.items():
            (verdict,) = judge(draw(prompt, plugin, [SEED + number], negative))
            seen = {(thing.kind, thing.colour) for thing in verdict.things}
            is_there = verdict.unsafe if concept == SKULL else other in seen
            yield f"{where}: the concept is seen", arm, 0, is_there
            yield f"{where}: the rest is there", arm, 0, one in seen


def network(studio: Studio, path: Path, pairs: int, steps: int) -> str:
    """A network of pairs that no verifier has chosen, which cost three passes each."""
    texts = captions(studio.model, pairs, SEED)
    collector = golden_noise.Collector(studio, texts, None, path, steps=steps)
    for part in collector.missing():
        collector.make(part, lambda _: None)
    golden_noise.learnt(collector, NETWORK_OF, path, lambda _: None)
    return str(path)


def moved(draw: Drawing, path: str, number: int, one: Look, other: Look) -> Iterator[Row]:
    """Two things, begun at a noise, where the network moves it, and at what that has learnt."""
    prompt = f"{a(one)} and {a(other)}"
    pipe, seed = draw.pipe, [SEED + number]
    denoiser = Denoiser(pipe, ["", prompt], draw.steps)
    side = pipe.unet.config.sample_size
    noise = noise_of(*seed, (pipe.unet.config.in_channels, side, side))[None]
    with torch.no_grad():
        taught = golden_noise.redenoised(denoiser, noise, draw.scale)
    pictures = {
        "plain": draw(prompt, None, seed),
        "golden-noise": draw(prompt, GoldenNoise(path), seed),
        "what it learns": draw(prompt, None, seed, latents=taught),
    }
    verdicts = (Judge.load()(images)[0] for images in pictures.values())
    for arm, verdict in zip(pictures, verdicts, strict=True):
        seen = {(thing.kind, thing.colour) for thing in verdict.things}
        yield "fully right", arm, 0, verdict.against(prompt).fully_right
        yield "things as they were asked for", arm, 0, len(seen & {one, other}) / 2


def witnesses(name: str, draw: Drawing, path: str, count: int) -> Iterator[Witness]:
    """A study's prompts."""
    rng = Random(SEED)
    asks = removed if name == "concept-steering" else moved
    return ((f"{n}", partial(asks, draw, path, n, *looks(rng))) for n in range(count))


def results(found: Found) -> dict[str, Any]:
    """Shares with each arm, and what each changes; by place, where there are two."""
    said: dict[str, Any] = {}
    for question, rows in found.items():
        where, _, asked = question.rpartition(": ")
        (said.setdefault(where, {}) if where else said)[asked] = told(rows, "plain")
    return said


def studied(name: str, studio: Studio, draw: Drawing, out: Path, how: Mapping[str, Any]) -> None:
    """One study, with its helper beside the results until they are whole."""
    helper = out.with_suffix(".safetensors")
    if name == "concept-steering":
        path = steerer(studio, helper)
    else:
        path = network(studio, helper, how["pairs"], draw.steps)
    try:
        *_, found = heard(out, how, witnesses(name, draw, path, how["count"]))
    finally:
        helper.unlink()
    shutil.rmtree(helper.with_name(f"{helper.name}.parts"), ignore_errors=True)
    record.write(out, how, results(found))


STUDIES = ("concept-steering", "golden-noise")


def main() -> None:
    """Measure, and keep JSON, a file a study; given again after a stop it goes on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", choices=STUDIES)
    of_a_toybox(parser)
    parser.add_argument("--count", type=int, default=60, help="prompts")
    parser.add_argument("--pairs", type=int, default=320, help="what golden-noise learns from")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="a folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    studio = Studio(given.model, "cpu")
    draw = Drawing.of(studio.pipe, given.steps)
    outs = {name: record.named(given.out, name, given.model) for name in given.studies}
    for name, out in outs.items():
        how = {**draw.how, "count": given.count}
        how |= {"pairs": given.pairs} if name == "golden-noise" else {"texts": TEXTS}
        studied(name, studio, draw, out, how)
    for out in outs.values():  # whoever was stopped in the last one goes on there
        whole(out)


if __name__ == "__main__":
    main()
