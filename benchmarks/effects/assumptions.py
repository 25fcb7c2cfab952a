"""What TIME does to a toybox's assumptions, by its paper's three questions.

    python -m benchmarks.effects.assumptions [--model FOLDER] [--noises 8]

A kind whose colour is not named has its usual one (`TYPICAL`). Each kind is edited to a colour that
is not usual for it, and pictures are drawn with and without the edit, from the same noises:

    efficacy      the edited text itself, "an apple": is the apple of the edit's colour?
    generality    other texts with the thing, "a big apple", "an apple and a clock": the same
    specificity   texts that name another colour, "a yellow apple", or another thing, "a cat":
                  is that colour, or that thing, there as often as without the edit?

    there         in the pictures of all of these but the last: is the thing there at all?

Shares of the pictures that show the thing, and what each edit changes in pictures of the same noise
that show it with and without, at several weights of keeping other texts as they are. A kind is one
witness. Prompts, edits and noises are not the effect study's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adhere.pipelines.toybox import load_toybox
from adhere.pipelines.toybox.judge.judge import Judge
from adhere.pipelines.toybox.world.captions import article
from adhere.pipelines.toybox.world.faults import TYPICAL
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS
from adhere.plugins.edit.time import Time
from benchmarks import record
from benchmarks.effects.paired import told
from benchmarks.effects.pictures import Drawing, in_steps
from benchmarks.effects.witnesses import Row, heard, whole

KEEPS = (0.1, 3.0, 30.0, 300.0)
SEED = 5_000_000
"""Of the noises."""


def unusual(kind: str) -> tuple[str, str]:
    """A colour to edit a kind to, and another one to name; neither is usual for it."""
    free = [colour for colour in COLOURS if colour not in TYPICAL[kind]]
    return free[KINDS.index(kind) % len(free)], free[(KINDS.index(kind) + 2) % len(free)]


def a(words: str) -> str:
    return f"{article(words)} {words}"


def asked(kind: str) -> dict[str, list[tuple[str, str, str | None]]]:
    """Prompts of each question, with the kind that is looked at and its colour (None for any)."""
    colour, named = unusual(kind)
    other = KINDS[(KINDS.index(kind) + 5) % len(KINDS)]
    return {
        "efficacy": [(a(kind), kind, colour)],
        "generality": [
            (a(f"big {kind}"), kind, colour),
            (f"{a(kind)} and {a(other)}", kind, colour),
        ],
        "specificity, another colour": [(a(f"{named} {kind}"), kind, named)],
        "specificity, another thing": [(a(other), other, None)],
    }


def hits(verdicts: Sequence[Any], kind: str, colour: str | None) -> list[float | None]:
    """Of each picture 1 or 0: is the kind there in the colour? None where the kind is not there at
    all. Where no colour is asked: is the kind there?
    """
    shown = [[thing.colour for thing in each.things if thing.kind == kind] for each in verdicts]
    if colour is None:
        return [float(bool(colours)) for colours in shown]
    return [float(colour in colours) if colours else None for colours in shown]


def answers(draw: Drawing, kind: str, noises: int) -> Iterator[Row]:
    """Of each question a kind's scores, without the edit and at each weight."""
    judge, seeds = Judge.load(), [SEED + noise for noise in range(noises)]
    edit = f"{a(kind)} > {a(f'{unusual(kind)[0]} {kind}')}"
    edits = {f"keep={keep:g}": Time((edit,), keep=keep) for keep in KEEPS}
    asks = [(name, *one) for name, prompts in asked(kind).items() for one in prompts]
    for number, (question, prompt, looked_at, colour) in enumerate(asks):
        for arm, plugin in {"plain": None, **edits}.items():
            verdicts, first = judge(draw(prompt, plugin, seeds)), number * noises
            for n, row in enumerate(hits(verdicts, looked_at, colour), first):
                yield question, arm, n, row
            if colour is not None:
                for n, row in enumerate(hits(verdicts, looked_at, None), first):
                    yield "the thing is there", arm, n, row


def main() -> None:
    """Measure, print, and keep JSON; given again after a stop it goes on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a toybox's folder; the bundled one if left out")
    in_steps(parser)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--noises", type=int, default=8, help="pictures of each prompt")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "assumptions.json")
    given = parser.parse_args()
    pipe = load_toybox(folder=given.model)
    pipe.set_progress_bar_config(disable=True)
    draw = Drawing.of(pipe, given.steps)
    how = {**draw.how, "kinds": given.kinds, "noises": given.noises}
    # Rows depend on the model and on the noises; kinds that are added go on with those there are.
    rows_of = {**draw.how, "model": str(given.model), "noises": given.noises}
    witnesses = ((kind, partial(answers, draw, kind, given.noises)) for kind in given.kinds)
    *_, found = heard(given.out, rows_of, witnesses)
    record.write(given.out, how, {name: told(rows, "plain") for name, rows in found.items()})
    whole(given.out)


if __name__ == "__main__":
    main()
