"""What the attention of an unguided run says of its picture before it is made.

    python -m benchmarks.effects.foretell                        both toyboxes, 300 pictures each
    python -m benchmarks.effects.foretell --minutes 10           resumable: what is made is kept

Methods that choose noises or drop candidates early read attention at a step of a run. Whether there
is anything to read is the area under the curve (AUC) of what they read against what the judge sees:

    presence    the weaker noun's highest attention, on "a X and a Y"; are both things there?
    binding     how much nearer, by cosine, the nouns' maps are to their own colours' than to each
                other's, on the weaker side, on two coloured things; are the colours right, where
                both things are there?

One half says nothing; the interval is Hanley and McNeil's (1982). Per step and layer, and for the
average of the layers that guidance reads. Pictures' figures are kept in `--runs`, the table and the
figure's numbers in `benchmarks/results/foretell_<model>.{json,md}`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adhere.eval.run.models import fingerprint
from adhere.guides.maps import Read
from adhere.pipelines.families import family_of
from adhere.pipelines.studio.output import write_json, write_text
from adhere.pipelines.toybox import TOYBOXES, load_toybox
from adhere.pipelines.toybox.card.attention import columns_of
from adhere.pipelines.toybox.card.recording import draw
from adhere.pipelines.toybox.card.suites import two_coloured, two_plain
from adhere.pipelines.toybox.judge.judge import Judge
from adhere.pipelines.toybox.judge.outcome import Outcome
from adhere.pipelines.toybox.world.captions import parse_prompt
from benchmarks import record

GUIDED = "as guidance reads"
BATCH = 20
SEED = 71_000
"""Of prompts and noises: not the effect study's."""

Scores = dict[str, list[float]]
"""By layer, one number a step."""


def weaker_peak(maps: Tensor, prompt: str, tokenizer: Any) -> Tensor:
    """The highest attention of the noun that has less of it, one number a step.

    `maps` `(steps, cells, tokens)`.
    """
    nouns = [kind for kind, _ in parse_prompt(prompt).things]
    columns = columns_of(tokenizer, prompt, nouns)
    return torch.stack([maps[..., column].amax(1) for column in columns.values()]).amin(0)


def nearer_colour(maps: Tensor, prompt: str, tokenizer: Any) -> Tensor:
    """How much nearer a noun's map is to its own colour's than to the other's, by cosine, of the
    noun where it is less, one number a step.
    """
    asked = parse_prompt(prompt).things
    columns = columns_of(tokenizer, prompt, [word for pair in asked for word in pair if word])

    def alike(noun: str, colour: str | None) -> Tensor:
        assert colour is not None
        return nn.functional.cosine_similarity(
            maps[..., columns[noun]], maps[..., columns[colour]], dim=1
        )

    (a, its), (b, other) = asked
    return torch.minimum(alike(a, its) - alike(a, other), alike(b, other) - alike(b, its))


def _both_there(outcome: Outcome) -> bool | None:
    return outcome.all_present


def _bound(outcome: Outcome) -> bool | None:
    return outcome.all_bound if outcome.all_present else None


Question = tuple[
    Callable[[Random], str], Callable[[Tensor, str, Any], Tensor], Callable[[Outcome], bool | None]
]
QUESTIONS: dict[str, Question] = {
    "presence": (two_plain, weaker_peak, _both_there),
    "binding": (two_coloured, nearer_colour, _bound),
}


def pictures(pipe: Any, question: str, first: int, count: int) -> Iterator[dict[str, Any]]:
    """Pictures number `first` and on: what is read of each at every step, and what came of it."""
    make, read, became = QUESTIONS[question]
    prompts = [make(Random(f"{SEED} {question} {first + k}")) for k in range(count)]
    images, maps = draw(pipe, prompts, range(SEED + first, SEED + first + count))
    guided = [spot.name for spot in family_of(pipe).wanted(Read())]
    finest = max(maps[name].shape[2] for name in guided)
    averaged = torch.stack([maps[name] for name in guided if maps[name].shape[2] == finest]).mean(0)
    layers = {**maps, GUIDED: averaged}
    for index, (prompt, verdict) in enumerate(zip(prompts, Judge.load()(images), strict=True)):
        scores = {n: read(m[index], prompt, pipe.tokenizer) for n, m in layers.items()}
        known = {name: [round(float(v), 6) for v in values] for name, values in scores.items()}
        yield {"prompt": prompt, "right": became(verdict.against(prompt)), "read": known}


def area(scores: Sequence[float], right: Sequence[bool]) -> tuple[float, float, float]:
    """AUC with its 95 % interval (Hanley and McNeil 1982); ties count half."""
    values, flags = np.asarray(scores), np.asarray(right, dtype=bool)
    yes, no = values[flags], values[~flags]
    if not len(yes) or not len(no):
        return (float("nan"),) * 3
    auc = float((np.greater.outer(yes, no) + 0.5 * np.equal.outer(yes, no)).mean())
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    more = (len(yes) - 1) * (q1 - auc**2) + (len(no) - 1) * (q2 - auc**2)
    half = 1.96 * float(np.sqrt((auc * (1 - auc) + more) / (len(yes) * len(no))))
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def areas(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per layer and step, of the pictures whose outcome counts."""
    known = [row for row in rows if row["right"] is not None]
    right = [bool(row["right"]) for row in known]
    found: dict[str, Any] = {"n": len(known), "right": sum(right), "layers": {}}
    for layer in known[0]["read"] if known else ():
        table: NDArray[np.float64] = np.array([row["read"][layer] for row in known])
        found["layers"][layer] = [
            [round(value, 4) for value in area(column, right)] for column in table.T.tolist()
        ]
    return found


def load(model: str, device: str = "cpu") -> Any:
    """A bundled toybox by its name, or one from a folder."""
    pipe = load_toybox(name=model) if model in TOYBOXES else load_toybox(folder=model)
    return pipe.to(device)


def gathered(
    model: str, question: str, count: int, folder: Path, until: float, device: str = "cpu"
) -> list[dict[str, Any]]:
    """What is kept of the pictures, after making what is missing while there is time."""
    path = folder / f"{Path(model).name}-{fingerprint(model)}-{question}.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    pipe = load(model, device) if len(rows) < count else None
    while len(rows) < count and time.monotonic() < until:
        made = list(pictures(pipe, question, len(rows), min(BATCH, count - len(rows))))
        rows += made
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        print(f"{model}, {question}: {len(rows)} of {count}", flush=True)
    return rows[:count]


def table(found: dict[str, Any]) -> str:
    """A row a layer, a column every other step, as Markdown."""
    parts: list[str] = []
    for question, each in found.items():
        parts += [f"**{question}**: {each['right']} of {each['n']} right", ""]
        steps = len(next(iter(each["layers"].values()), []))
        shown = [step for step in range(steps) if step < 6 or step % 2 == 0]
        head = "| layer | " + " | ".join(map(str, shown)) + " |"
        parts += [head, "|---" * (len(shown) + 1) + "|"]
        for layer, values in each["layers"].items():
            cells = " | ".join(f"{values[step][0]:.2f}" for step in shown)
            parts.append(f"| {layer} | {cells} |")
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=list(TOYBOXES), help="names or folders")
    parser.add_argument("--pictures", type=int, default=300, help="of each question and model")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/foretell"))
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    for model in given.models:
        kept = {
            question: gathered(model, question, given.pictures, given.runs, until, given.device)
            for question in QUESTIONS
        }
        found = {question: areas(rows) for question, rows in kept.items()}
        made = record.about(given.device)
        path = given.out / f"foretell_{Path(model).name}.json"
        write_json(path, {"made": made, "questions": found})
        write_text(path.with_suffix(".md"), table(found) + "\n")


if __name__ == "__main__":
    main()
