"""Published rules that make scores of answers and detections: pure functions.

- DSG (Cho et al. 2024, arXiv:2310.18235; dsg/vqa_utils.py @2fdce11) and DPG-Bench: a question
  counts only where all its parents were answered rightly; the score is the mean over questions.
- TIFA (Hu et al. 2023, arXiv:2303.11897; tifa_score.py @eb3a0fb): the mean of right answers.
- Soft-TIFA (GenEval 2, arXiv:2512.16853): arithmetic (AM) and geometric (GM) mean of the right
  answers' probabilities.
- BLIP-VQA (T2I-CompBench, arXiv:2307.06350; BLIP_vqa.py @34134bd): p(yes) / (p(yes) + p(no)) of
  "PHRASE?" for each noun phrase, to four digits, multiplied.
- TIAM (Grimal et al. 2024, arXiv:2307.05134; src/tiam/eval.py @6444a8e): every class is there, each
  coloured one at least once in its colour; boxes of two classes that coincide count for neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from adhere.eval.evaluators.rules.composition import Box, Found
from adhere.eval.suites.answers import alike, plain
from adhere.eval.suites.items import Item, Question

# Eight noun phrases at the most, and four digits, as BLIP_vqa.py has them.
MOST_PHRASES = 8
_DIGITS = 4
# TIAM's thresholds: confidence, and overlap of boxes of two classes.
TIAM_CONFIDENCE = 0.5
TIAM_OVERLAP = 0.95


def dsg(questions: Sequence[Question], right: Mapping[str, bool]) -> float:
    """The share of questions answered rightly whose parents all were, too.

    As published, a parent counts as answered even where its own parent was not.
    """
    held = [right[one.id] and all(right[parent] for parent in one.parents) for one in questions]
    return sum(held) / len(held)


def tifa(questions: Sequence[Question], right: Mapping[str, bool]) -> float:
    """The share of questions answered rightly."""
    return sum(right[one.id] for one in questions) / len(questions)


def soft_tifa(probabilities: Sequence[float]) -> tuple[float, float]:
    """Arithmetic and geometric mean of the right answers' probabilities."""
    am = sum(probabilities) / len(probabilities)
    if min(probabilities) <= 0:
        return am, 0.0
    return am, math.exp(sum(math.log(p) for p in probabilities) / len(probabilities))


def blip_vqa(probabilities: Sequence[float]) -> float:
    """The product over noun phrases, each to four digits, and to four digits itself."""
    product = math.prod(round(p, _DIGITS) for p in probabilities[:MOST_PHRASES])
    return round(product, _DIGITS)


def tiam(item: Item, found: Sequence[Found]) -> float:
    """1 where every class of the prompt is there, in its colour where it has one; else 0."""
    sure = [one for one in found if one.score >= TIAM_CONFIDENCE]
    spoilt = {
        id(one)
        for a, b in combinations(sure, 2)
        if a.noun != b.noun and overlap(a.box, b.box) >= TIAM_OVERLAP
        for one in (a, b)
    }
    left = [one for one in sure if id(one) not in spoilt]
    return float(
        all(
            any(
                one.noun == thing.detected and (not thing.colour or one.colour == thing.colour)
                for one in left
            )
            for thing in item.things
        )
    )


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    either = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - common
    return common / either if either > 0 else 0.0


def chosen(answer: str, choices: Sequence[str]) -> str:
    """The choice that a free answer means: the same words, else the only one that it contains."""
    exact = [choice for choice in choices if alike(choice, answer)]
    if exact:
        return exact[0]
    said = plain(answer)
    within = [choice for choice in choices if f" {plain(choice)} " in f" {said} "]
    return within[0] if len(within) == 1 else said
