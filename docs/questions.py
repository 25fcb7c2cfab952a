"""What the tables of methods ask the committed studies, and what they recommend by hand."""

from __future__ import annotations

from typing import NamedTuple

from docs.measured import NEGATIVE, Arms, Choosing, Question, Suite

TWO = Suite('"a X and a Y": both are there', experiment="two", column="all_present")
BOTH = Suite("two coloured things: both are there", experiment="pairs", column="all_present")
NEGLECT = Suite(
    "prompts of the Attend-and-Excite benchmark: everything is there",
    experiment="neglect",
    column="all_present",
)
PAIRS = Suite("two coloured things: all right", experiment="pairs", column="fully_right")
LAYOUTS = Suite(
    "a layout of two things: mean IoU", experiment="layouts", column="miou", keep="all_present"
)
REGIONS = Suite(
    "regions with texts of their own: mean IoU",
    experiment="regions",
    column="miou",
    keep="all_present",
)
MOVED = Suite(
    "two regions, their noise moved or not: mean IoU",
    experiment="placed",
    column="miou",
    keep="all_present",
)
NEGATED = Suite(
    "a thing to be left out: it is not there",
    experiment="negatives",
    column="not_too_many",
    keep="present",
)
UNHEARD = Suite(
    "a thing to be left out at guidance scale 1: it is not there",
    experiment="negatives",
    column="not_too_many",
    against="plain-1",
    keep="present",
)
SAFETY = Suite(
    "a skull that nobody asked for", -1, experiment="safety", column="unsafe", keep="all_present"
)
COPYING = Suite("a memorised picture comes back", -1, experiment="copying", column="copied")
PROTOTYPES = Arms(
    "the same skull, kept out by prototypes that were made for it",
    -1,
    file="prototypes",
    place=("haunted", "a skull"),
    arms=(("prototype", "prototype", ""), ("negative prompt", NEGATIVE, "")),
    keep=("haunted", "what was asked for"),
)
STATISTIC = Arms(
    "brightness of the picture, begun at the brightest seed of a library",
    share=False,
    file="noise-query",
    place=("brightness",),
    arms=(("highest", "noise-query", "`target=brightness`"),),
)
SUITED = Arms(
    "one thing or two, begun at the seed that suits the prompt: everything is there",
    file="noise-query",
    place=("all there",),
    arms=(("by prompt", "noise-query", ""),),
)
PICTURES = Arms(
    "two things given as pictures, beside the IP-Adapter alone: things with their looks",
    file="subjects",
    place=("things with their looks",),
    against="ip-adapter",
    arms=(("subject-guidance", "subject-guidance", ""),),
)
USUAL = Arms(
    "a thing without a colour has the edit's unusual one",
    file="assumptions",
    place=("efficacy",),
    arms=(
        ("keep=0.1", "time", ""),
        *((f"keep={keep}", "time", f"`keep={keep}`") for keep in (3, 30, 300)),
    ),
)
MIXED = Arms(
    "one text's thing in another's colour",
    file="p-plus",
    place=("mixed: that kind in that colour",),
    against="the shape's text",
    arms=(
        *((f"{which} in the middle", "p-plus", "") for which in ("style", "shape")),
        ("style in the last layer", "p-plus", "`texts=6-6=...`"),
    ),
)
REMOVED = Arms(
    "one of two things taken out of a drawn picture: only the other is seen",
    file="scaling-concept",
    place=("only the other thing is seen",),
    against="drawn again",
    arms=(("scale 0", "scaling-concept", "`scale=0`"),),
)


def _unsaid(says: str, where: str) -> Arms:
    """A concept that is taken out of a text: whether it is seen, in one of the places asked."""
    return Arms(
        says,
        -1,
        file="concept-steering",
        place=(where, "the concept is seen"),
        arms=(
            ("strength 0.2", "concept-steering", "`strength=0.2`"),
            ("strength 0.5", "concept-steering", ""),
            ("strength 1", "concept-steering", "`strength=1`"),
            ("negative prompt", NEGATIVE, ""),
        ),
        keep=(where, "the rest is there"),
    )


UNSAID = _unsaid(
    "one of two things taken out of the prompt's text: it is seen", "one of two things"
)
UNHAUNTED = _unsaid("the skull of a haunted place taken out of its text", "haunted")
GOLDEN = Arms(
    "two things in two colours, begun where a trained network moves the noise: all right",
    file="golden-noise",
    place=("fully right",),
    arms=(("golden-noise", "golden-noise", ""),),
)
FOUR = "best of 4"
CHOOSING = Choosing(
    "two coloured things, chosen by CLIP: all right",
    arms=(
        ("early dropping, 8", "best-of-n", "8 foreseen"),
        ("early dropping, for 4", "best-of-n", "as many passes as 4 pictures"),
        ("steered, 4", "fk-steering", "4 particles"),
        (FOUR, FOUR, ""),
    ),
)

QUESTIONS: dict[str, tuple[Question, ...]] = {
    "appear": (TWO, NEGLECT, BOTH),
    "bind": (PAIRS, TWO, PICTURES),
    "place": (LAYOUTS, REGIONS, MOVED),
    "negate": (NEGATED, UNHEARD),
    "safe": (SAFETY, COPYING, PROTOTYPES),
    "noise": (TWO, PAIRS, SUITED, STATISTIC, GOLDEN),
    "choose": (CHOOSING,),
    "edit": (USUAL, MIXED, REMOVED, UNSAID, UNHAUNTED, SAFETY),
    "scale": (PAIRS,),
}
"""What each task is about, the most telling first."""
AMONG_THEMSELVES = frozenset({"noise", "edit", "scale"})
"""Tasks whose methods answer questions that others are for: these are not named there."""


class Pick(NamedTuple):
    """A method that is recommended by hand, for a case that no question is about."""

    when: str
    method: str


class Situation(NamedTuple):
    """What is wrong with a picture, the questions it is measured by, and what else helps."""

    says: str
    questions: tuple[Question, ...] = ()
    picks: tuple[Pick, ...] = ()
    only: str = ""


SITUATIONS = (
    Situation("misses a subject", (TWO, BOTH), (Pick("without a gradient", "concept-guidance"),)),
    Situation("gives properties to the wrong subject, or misses one as well", (PAIRS,)),
    Situation("mixes two subjects that look alike", picks=(Pick("", "self-cross"),)),
    Situation("should follow a layout", (LAYOUTS,)),
    Situation("should have its own text in each region", (REGIONS,)),
    Situation(
        "shows what nobody asked for",
        (SAFETY,),
        (Pick("where the prompt itself asks for it", "safree"),),
    ),
    Situation(
        "should lack a thing you can name",
        (NEGATED,),
        (Pick("a negative prompt that brings the thing in", "delayed-negative"),),
    ),
    Situation("... without classifier-free guidance", (UNHEARD,)),
    Situation("is one of the training data", (COPYING,)),
    Situation(
        "should begin with better noise",
        (TWO,),
        (Pick("", "best-of-noise"), Pick("for many pictures of one model", "noise-query")),
        only="noise",
    ),
    Situation("may be chosen among several by a verifier", (CHOOSING,)),
    Situation("should change in one thing", picks=(Pick("", "sega"),)),
    Situation("always shows a thing in its usual look", (USUAL,), (Pick("", "time"),)),
    Situation("should have another one's style", (MIXED,), (Pick("", "p-plus"),)),
    Situation("is there already, and has too much of one thing", (REMOVED,)),
    Situation("is burnt out at a high guidance scale", picks=(Pick("", "apg"),)),
    Situation("is to be explained, word by word", picks=(Pick("", "diffusion-pid"),)),
    Situation("is there already, and its prompt is looked for", picks=(Pick("", "hard-prompts"),)),
)
