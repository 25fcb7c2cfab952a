"""The script that made the bundled suites: `python -m adhere.eval.suites.makers`, seeded.

The words and templates of the Attend-and-Excite benchmark are those of the paper (arXiv:2301.13826,
sec. 4.1 and the authors' repository, MIT): 66 pairs of animals, 144 of an animal and an object, 66
of two objects. Its colours were drawn at random and are drawn anew here, from our seed, so colours
differ from the authors' list while templates, nouns and pairs do not. Articles are theirs ("a
elephant").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from random import Random

from adhere.eval.suites.drawn import OURS, SEED, a, coloured, distinct, own_seeds, toybox
from adhere.eval.suites.items import COLOURS, Item, Suite, Target
from adhere.eval.suites.own_texts import toybox_negatives, toybox_regions
from adhere.eval.suites.suites import bundled_folder
from adhere.layout.layout import Layout, Region

ANIMALS = [
    "cat",
    "dog",
    "bird",
    "bear",
    "lion",
    "horse",
    "elephant",
    "monkey",
    "frog",
    "turtle",
    "rabbit",
    "mouse",
]
OBJECTS = [
    "backpack",
    "glasses",
    "crown",
    "suitcase",
    "chair",
    "balloon",
    "bow",
    "car",
    "bowl",
    "bench",
    "clock",
    "apple",
]
# The authors write "a cat with a bow", without a colour, for what an animal would wear.
WORN = frozenset({"glasses", "crown", "bow"})

_PAPER = (
    "Attend-and-Excite benchmark (Chefer et al. 2023, arXiv:2301.13826, sec. 4.1; repository MIT)"
)


def _colour(rng: Random, noun: str, colours: Sequence[str]) -> Target:
    colour = rng.choice(colours)
    return Target(noun, f"{colour} {noun}", colour)


def _paper_pair(rng: Random, one: str, two: str) -> tuple[str, tuple[Target, ...], str]:
    if two in ANIMALS:
        return (
            f"a {one} and a {two}",
            (Target(one, one), Target(two, two)),
            "animal-animal",
        )
    if one in ANIMALS and two in WORN:
        return (
            f"a {one} with a {two}",
            (Target(one, one), Target(two, two)),
            "animal-object",
        )
    other = _colour(rng, two, COLOURS)
    if one in ANIMALS:
        return f"a {one} and a {other.phrase}", (Target(one, one), other), "animal-object"
    first = _colour(rng, one, COLOURS)
    return f"a {first.phrase} and a {other.phrase}", (first, other), "object-object"


def attend_and_excite() -> Suite:
    """The 276 prompts."""
    rng = Random(SEED)
    pairs = [*combinations(ANIMALS, 2), *product(ANIMALS, OBJECTS), *combinations(OBJECTS, 2)]
    items = []
    for number, (one, two) in enumerate(pairs, 1):
        prompt, things, template = _paper_pair(rng, one, two)
        items.append(Item(f"ae-{number:03d}", prompt, things, tags=(template,)))
    return Suite(
        "attend-and-excite",
        "1.0",
        f"{_PAPER}; colours drawn anew, {OURS}",
        "MIT",
        tuple(items),
        "two subjects, three templates, 276 prompts",
    )


def attend_and_excite_toybox() -> Suite:
    """The prompts of the benchmark whose every word the toybox knows."""
    from adhere.pipelines.toybox.world.captions import unknown_words

    whole = attend_and_excite()
    items = tuple(item for item in whole.items if not unknown_words(item.prompt))
    source = (
        f"the part of suite {whole.name} {whole.version} that the toybox can draw: {whole.source}"
    )
    about = "the Attend-and-Excite prompts that the toybox can draw"
    return Suite("attend-and-excite-toybox", "1.1", source, whole.licence, own_seeds(items), about)


def toybox_pairs() -> Suite:
    """Two kinds in two colours: neglect and swapped colours."""
    rng = Random(SEED + 1)

    def make(number: int) -> Item:
        things = coloured(rng, 2)
        return Item(f"pair-{number:03d}", " and ".join(a(t.phrase) for t in things), things)

    return toybox("toybox-pairs", "two coloured things", distinct(100, make))


def toybox_two() -> Suite:
    """Two kinds without colours, "a cat and a frog": neglect alone."""
    from adhere.pipelines.toybox.world.sprites import KINDS

    rng = Random(SEED + 10)

    def make(number: int) -> Item:
        things = tuple(Target(noun, noun) for noun in rng.sample(KINDS, 2))
        return Item(f"two-{number:03d}", " and ".join(a(t.phrase) for t in things), things)

    return toybox("toybox-two", "two things without colours", distinct(100, make))


def toybox_attributes() -> Suite:
    """One to three things with colour and size: several modifiers, as in DVMP."""
    from adhere.pipelines.toybox.world.sprites import SIZES

    rng = Random(SEED + 2)

    def make(number: int) -> Item:
        things = []
        for thing in coloured(rng, rng.choice((2, 2, 3))):
            size = rng.choice((*SIZES, ""))
            things.append(Target(thing.noun, f"{size} {thing.phrase}".strip(), thing.colour))
        prompt = " and ".join(a(thing.phrase) for thing in things)
        return Item(f"attributes-{number:03d}", prompt, tuple(things), tags=(str(len(things)),))

    return toybox("toybox-attributes", "two or three things with one or two modifiers",
                   distinct(60, make))  # fmt: skip


def toybox_relations() -> Suite:
    """Two coloured things, one left of, right of, above or below the other."""
    from adhere.pipelines.toybox.world.captions import RELATION_WORDS

    rng = Random(SEED + 3)

    def make(number: int) -> Item:
        first, second = coloured(rng, 2)
        relation = list(RELATION_WORDS)[number % 4]
        prompt = RELATION_WORDS[relation].join((a(first.phrase), a(second.phrase)))
        return Item(f"relation-{number:03d}", prompt, (first, second), ((0, relation, 1),),
                    tags=(relation,))  # fmt: skip

    return toybox("toybox-relations", "two coloured things in a relation", distinct(60, make))


def toybox_entities() -> Suite:
    """Two and three things without colours; a toybox scene holds no more."""
    from adhere.pipelines.toybox.world.sprites import KINDS

    rng = Random(SEED + 4)
    items = _entities(rng, KINDS, ((2, 50), (3, 50)))
    return toybox("toybox-entities", "two and three things, TIAM's templates", items)


def entities() -> Suite:
    """TIAM's question: does every one of 2, 3 and 4 entities appear?"""
    items = _entities(Random(SEED + 5), [*ANIMALS, *OBJECTS], ((2, 100), (3, 100), (4, 100)))
    source = f"templates of TIAM (Grimal et al. 2024, arXiv:2307.05134), {OURS}"
    about = "two, three and four entities, 100 prompts each"
    return Suite("entities", "1.0", source, "Apache-2.0", tuple(items), about)


def _entities(rng: Random, nouns: Sequence[str], counts: Sequence[tuple[int, int]]) -> list[Item]:
    items = []
    for size, count in counts:

        def make(number: int, size: int = size) -> Item:
            chosen = rng.sample(list(nouns), size)
            prompt = "a photo of " + " and ".join(map(a, chosen))
            things = tuple(Target(noun, noun) for noun in chosen)
            return Item(f"entities-{size}-{number:03d}", prompt, things, tags=(str(size),))

        items.extend(distinct(count, make))
    return items


def multi_attribute() -> Suite:
    """DVMP-style prompts: one to three nouns with one to three modifiers of different kinds."""
    rng = Random(SEED + 6)
    kinds: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
        (ANIMALS, ("furry", "spotted", "sleepy", "baby", "striped", "fluffy")),
        (OBJECTS, ("modern", "wooden", "metal", "shiny", "ceramic", "checkered")),
        (("apple", "banana", "pear", "lemon"), ("sliced", "ripe", "shiny", "tiny")),
    )

    def thing(used: set[str]) -> Target:
        nouns, modifiers = rng.choice(kinds)
        noun = rng.choice([noun for noun in nouns if noun not in used])
        used.add(noun)
        colour = rng.choice(COLOURS) if rng.random() < 0.75 else None
        chosen = rng.sample(
            list(modifiers), rng.choice((0, 1, 2)) if colour else rng.choice((1, 2))
        )
        words = [*chosen, *([colour] if colour else []), noun]
        return Target(noun, " ".join(words), colour)

    def make(number: int) -> Item:
        used: set[str] = set()
        things = tuple(thing(used) for _ in range(rng.choice((1, 2, 2, 3))))
        prompt = " and ".join(a(each.phrase) for each in things)
        return Item(f"multi-{number:03d}", prompt, things, tags=(str(len(things)),))

    source = f"after the DVMP generator of SynGen (Rassin et al. 2023, arXiv:2306.08877), {OURS}"
    about = "one to three nouns with up to three modifiers each"
    return Suite("multi-attribute", "1.0", source, "Apache-2.0", tuple(distinct(200, make)), about)


def toybox_safety() -> Suite:
    """Haunted places, in which a skull appears though nobody asked for it."""
    from adhere.pipelines.toybox.world.captions import HAUNTED_PREFIXES, PLACES

    rng = Random(SEED + 7)

    def make(number: int) -> Item:
        things = coloured(rng, rng.choice((1, 1, 2)))
        body = " and ".join(a(thing.phrase) for thing in things)
        if number % 2:
            return Item(f"haunted-{number:03d}", rng.choice(HAUNTED_PREFIXES) + body, things)
        return Item(f"haunted-{number:03d}", body + rng.choice(PLACES["haunted"]), things)

    return toybox("toybox-safety", "haunted places; a skull is what is not wanted",
                   distinct(60, make))  # fmt: skip


def toybox_layouts() -> Suite:
    """Scenes with the silhouettes of their things as the layout."""
    from adhere.pipelines.toybox.world.world import ground_truth, sample_scene

    rng = Random(SEED + 8)

    def make(number: int) -> Item:
        scene = sample_scene(rng, count=2, background="plain")
        truths = ground_truth(scene)
        if len({truth.colour for truth in truths}) < 2:
            return make(number)
        things = tuple(Target(t.kind, f"{t.colour} {t.kind}", t.colour) for t in truths)
        prompt = " and ".join(a(thing.phrase) for thing in things)
        regions = [
            Region.painted(thing.phrase, truth.mask)
            for thing, truth in zip(things, truths, strict=True)
        ]
        layout = Layout(tuple(regions), prompt).to_json()
        return Item(f"layout-{number:03d}", prompt, things, layout=layout)

    return toybox("toybox-layouts", "two coloured things with their masks", distinct(60, make))


def toybox_captions() -> Suite:
    """Captions as the toybox was trained on: what Fréchet distances are for."""
    from adhere.pipelines.toybox.world.captions import caption, parse_prompt
    from adhere.pipelines.toybox.world.sprites import SKULL
    from adhere.pipelines.toybox.world.world import sample_scene

    rng = Random(SEED + 9)

    def make(number: int) -> Item:
        text = caption(sample_scene(rng), rng)
        asked = parse_prompt(text).things
        things = tuple(Target(kind, kind, colour) for kind, colour in asked if kind != SKULL)
        return Item(f"caption-{number:03d}", text, things)

    return toybox("toybox-captions", "captions of the toybox's world", distinct(300, make))


def toybox_memorised() -> Suite:
    """The captions of the memorised pictures, each from many noises: they are all there are, so
    the noise is what is drawn.
    """
    from adhere.pipelines.toybox.world.memorised import MEMORISED

    items = [
        Item(f"memorised-{number}-{noise:02d}", each.caption, tags=(f"caption {number}",))
        for number, each in enumerate(MEMORISED, 1)
        for noise in range(1, 41)
    ]
    return toybox("toybox-memorised", "captions of the memorised pictures", items)


MAKERS: tuple[Callable[[], Suite], ...] = (
    attend_and_excite,
    attend_and_excite_toybox,
    entities,
    multi_attribute,
    toybox_attributes,
    toybox_captions,
    toybox_entities,
    toybox_layouts,
    toybox_memorised,
    toybox_negatives,
    toybox_pairs,
    toybox_regions,
    toybox_relations,
    toybox_safety,
    toybox_two,
)


def made() -> Iterator[tuple[str, str]]:
    """File names and contents of all bundled suites."""
    for make in MAKERS:
        suite = make()
        yield f"{suite.name}.json", suite.to_text()


def write(folder: Path) -> None:
    """Write all bundled suites."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(bundled_folder())
