"""What TIME does to a toybox's assumptions, by its paper's three questions.

    python -m benchmarks.effects.assumptions [--model FOLDER] [--noises 20]

A kind whose colour is not named has its usual one (`TYPICAL`). Each kind is edited to a colour that
is not usual for it, and pictures are drawn with and without the edit, from the same noises:

    efficacy      the edited text itself, "an apple": is the apple of the edit's colour?
    generality    other texts with the thing, "a big apple", "an apple and a clock": the same
    specificity   texts that name another colour, "a yellow apple", or another thing, "a cat":
                  is that colour, or that thing, there as often as without the edit?

Shares with Wilson's intervals, of the pictures that show the thing, at several weights of keeping
other texts as they are. Kinds, colours and noises are not the effect study's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from adhere import Guidance
from adhere.pipelines.toybox import load_toybox
from adhere.pipelines.toybox.card.figures import Figure, share
from adhere.pipelines.toybox.card.suites import article
from adhere.pipelines.toybox.judge.judge import Judge
from adhere.pipelines.toybox.world.faults import TYPICAL
from adhere.pipelines.toybox.world.sprites import COLOURS, KINDS
from adhere.plugins.edit.time import Time
from benchmarks import record

KEEPS = (0.1, 3.0, 30.0, 300.0)
SEED = 5_000_000
"""Of the noises."""
SCALE, STEPS = 4.0, 25


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


def drawn(pipe: Any, prompt: str, plugin: Any, noises: int) -> Sequence[Any]:
    """One picture from each noise."""
    generators = [torch.Generator().manual_seed(SEED + noise) for noise in range(noises)]
    with nullcontext() if plugin is None else Guidance(plugin).attach(pipe):
        images: Sequence[Any] = pipe(
            [prompt] * noises,
            num_inference_steps=STEPS,
            guidance_scale=SCALE,
            generator=generators,
        ).images
    return images


def hits(verdicts: Sequence[Any], kind: str, colour: str | None) -> list[bool]:
    """Of the pictures that show the kind, whether one is of the colour; of all, whether it is
    there, where no colour is asked.
    """
    shown = [[thing.colour for thing in each.things if thing.kind == kind] for each in verdicts]
    return [bool(one) for one in shown] if colour is None else [colour in o for o in shown if o]


def measured(pipe: Any, kinds: Sequence[str], noises: int) -> dict[str, dict[str, Figure]]:
    """Each question's share, without the edit and at each weight."""
    judge, found = Judge.load(), dict[str, dict[str, list[bool]]]()
    for kind in kinds:
        edit = f"{a(kind)} > {a(f'{unusual(kind)[0]} {kind}')}"
        edits = {f"keep={keep:g}": Time((edit,), keep=keep) for keep in KEEPS}
        for question, prompts in asked(kind).items():
            for prompt, looked_at, colour in prompts:
                for name, plugin in {"plain": None, **edits}.items():
                    verdicts = judge(list(drawn(pipe, prompt, plugin, noises)))
                    row = found.setdefault(question, {}).setdefault(name, [])
                    row += hits(verdicts, looked_at, colour)
        print(f"{kind} is done", flush=True)
    return {
        question: {name: share(row) if row else {"n": 0} for name, row in rows.items()}
        for question, rows in found.items()
    }


def main() -> None:
    """Measure, print, and keep JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a toybox's folder; the bundled one if left out")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--noises", type=int, default=20, help="pictures of each prompt")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "assumptions.json")
    given = parser.parse_args()
    pipe = load_toybox(folder=given.model)
    pipe.set_progress_bar_config(disable=True)
    how = {"device": "cpu", "kinds": given.kinds, "noises": given.noises}
    record.write(given.out, how, measured(pipe, given.kinds, given.noises))


if __name__ == "__main__":
    main()
