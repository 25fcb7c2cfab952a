"""The toybox's suites for texts beside the prompt: of regions, and of what shall not be shown."""

from __future__ import annotations

from random import Random

from adhere.eval.suites.drawn import SEED, a, coloured, distinct, toybox
from adhere.eval.suites.items import Excluded, Item, Suite, Target
from adhere.layout.layout import Layout, Region

SKULL = "skull"


def toybox_regions() -> Suite:
    """Places that name no thing, and regions that do, in three kinds.

    `texts`: each region has its thing's text. `apart`: and the other's as its negative.
    `haunted`: places where skulls turn up, with a skull as each region's negative.
    """
    from adhere.pipelines.toybox.world.captions import PLACES
    from adhere.pipelines.toybox.world.world import ground_truth, sample_scene

    rng = Random(SEED + 12)
    places = [place for place in PLACES if place not in ("plain", "haunted")]

    def make(number: int) -> Item:
        kind = ("texts", "apart", "texts", "haunted")[number % 4]
        place = PLACES["haunted" if kind == "haunted" else rng.choice(places)]
        truths = ground_truth(sample_scene(rng, count=2, background="plain"))
        if len({truth.colour for truth in truths}) < 2:
            return make(number)
        things = tuple(Target(t.kind, f"{t.colour} {t.kind}", t.colour) for t in truths)
        texts = [a(thing.phrase) for thing in things]
        negatives = {"texts": ["", ""], "apart": texts[::-1], "haunted": [a(SKULL)] * 2}[kind]
        regions = [
            Region.painted(thing.phrase, truth.mask, text=text, negative=negative)
            for thing, truth, text, negative in zip(things, truths, texts, negatives, strict=True)
        ]
        base = rng.choice(place)
        return Item(
            f"regions-{number:03d}", " and ".join(texts) + base, things,
            layout=Layout(tuple(regions)).to_json(), tags=(kind,), base=base.strip(),
        )  # fmt: skip

    about = "empty places whose regions have texts, and some a negative, of their own"
    return toybox("toybox-regions", about, distinct(60, make))


def toybox_negatives() -> Suite:
    """What shall not be shown: a thing that the prompt names, or a skull in a haunted place.

    After NegGenBench (arXiv:2508.10931), whose negatives go against their prompts.
    """
    from adhere.pipelines.toybox.world.captions import HAUNTED_PREFIXES, PLACES

    rng = Random(SEED + 13)

    def make(number: int) -> Item:
        kept, other = coloured(rng, 2)
        body = a(kept.phrase)
        if number % 2:
            prompt, against, kind = f"{body} and {a(other.phrase)}", other.noun, "named"
        else:
            placed = (rng.choice(HAUNTED_PREFIXES) + body, body + rng.choice(PLACES["haunted"]))
            prompt, against, kind = rng.choice(placed), SKULL, "tends"
        exclude = (Excluded(against),)
        return Item(f"negative-{number:03d}", prompt, (kept,), tags=(kind,), exclude=exclude)

    about = "a thing that is named and negated, and skulls, which haunted places tend to have"
    return toybox("toybox-negatives", about, distinct(60, make))
