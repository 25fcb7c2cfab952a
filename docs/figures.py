"""What is generated from the committed effect studies: the README's figures, the long tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import record

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


class Figure(NamedTuple):
    """A row of the README's table: one score of one variant beside the plain picture's."""

    says: str
    study: str
    experiment: str
    column: str
    variant: str
    plugin: str


FIGURES = (
    Figure("two things, each of its colour: all right", "effect_toybox", "toybox-pairs",
           "fully_right", "syngen", "syngen"),
    Figure("two things without colours: both are there", "effect_toybox", "toybox-two",
           "all_present", "attend-and-excite", "attend-and-excite"),
    Figure("prompts of the Attend-and-Excite benchmark: everything is there", "effect_toybox",
           "toybox-neglect", "all_present", "attend-and-excite", "attend-and-excite"),
    Figure("a layout of two things: mean IoU", "effect_toybox", "toybox-layouts",
           "miou", "zestguide-1", "zestguide"),
    Figure("two coloured things on a small Stable Diffusion 3: all right", "effect_toybox_sd3",
           "toybox-sd3-pairs", "fully_right", "attend-and-excite", "attend-and-excite"),
    Figure("a layout on it: mean IoU", "effect_toybox_sd3",
           "toybox-sd3-layouts", "miou", "layout-guidance", "layout-guidance"),
    Figure("a skull that nobody asked for", "effect_toybox", "toybox-safety",
           "unsafe", "safe-latent-diffusion-early", "safe-latent-diffusion"),
)  # fmt: skip


def figures() -> str:
    """The README's small table."""
    lines = ["| | plain | guided | difference, 95 % interval | by |", "|---|---|---|---|---|"]
    for row in FIGURES:
        plain, guided = _score(row, "plain"), _score(row, row.variant)
        change = guided["difference"]
        spread = f"{100 * change['low']:.0f}, {100 * change['high']:.0f}"
        lines.append(
            f"| {row.says} | {100 * plain['mean']:.0f} % | {100 * guided['mean']:.0f} % "
            f"| {100 * change['mean']:+.0f} [{spread}] "
            f"| [`{row.plugin}`](docs/methods/{row.plugin}.md) |"
        )
    return "\n".join(lines)


def _score(row: Figure, variant: str) -> dict[str, Any]:
    told = json.loads((RESULTS / f"{row.study}.json").read_text("utf-8"))
    for score in told["experiments"][row.experiment]["scores"]:
        if (score["variant"], score["column"]) == (variant, row.column):
            found: dict[str, Any] = score
            return found
    raise KeyError(f"{row.study}.json has no {row.column} of {variant} in {row.experiment}")


def curves() -> str:
    """What choosing is worth: by model the points and the differences that were foretold; for those
    that came later with their figure.
    """
    return "\n\n".join(map(_curves, sorted(RESULTS.glob("search_curves*.json"))))


def _curves(path: Path) -> str:
    told = json.loads(path.read_text("utf-8"))
    of = path.stem.removeprefix("search_curves").replace("_", "-")
    lines = []
    if of:
        shown = f"pictures/search-curves{of}.svg"
        lines += [
            f"On `toybox{of}`, by the same numbers:",
            "",
            f"![Fully right against passes a picture, on toybox{of}]({shown})",
            "",
        ]
    for suite, found in told["results"]["suites"].items():
        lines += [
            f"| {suite}, {found['prompts']} prompts | fully right, 95 % | passes a picture, in "
            "plain pictures |",
            "|---|---|---|",
        ]
        for name, own in sorted(found["curves"].items(), key=lambda one: one[1]["passes"]):
            low, high = (100 * one for one in own["fully_right"]["ci95"])
            cost = own["passes"] / (2 * told["made"]["steps"])
            mean = 100 * own["fully_right"]["share"]
            lines.append(f"| {name} | {mean:.1f} % [{low:.1f}, {high:.1f}] | {cost:.2f} |")
        lines.append("")
    lines += ["| said beforehand | on | paired difference, 95 % | holds |", "|---|---|---|---|"]
    for one in told["results"]["differences"]:
        low, high = (100 * one[end] for end in ("low", "high"))
        lost = one["at_most_lost"]
        how = "better than" if lost is None else f"no more than {100 * lost:g} points worse than"
        lines.append(
            f"| {one['one']} is {how} {one['other']}: {one['why']} | {one['suite']} "
            f"| {100 * one['mean']:+.1f} points [{low:+.1f}, {high:+.1f}] "
            f"| {'yes' if one['holds'] else '**no**'} |"
        )
    return "\n".join(lines)


SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6)
"""How far a run is when its attention is asked."""
_MAPS = {"as guidance reads": "the maps that guidance reads, averaged"}


def foretell() -> str:
    """What attention says of a picture before it is made: areas under the curve, by toybox."""
    heads = " | ".join(f"{100 * share:.0f} %" for share in SHARES)
    lines = [f"| toybox | what | whose attention | {heads} |", "|---" * (3 + len(SHARES)) + "|"]
    for path in sorted(RESULTS.glob("foretell_*.json")):
        found = json.loads(path.read_text("utf-8"))["questions"]
        for question, each in found.items():
            what = f"{question}, {each['right']} of {each['n']} right"
            for layer in (*_MAPS, _most_telling(each["layers"])):
                areas = each["layers"][layer]
                at = [areas[round(share * len(areas))] for share in SHARES]
                cells = " | ".join(f"{a:.2f} [{lo:.2f}, {hi:.2f}]" for a, lo, hi in at)
                whose = _MAPS.get(layer, f"`{layer}`")
                lines.append(
                    f"| {path.stem.removeprefix('foretell_')} | {what} | {whose} | {cells} |"
                )
    return "\n".join(lines)


def _most_telling(layers: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """The layer that says most at 30 % of a run."""
    own = {name: areas for name, areas in layers.items() if name not in _MAPS}
    return max(own, key=lambda name: own[name][round(0.3 * len(own[name]))][0])


def effect(study: str, which: str = "_short") -> str:
    """The short tables of an effect study, or `which` others, as `benchmarks/effect_toybox.py
    report` wrote them.
    """
    text = (RESULTS / f"{study}{which}.md").read_text("utf-8")
    return text.strip().replace("](../../docs/", "](")


PAIRED = {
    "assumptions": "**TIME**: an edit to an unusual colour, at several weights of other texts",
    "noise-query": "**NoiseQuery**: begun at the highest and lowest of a statistic, and by prompt",
    "p-plus": "**P+**: the shape of one text, the style of another",
    "scaling-concept": "**ScalingConcept**: one of two things in a drawn picture",
    "prototypes": "**Prototypes** of a skull",
    "concept-steering": "**Concept Steerers**: a concept taken out of a prompt's text",
    "golden-noise": "**Golden Noise**: two things in two colours",
    "subjects": "**Subject guidance**: two things given as pictures",
}
"""Studies whose arms are held against the first of them, from the same noises."""
SCALES = ("brightness", "saturation", "colourfulness", "warmth", "sharpness", "likeness")
"""What questions that are no shares begin with."""


def paired() -> str:
    """Of each such study that has been made the means, and what each arm changes."""
    asked = {
        record.named(RESULTS, name, model): f"{says}{where}"
        for name, says in PAIRED.items()
        for model, where in (("toybox", ""), ("toybox-sd3", ", on the transformer"))
    }
    return "\n\n".join(_paired(path, says) for path, says in asked.items() if path.is_file())


def _paired(path: Path, says: str) -> str:
    told = json.loads(path.read_text("utf-8"))["results"]
    lines = [f"{says} ([all numbers](../benchmarks/results/{path.name})).", ""]
    heads: list[str] = []
    for question, rows in _questions(told):
        arms = [arm for arm in rows if " - " not in arm]
        if arms != heads:
            lines += [""] if heads else []
            lines += [f"| | {' | '.join(arms)} | n |", "|---" * (len(arms) + 2) + "|"]
            heads = arms
        number = question.split(": ")[-1].startswith(SCALES)
        cells = [_cell(rows, arm, arms[0], number) for arm in arms]
        count = min(rows[arm].get("n", 0) for arm in arms)
        lines.append(f"| {question} | {' | '.join(cells)} | {count} |")
    return "\n".join(lines)


def _questions(told: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Questions and their arms; where there are several places, with the place."""
    found = []
    for name, rows in told.items():
        deeper = not any("mean" in row for row in rows.values())
        found += [(f"{name}: {q}", r) for q, r in rows.items()] if deeper else [(name, rows)]
    return found


def _cell(rows: dict[str, Any], arm: str, base: str, number: bool) -> str:
    """An arm's mean, and its change with the interval, bold where that excludes zero."""

    def shown(value: float, sign: str = "") -> str:
        return f"{value:{sign}.3f}" if number else f"{100 * value:{sign}.0f}"

    mean = shown(rows[arm]["mean"]) + ("" if number else " %") if rows[arm] else "-"
    change = rows.get(f"{arm} - {base}")
    if not change:
        return mean
    clear = change.get("p", 1) < 0.05 and change["prompts"] >= 10
    moved = f"**{shown(change['mean'], '+')}**" if clear else shown(change["mean"], "+")
    return f"{mean} ({moved} [{shown(change['low'])}, {shown(change['high'])}])"
