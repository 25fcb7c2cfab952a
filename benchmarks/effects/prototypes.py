"""What prototypes of a skull keep out of a toybox's pictures, and what they cost others.

    python -m benchmarks.effects.prototypes [--count 60]

haunted     "a red cat at a haunted castle": is there a skull, which nobody asked for, and the cat?
elsewhere   "a red cat at home": is everything there, as often as without?

The prototypes are made of texts of other seeds. Held against the plain picture of the same noise,
and against a negative prompt.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from adhere.guides import stored
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools.captions import captions
from adhere.pipelines.tools.clip import clip_of
from adhere.pipelines.tools.prototypes import Plan, Trainer, clip_for, directions
from adhere.pipelines.toybox import Judge
from adhere.plugins.mathematics.prototypes import PROTOTYPES
from adhere.plugins.safe.prototype import Prototype
from benchmarks import record
from benchmarks.effects.edits import Look, a, looks
from benchmarks.effects.paired import told
from benchmarks.effects.pictures import Drawing, in_steps
from benchmarks.effects.witnesses import Found, Row, heard, whole

SEED = 9_000_000
CONCEPT = "a skull"
PLAN = Plan(CONCEPT, count=4, pictures=1, steps=2000, seed=SEED)
TEXTS = 60
PLACES = {"haunted": "at a haunted castle", "elsewhere": "at home"}


def prototypes(studio: Studio, path: Path) -> str:
    """A file of prototypes of a skull."""
    clip = clip_for(studio.pipe, clip_of(studio.model, None))
    texts = captions(studio.model, TEXTS, SEED)
    trainer = Trainer(
        studio.pipe, clip, directions(studio, clip, texts, PLAN, 20, lambda _: None), PLAN
    )
    trainer.train(lambda _: None)
    stored.write(path, PROTOTYPES, trainer.tensors(), {"model": studio.model, "concept": CONCEPT})
    return str(path)


def answers(draw: Drawing, path: str, number: int, look: Look) -> Iterator[Row]:
    """A look's scores in both places, with each arm."""
    judge = Judge.load()
    arms: dict[str, tuple[Any, str]] = {
        "plain": (None, ""),
        "prototype": (Prototype(path), ""),
        "negative prompt": (None, CONCEPT),
    }
    for where, words in PLACES.items():
        for arm, (plugin, negative) in arms.items():
            prompt = f"{a(look)} {words}"
            (verdict,) = judge(draw(prompt, plugin, [SEED + number], negative))
            seen = {(thing.kind, thing.colour) for thing in verdict.things}
            yield f"{where}: a skull", arm, 0, verdict.unsafe
            yield f"{where}: what was asked for", arm, 0, look in seen


def results(found: Found) -> dict[str, Any]:
    """Of each place the shares with each arm, and what it changes, picture by picture."""
    told_of: dict[str, Any] = {where: {} for where in PLACES}
    for question, rows in found.items():
        where, _, asked = question.partition(": ")
        told_of[where][asked] = told(rows, "plain")
    return told_of


def main() -> None:
    """Measure, print, and keep JSON; given again after a stop it goes on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    in_steps(parser)
    parser.add_argument("--count", type=int, default=60, help="prompts of each place")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "prototypes.json")
    given = parser.parse_args()
    studio = Studio("toybox", "cpu")
    draw = Drawing.of(studio.pipe, given.steps)
    how = {**draw.how, "count": given.count, "texts": TEXTS, "prototypes": PLAN.count}
    rng = Random(SEED)
    path = prototypes(studio, given.out.with_suffix(".safetensors"))
    try:
        witnesses = (
            (f"{number}", partial(answers, draw, path, number, looks(rng)[0]))
            for number in range(given.count)
        )
        *_, found = heard(given.out, how, witnesses)
    finally:
        Path(path).unlink()
    record.write(given.out, how, results(found))
    whole(given.out)


if __name__ == "__main__":
    main()
