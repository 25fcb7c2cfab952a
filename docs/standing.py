"""What the committed studies measured of a method, and where: `measured` on its page."""

from __future__ import annotations

from docs.advice import NOT_MEASURED, figure
from docs.measured import TOYBOXES, best
from docs.questions import QUESTIONS

NOWHERE = "No committed study of either toybox has measured it."
LEGEND = (
    "Without it -> with it, and the difference with its 95 % interval, bold where that is clear of "
    "zero; of several settings the best. [The studies]({results})."
)


def measured(name: str, up: str) -> str:
    """Every question that a method was measured by; or that there is none.

    Args:
        up: the way from the page to the repository's folder, as in `../`.
    """
    lines = []
    for question in dict.fromkeys(one for several in QUESTIONS.values() for one in several):
        found = {toybox: best(question, toybox).get(name) for toybox in TOYBOXES}
        if not any(found.values()):
            continue
        cells = (figure(question, one) if one else NOT_MEASURED for one in found.values())
        files = dict.fromkeys(question.source(toybox) for toybox, one in found.items() if one)
        places = ", ".join(f"[{file}]({up}benchmarks/results/{file})" for file in files)
        lines.append(f"| {question.says} | {' | '.join(cells)} | {places} |")
    if not lines:
        return NOWHERE
    heads = ("what was asked", *TOYBOXES.values(), "all numbers")
    legend = LEGEND.format(results=f"{up.removeprefix('../')}results.md")
    return "\n".join([legend, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines])
