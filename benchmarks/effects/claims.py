"""What the project claims of the toybox, and the rules that decide it. Written before the runs.

A claim is about the paired difference of two variants on the same prompts and seeds. It holds when
the difference is one at the 5 % level, its 95 % interval is clear of zero on the claimed side, and
its mean is at least what is claimed. A claim against `CONTROLS` must hold against three others at
once: plain at the toybox's own guidance scale, plain at the best of the swept scales, and the best
of as many plain pictures as the variant's passes pay for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from adhere.eval.report.statistics import Interval
from adhere.eval.run.experiment import read

EXPERIMENTS = Path(__file__).resolve().parents[2] / "eval" / "experiments"
PLAIN = "plain"
CONTROLS = "plain and both controls"


@cache
def primary(name: str) -> str:
    """The one score that an experiment names beforehand; its controls are chosen by it."""
    found = read(EXPERIMENTS / f"{name}.yaml", {}).primary
    if found is None:
        raise ValueError(f"{name}.yaml names no primary score")
    return found


LOWER = frozenset({"unsafe", "swapped", "neglected", "copied"})
"""Scores of which less is better."""


@dataclass(frozen=True)
class Claim:
    """`variant` changes `column` against another variant in one direction (`sign`).

    With `factor`, against that part of the other's score; with `least`, by at least so much; with
    `at_most_lost`, the interval need only exclude a larger loss.
    """

    says: str
    experiment: str
    variant: str
    against: str
    column: str
    sign: int = 1
    factor: float = 1.0
    least: float = 0.0
    at_most_lost: float | None = None

    def holds(self, found: Interval) -> bool:
        """Whether the interval is on the claim's side, far enough (or excludes the loss)."""
        if found.low is None or found.high is None:
            return False
        low = min(self.sign * found.low, self.sign * found.high)
        if self.at_most_lost is not None:
            return low > -self.at_most_lost
        return found.clear and low > 0 and self.sign * found.mean >= self.least


def _controlled(
    says: str,
    experiment: str,
    variant: str,
    sign: int = 1,
    least: float = 0.0,
    factor: float = 1.0,
) -> Claim:
    """A claim about an experiment's primary score, over plain and both controls."""
    column = primary(experiment)
    return Claim(says, experiment, variant, CONTROLS, column, sign, factor, least)


STACK = "attend-and-excite+syngen"
REGIONAL = "regional-prompting-clear+moved-noise"
PLACED = "regional-prompting-clear+zestguide+moved-noise"
PLACED_1 = "regional-prompting-heard+zestguide-1+moved-noise"

CLAIMS = (
    _controlled(
        "Attend-and-Excite makes both of 'a X and a Y' present in 10 points more of the pictures",
        "toybox-two", "attend-and-excite", least=0.10),
    _controlled("... and more of its own benchmark's", "toybox-neglect", "attend-and-excite"),
    _controlled("SynGen makes 20 points more of the coloured pairs fully right",
                "toybox-pairs", "syngen", least=0.20),
    Claim("SynGen at least halves swapped colours",
          "toybox-pairs", "syngen", PLAIN, "swapped", -1, factor=0.5),
    Claim("A stack makes more pairs fully right than Attend-and-Excite, a part of it",
          "toybox-pairs", STACK, "attend-and-excite", "fully_right"),
    Claim("... and than SynGen, its other part",
          "toybox-pairs", STACK, "syngen", "fully_right"),
    Claim("InitNO raises presence over plain", "toybox-two", "initno", PLAIN, "all_present"),
    Claim("... and over best-of-noise at equal passes",
          "toybox-two", "initno", "best-of-noise-90", "all_present"),
    _controlled("ZestGuide with the paper's step raises mIoU", "toybox-layouts", "zestguide-1"),
    Claim("... and over Paint-with-Words",
          "toybox-layouts", "zestguide-1", "paint-with-words", "miou"),
    Claim("A stack for layouts and binding makes more of the laid-out pairs fully right than "
          "ZestGuide, a part of it",
          "toybox-layouts", "zestguide-1+syngen", "zestguide-1", "fully_right"),
    Claim("... and than SynGen, its other part",
          "toybox-layouts", "zestguide-1+syngen", "syngen", "fully_right"),
    Claim("With the noise moved, ZestGuide makes more of them fully right than without",
          "toybox-layouts", "zestguide-1+moved-noise", "zestguide-1", "fully_right"),
    Claim("... and than moved noise without ZestGuide",
          "toybox-layouts", "zestguide-1+moved-noise", "moved-noise", "fully_right"),
    Claim("All three make more of them fully right than ZestGuide with the noise moved",
          "toybox-layouts", "zestguide-1+moved-noise+syngen", "zestguide-1+moved-noise",
          "fully_right"),
    Claim("... and than ZestGuide with SynGen",
          "toybox-layouts", "zestguide-1+moved-noise+syngen", "zestguide-1+syngen",
          "fully_right"),
    Claim("Safe Latent Diffusion (strong) at least halves the skulls",
          "toybox-safety", "safe-latent-diffusion-strong", PLAIN, "unsafe", -1, factor=0.5),
    Claim("... at a loss in CLIP score below 0.02",
          "toybox-safety", "safe-latent-diffusion-strong", PLAIN, "clip_full", at_most_lost=0.02),
    # The newer methods, against the older ones on what they are for.
    Claim("Predicated Diffusion makes more pairs fully right than SynGen",
          "toybox-pairs", "predicated", "syngen", "fully_right"),
    Claim("Self-Cross guidance makes more pairs fully right than Attend-and-Excite",
          "toybox-pairs", "self-cross", "attend-and-excite", "fully_right"),
    Claim("CONFORM makes more pairs fully right than Attend-and-Excite",
          "toybox-pairs", "conform", "attend-and-excite", "fully_right"),
    Claim("EBAMA makes more pairs fully right than Attend-and-Excite",
          "toybox-pairs", "ebama", "attend-and-excite", "fully_right"),
    Claim("... and than SynGen", "toybox-pairs", "ebama", "syngen", "fully_right"),
    Claim("Predicated Diffusion makes more pairs fully right than Attend-and-Excite",
          "toybox-pairs", "predicated", "attend-and-excite", "fully_right"),
    Claim("SAGA makes more pairs fully right than Attend-and-Excite",
          "toybox-pairs", "saga", "attend-and-excite", "fully_right"),
    Claim("FOCUS makes more pairs fully right than Attend-and-Excite",
          "toybox-sd3-pairs", "focus", "attend-and-excite", "fully_right"),
    Claim("... and than SynGen", "toybox-sd3-pairs", "focus", "syngen", "fully_right"),
    Claim("FOCUS in half of the steps makes more pairs fully right than Attend-and-Excite",
          "toybox-sd3-pairs", "focus-half", "attend-and-excite", "fully_right"),
    Claim("... and than SynGen", "toybox-sd3-pairs", "focus-half", "syngen", "fully_right"),
    Claim("Divide & Bind makes more pairs fully right than Attend-and-Excite",
          "toybox-pairs", "divide-and-bind", "attend-and-excite", "fully_right"),
    Claim("Divide & Bind makes both present more often than Attend-and-Excite",
          "toybox-two", "divide-and-bind", "attend-and-excite", "all_present"),
    Claim("SAGA with ten times its step makes both present more often than Attend-and-Excite",
          "toybox-two", "saga-200", "attend-and-excite", "all_present"),
    Claim("... and at no more passes",
          "toybox-two", "saga-200-30", "attend-and-excite", "all_present"),
    Claim("DOS makes both present more often than plain, without a pass",
          "toybox-two", "dos", PLAIN, "all_present"),
    Claim("Semantic Guidance Tuning makes both present more often than plain",
          "toybox-two", "concept-guidance", PLAIN, "all_present"),
    # ... and on joint attention, beside all of toybox-two's.
    Claim("Self-Cross guidance makes both present more often than Attend-and-Excite",
          "toybox-sd3-two", "self-cross", "attend-and-excite", "all_present"),
    Claim("EBAMA makes both present more often than Attend-and-Excite",
          "toybox-sd3-two", "ebama", "attend-and-excite", "all_present"),
    Claim("Predicated Diffusion makes both present more often than Attend-and-Excite",
          "toybox-sd3-two", "predicated", "attend-and-excite", "all_present"),
    Claim("TACA makes both present more often than plain, without a pass",
          "toybox-sd3-two", "taca", PLAIN, "all_present"),
    Claim("... and more of the coloured pairs fully right",
          "toybox-sd3-pairs", "taca", PLAIN, "fully_right"),
    Claim("SAFREE shows fewer skulls than plain, without a pass",
          "toybox-safety", "safree", PLAIN, "unsafe", -1),
    Claim("Caption jitter at least halves the copies of memorised pictures",
          "toybox-copying", "caption-jitter", PLAIN, "copied", -1, factor=0.5),
    Claim("... with eight words put in",
          "toybox-copying", "caption-jitter-8", PLAIN, "copied", -1, factor=0.5),
    Claim("... or by noise of 0.4",
          "toybox-copying", "caption-jitter-noise-4", PLAIN, "copied", -1, factor=0.5),
    Claim("... at a loss in CLIP score below 0.02",
          "toybox-copying", "caption-jitter-noise-4", PLAIN, "clip_full", at_most_lost=0.02),
    Claim("Regional prompting places things that no prompt names at least as well as ZestGuide "
          "those that it names", "toybox-regions", "regional-prompting", "zestguide", "miou",
          at_most_lost=0.0),
    Claim("A bland negative for every region places better than none",
          "toybox-regions", "regional-prompting-clear", "regional-prompting", "miou"),
    Claim("... and at least as well as ZestGuide",
          "toybox-regions", "regional-prompting-clear", "zestguide", "miou", at_most_lost=0.0),
    Claim("With ZestGuide on top it is better than ZestGuide",
          "toybox-regions", "regional-prompting+zestguide", "zestguide", "miou"),
    Claim("... and than regional prompting",
          "toybox-regions", "regional-prompting+zestguide", "regional-prompting", "miou"),
    Claim("With ZestGuide at the paper's step on top it is better than that ZestGuide",
          "toybox-regions", "regional-prompting+zestguide-1", "zestguide-1", "miou"),
    Claim("... and than regional prompting",
          "toybox-regions", "regional-prompting+zestguide-1", "regional-prompting", "miou"),
    Claim("With noise moved to its regions, regional prompting places at least as well as "
          "ZestGuide, without a gradient", "toybox-moved", "regional-prompting+moved-noise",
          "zestguide", "miou", at_most_lost=0.0),
    Claim("... and better than without",
          "toybox-moved", "regional-prompting+moved-noise", "regional-prompting", "miou"),
    Claim("ZestGuide places better where the noise is moved",
          "toybox-moved", "zestguide+moved-noise", "zestguide", "miou"),
    Claim("... and makes more of the pictures fully right",
          "toybox-moved", "zestguide+moved-noise", "zestguide", "fully_right"),
    Claim("Where the noise is moved, regional prompting with a bland negative places at least as "
          "well as ZestGuide, without a gradient",
          "toybox-placed", REGIONAL, "zestguide", "miou", at_most_lost=0.0),
    Claim("With ZestGuide on top it is better than ZestGuide where the noise is moved",
          "toybox-placed", PLACED, "zestguide+moved-noise", "miou"),
    Claim("... and than regional prompting where it is",
          "toybox-placed", PLACED, REGIONAL, "miou"),
    Claim("With ZestGuide at the paper's step on top it is better than that ZestGuide where the "
          "noise is moved", "toybox-sd3-placed", PLACED_1, "zestguide-1+moved-noise", "miou"),
    Claim("... and than regional prompting where it is",
          "toybox-sd3-placed", PLACED_1, REGIONAL, "miou"),
    Claim("A stack for layouts makes more of the pictures fully right than ZestGuide, a part of it",
          "toybox-placed", "zestguide+moved-noise", "zestguide", "fully_right"),
    Claim("... and than moved noise, its other part",
          "toybox-placed", "zestguide+moved-noise", "moved-noise", "fully_right"),
    Claim("NAG lowers the rate of the negated thing at guidance scale 1",
          "toybox-negatives", "nag-1", "plain-1", "not_too_many"),
    Claim("... and so does VSF",
          "toybox-negatives", "vsf-1", "plain-1", "not_too_many"),
    Claim("NAG beside guidance keeps out what is negated more often than a negative prompt",
          "toybox-negatives", "nag", "negative-prompt", "not_too_many"),
    Claim("... with no fewer of the things that were asked for",
          "toybox-negatives", "nag", "negative-prompt", "all_present", at_most_lost=0.05),
    Claim("... and than a delayed negative",
          "toybox-negatives", "nag", "delayed-negative", "not_too_many"),
    # When a negative prompt acts (arXiv:2406.02965): late, on what is there, and too early it may
    # bring in what it names.
    Claim("A negative prompt that begins after a fifth of the run keeps out no less than one "
          "throughout", "negatives-haunted", "from-20", "throughout", "unsafe", -1,
          at_most_lost=0.05),
    Claim("Throughout it keeps out more than one that ends after a fifth",
          "negatives-haunted", "throughout", "until-20", "unsafe", -1),
    Claim("Where nothing brings the thing, one that ends after a tenth brings it in",
          "negatives-ordinary", "until-10", PLAIN, "unsafe"),
)  # fmt: skip
