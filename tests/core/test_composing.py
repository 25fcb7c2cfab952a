"""Layouts from a prompt's own words."""

from __future__ import annotations

import time
from itertools import combinations
from random import Random
from typing import Any

import pytest
import torch

import adhere
from adhere.errors import GuidanceWarning, LayoutError
from adhere.layout.composing import composed, unread
from adhere.layout.layout import Layout
from adhere.layout.reading import read
from adhere.pipelines.toybox.card.suites import related
from adhere.pipelines.toybox.world.captions import parse_prompt
from adhere.prompt.parser import parse

Centre = tuple[float, float]


def centres(prompt: str) -> dict[str, Centre]:
    """The centre of each phrase's ground, as (x, y) shares."""
    layout = composed(prompt)
    grid = 64
    found = {}
    for phrase, mask in zip(layout.phrases, layout.masks((grid, grid)), strict=True):
        rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
        found[phrase] = (float(columns.double().mean()) / grid, float(rows.double().mean()) / grid)
    return found


HOLDS = {
    "left": lambda a, b: a[0] < b[0] - 0.2 and abs(a[1] - b[1]) < 0.1,
    "right": lambda a, b: a[0] > b[0] + 0.2 and abs(a[1] - b[1]) < 0.1,
    "above": lambda a, b: a[1] < b[1] - 0.2 and abs(a[0] - b[0]) < 0.1,
    "below": lambda a, b: a[1] > b[1] + 0.2 and abs(a[0] - b[0]) < 0.1,
}


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("to the left of", "left"), ("left of", "left"), ("on the left side of", "left"),
        ("to the right of", "right"), ("on the right of", "right"), ("at the right of", "right"),
        ("above", "above"), ("over", "above"), ("on top of", "above"), ("sitting on", "above"),
        ("standing on top of", "above"), ("below", "below"), ("under", "below"),
        ("beneath", "below"), ("underneath", "below"),
    ],
)  # fmt: skip
def test_relations_are_read_in_the_words_people_use(words: str, way: str) -> None:
    found = centres(f"a red cat {words} a blue car")
    assert HOLDS[way](found["red cat"], found["blue car"])


def test_the_toyboxs_relations_hold_in_the_layout() -> None:
    """Prompts that this was not written for, against the toybox's own reading of them."""
    rng = Random(5)
    for _ in range(60):
        prompt = related(rng)
        asked = parse_prompt(prompt)
        (first, relation, second) = asked.relations[0]
        names = [f"{colour} {kind}" if colour else kind for kind, colour in asked.things]
        found = centres(prompt)
        assert HOLDS[relation](found[names[first]], found[names[second]]), prompt


def test_without_a_relation_things_stand_side_by_side_in_their_order() -> None:
    found = centres("a cat, a dog and a red frog")
    assert found["cat"][0] < found["dog"][0] < found["red frog"][0]


def test_chains_hold_in_both_directions() -> None:
    found = centres("a crown above a lion to the left of a clock")
    assert HOLDS["above"](found["crown"], found["lion"])
    assert found["lion"][0] < found["clock"][0]
    found = centres("a cat left of a dog left of a frog")
    assert found["cat"][0] < found["dog"][0] < found["frog"][0]


@pytest.mark.parametrize(
    ("place", "x", "y"),
    [
        ("on the left", 0.25, 0.5), ("on the right side", 0.75, 0.5),
        ("in the top left corner", 0.25, 0.25), ("at the bottom right", 0.75, 0.75),
    ],
)  # fmt: skip
def test_places_in_the_picture(place: str, x: float, y: float) -> None:
    found = centres(f"a clock {place} and a cat")
    assert found["clock"] == pytest.approx((x, y), abs=0.06)
    assert abs(found["cat"][0] - x) > 0.3
    assert centres(f"a clock {place}")["clock"] == pytest.approx((x, y), abs=0.06)


@pytest.mark.parametrize(
    "prompt",
    [
        "on the left a cat, on the right a frog",
        "On the left, a cat; on the right, a frog.",
        "on the right a frog and on the left a cat",
        "a cat on the left, a frog on the right",
        "a cat, on the left, and a frog, on the right",
        "a frog on the right side, a cat on the left side",
        "a frog, on the left a cat",
    ],
)
def test_places_stand_before_or_behind_their_things(prompt: str) -> None:
    boxes = {one.label: one.box for one in composed(prompt).regions}
    cat, frog = boxes["cat"], boxes["frog"]
    assert cat is not None
    assert frog is not None
    assert cat[2] <= 0.5 <= frog[0]


def test_the_thing_is_the_one_that_was_named_before() -> None:
    layout = composed("a lamp above a table, and a cat under the table")
    boxes = {one.label: one.box for one in layout.regions}
    assert set(boxes) == {"lamp", "table", "cat"}
    lamp, table, cat = (boxes[name] or (0, 0, 0, 0) for name in ("lamp", "table", "cat"))
    assert lamp[3] <= table[1] < table[3] <= cat[1]
    with pytest.raises(LayoutError, match="contradict each other"):
        composed("a cat above a dog, the dog above the cat")


def test_what_is_inside_lies_inside_and_is_painted_over() -> None:
    layout = composed("a cat inside a box")
    box, cat = layout.regions
    assert (box.phrase, cat.phrase) == ("box", "cat")
    assert box.box is not None and cat.box is not None  # noqa: PT018
    assert all(o <= i for o, i in zip(box.box[:2], cat.box[:2], strict=True))
    assert all(o >= i for o, i in zip(box.box[2:], cat.box[2:], strict=True))
    assert layout.overlap == "last"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("two", 2),
        ("three", 3),
        ("5", 5),
        ("a pair of", 2),
        ("a couple of", 2),
        ("a trio of", 3),
        ("two of the", 2),
        ("these two", 2),
    ],
)
def test_counts_make_as_many_places(words: str, count: int) -> None:
    layout = composed(f"{words} cats under a tree")
    mask = layout.masks((64, 64))[list(layout.phrases).index("cats")] > 0.5
    row = mask[mask.any(1)][0].int()
    assert int((row.diff() == 1).sum()) + int(row[0]) == count


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a cat and a dog on the beach", ["cat", "dog"]),
        ("a cat in a hat next to a dog", ["cat", "dog"]),
        ("a queen with a crown", ["queen"]),
        ("a cat and a cat", ["cat", "cat#2"]),
        ("a [red cat] under a [blue car]", ["red cat", "blue car"]),
    ],
)
def test_what_has_a_place_of_its_own(prompt: str, phrases: list[str]) -> None:
    assert sorted(composed(prompt).phrases) == sorted(phrases)


@pytest.mark.parametrize(
    ("prompt", "phrase", "count"),
    [
        ("twelve cats", "cats", 12),
        ("a dozen red cats and a dog", "red cats", 12),
        ("half a dozen cats", "cats", 6),
        ("a dog left of half a dozen cats", "cats", 6),
        ("10 cats left of a dog", "cats", 10),
        ("a dog left of seventeen cats", "cats", 17),
        ("thirty cats", "cats", 1),
        ("two dozen cats", "cats", 1),
        ("twenty five cats", "cats", 1),
    ],
)
def test_many_stand_in_rows_and_a_crowd_has_one_place(prompt: str, phrase: str, count: int) -> None:
    layout = composed(prompt)
    mask = layout.masks((256, 256))[list(layout.phrases).index(phrase)] > 0.5
    assert islands(mask) == count


def islands(mask: torch.Tensor) -> int:
    """How many pieces of ground there are, of which none touches another by a corner."""
    corners = torch.nn.functional.pad(mask.int(), (1, 1, 1, 1))
    cells = corners[1:, 1:], corners[:-1, 1:], corners[1:, :-1], corners[:-1, :-1]
    here, above, left, both = cells
    return int(((here == 1) & (above == 0) & (left == 0) & (both == 0)).sum())


@pytest.mark.parametrize(
    ("prompt", "things", "way"),
    [
        ("to the left of a tree is a cat", ("cat", "tree"), "left"),
        ("left of the tree, a red cat", ("red cat", "tree"), "left"),
        ("on a table, two apples", ("apples", "table"), "above"),
        ("a cat to the immediate left of a dog", ("cat", "dog"), "left"),
        ("a cat without a hat left of a dog", ("cat", "dog"), "left"),
        ("a dog left of eight cats", ("dog", "cats"), "left"),
    ],
)
def test_a_relation_may_stand_ahead_or_behind_other_words(
    prompt: str, things: tuple[str, str], way: str
) -> None:
    found = centres(prompt)
    assert HOLDS[way](*(found[one] for one in things))
    assert len(found) == 2


def test_what_is_between_has_one_on_either_side() -> None:
    found = centres("a cat between a dog and a bird")
    assert found["dog"][0] < found["cat"][0] < found["bird"][0]
    assert sorted(composed("a cat between two trees").phrases) == ["cat", "trees"]


def test_what_contains_another_thing_is_around_it() -> None:
    box, cat = composed("a box containing a cat").regions
    assert (box.phrase, cat.phrase) == ("box", "cat")
    assert box.box is not None and cat.box is not None  # noqa: PT018
    assert box.box[0] < cat.box[0] < cat.box[2] < box.box[2]


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("no cats and two dogs", ["dogs"]),
        ("a cat without a hat or a red scarf", ["cat"]),
        ("a cat with no hat and a dog", ["cat", "dog"]),
        ("a no parking sign", ["parking sign"]),
        ("a cat, not a dog", ["cat"]),
        ("a cat instead of a dog and a bird", ["bird", "cat"]),
    ],
)
def test_what_is_not_there_has_no_place(prompt: str, phrases: list[str]) -> None:
    assert sorted(composed(prompt).phrases) == phrases


def test_only_what_is_not_there_is_nothing_to_place() -> None:
    with pytest.raises(LayoutError, match="names nothing that can have a place"):
        composed("no cats")


@pytest.mark.parametrize("count", range(1, 8))
def test_any_number_of_things_fit_without_touching(count: int) -> None:
    names = ["cat", "dog", "frog", "car", "lion", "clock", "crown"][:count]
    layout = composed(", ".join(f"a {name}" for name in names))
    masks = layout.masks((128, 128)) > 0.5
    assert len(masks) == count
    for one, other in combinations(masks, 2):
        assert not (one & other).any()


def test_a_thing_that_is_named_twice_is_two_things() -> None:
    assert len(composed("a cat left of a dog and a dog left of a cat").regions) == 4


@pytest.mark.parametrize("prompt", ["", "in the top left corner", "red and blue"])
def test_a_prompt_without_things_is_refused(prompt: str) -> None:
    with pytest.raises(LayoutError, match="names nothing that can have a place"):
        composed(prompt)


@pytest.mark.parametrize(
    "given",
    [
        {"regions": [{"phrase": "cat", "box": [0, 0, 0.5, 1]}]},
        '{"regions": [{"phrase": "cat", "box": [0, 0, 0.5, 1]}]}',
        Layout.from_json({"regions": [{"phrase": "cat", "box": [0, 0, 0.5, 1]}]}),
    ],
)
def test_anything_may_write_the_layout(given: Any) -> None:
    asked: list[str] = []

    def model(prompt: str) -> Any:
        asked.append(prompt)
        return given

    assert adhere.composed("a cat", by=model).phrases == ("cat",)
    assert asked == ["a cat"]


@pytest.mark.parametrize(
    "given",
    ["I'm sorry, as a language model", {"regions": []}, {"regions": [{"phrase": "horse",
     "box": [0, 0, 1, 1]}]}, '{"regions": [{"phrase": "cat", "box": [0, 0, 0, 0]}]}'],
)  # fmt: skip
def test_what_it_writes_is_checked(given: Any) -> None:
    with pytest.raises(LayoutError):
        composed("a cat", by=lambda prompt: given)


CAT = {"phrase": "cat", "box": [0, 0, 0.5, 1]}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "a layout must be"),
        (b"{}", "a layout must be"),
        ({"regions": [CAT], 7: "seven", "x": 0}, "unknown '?7'?"),
        ({"regions": [{**CAT, "box": [0, 0, 1.5, 1]}]}, "out of range"),
        ({"regions": [CAT] * 5000}, "5000 regions"),
        ({"regions": [{**CAT, "box": None}]}, "no place"),
    ],
)
def test_rubbish_is_a_sentence(given: Any, says: str) -> None:
    with pytest.raises(LayoutError, match=says):
        composed("a cat", by=lambda prompt: given)


def test_a_writer_that_fails_is_named() -> None:
    def model(prompt: str) -> Any:
        raise TimeoutError("the server is busy")

    with pytest.raises(LayoutError, match="'model' wrote no layout of 'a cat': TimeoutError: the"):
        composed("a cat", by=model)

    async def later(prompt: str) -> Any:
        return {"regions": [CAT]}

    with pytest.raises(LayoutError, match=r"'later' wrote no layout .* async function"):
        composed("a cat", by=later)

    def stopped(prompt: str) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        composed("a cat", by=stopped)


@pytest.mark.parametrize("said", [{}, {"prompt": "a cat on a beach"}])
def test_what_is_written_is_of_the_prompt_that_was_asked(said: dict[str, str]) -> None:
    """A layout's file brings its prompt: another one would be drawn from it."""
    layout = composed("a [red|cat]", by=lambda prompt: {**said, "regions": [CAT]})
    assert layout.prompt == "a red cat"


# ---- Sentences that people write, and where their things are -------------------------------------


def grounds(prompt: str) -> dict[str, Any]:
    """Each phrase's ground on a grid."""
    layout = composed(prompt)
    masks = (Layout((one,)).masks((100, 100))[0] > 0.5 for one in layout.regions)
    return {one.phrase: mask for one, mask in zip(layout.regions, masks, strict=True)}


def bounds(ground: Any) -> tuple[int, int, int, int]:
    rows, columns = torch.nonzero(ground, as_tuple=True)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def order(prompt: str) -> list[str]:
    """Phrases from left to right, those of one column from top to bottom."""
    found = {phrase: bounds(ground) for phrase, ground in grounds(prompt).items()}
    return sorted(found, key=lambda phrase: found[phrase][:2])


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        # A relation is of all that stand in a row of words before it.
        ("three cats and two dogs right of a tree", ["tree", "cats", "dogs"]),
        ("a cat, a dog and a bird right of a tree", ["tree", "cat", "dog", "bird"]),
        ("a cat left of a dog and a bird right of a tree", ["cat", "tree", "dog", "bird"]),
        ("a cat and a dog right of the cat", ["cat", "dog"]),
        # "It" is the thing before, or what that was beside.
        ("a dog with a cat on its left", ["cat", "dog"]),
        ("a dog and a cat to the left of it", ["cat", "dog"]),
        ("a cat, and to its left a dog", ["dog", "cat"]),
        ("a cat to the left of it is a dog", ["dog", "cat"]),
        ("a dog, a cat on its left and a bird on its right", ["cat", "dog", "bird"]),
        ("a tree and a cat on top of it", ["cat", "tree"]),
        ("a table with a lamp on it", ["lamp", "table"]),
        ("a man with a hat on his head", ["man"]),
        ("a cat and a dog above each other", ["cat", "dog"]),
        # Behind "and", the first thing again.
        ("a red cat, right of a blue car and left of a bird", ["blue car", "red cat", "bird"]),
        ("a cat left of a dog and right of a bird", ["bird", "cat", "dog"]),
        ("a bird between two dogs, left of a tree", ["dogs", "bird", "tree"]),
        ("between a dog and a bird is a cat", ["dog", "cat", "bird"]),
        # Turned round.
        ("a cat is not left of a dog", ["dog", "cat"]),
        ("a cat isn't to the right of a dog", ["cat", "dog"]),
        ("a cat and a dog, from right to left", ["dog", "cat"]),
        ("a cat and a dog, from bottom to top", ["dog", "cat"]),
        ("the right dog is blue, the left dog is red", ["left dog", "right dog"]),
        ("a cat to the right, a dog to the left", ["dog", "cat"]),
        # One over the other, and one between others.
        ("a cat and a dog, one above the other", ["cat", "dog"]),
        ("a cat and a dog stacked on top of each other", ["cat", "dog"]),
        ("a cat, a dog and a bird between them", ["cat", "bird", "dog"]),
        ("a cat and a dog with a bird in between", ["cat", "bird", "dog"]),
        ("a cat flanked by a dog and a bird", ["dog", "cat", "bird"]),
        # A relation is to all that stand in a row of words behind it, unless more is said of them.
        ("a bird, a cat right of a dog and a frog", ["bird", "dog", "frog", "cat"]),
        ("a cat right of a dog, a bird and a tree", ["dog", "bird", "tree", "cat"]),
        ("a cat right of a dog, and a bird", ["dog", "bird", "cat"]),
        ("a cat on a mat and a dog", ["cat", "mat", "dog"]),
        ("a cat right of a dog and a bird is asleep", ["dog", "bird", "cat"]),
        # Numbers and quantities stand before things.
        ("a cat right of a bunch of bananas", ["bananas", "cat"]),
        ("a cat right of several of the dogs", ["dogs", "cat"]),
        ("a cat right of half a dozen eggs", ["eggs", "cat"]),
        ("two dogs and a cat. The two dogs are right of the cat.", ["cat", "dogs"]),
        # What is said behind a relation is of its first thing.
        ("a dog left of a tree. The tree is left of a bird.", ["dog", "tree", "bird"]),
        # Owners have no place where what they own has one; parts and clothes go with their owner.
        ("the cat's bowl is right of the dog's bone", ["bone", "bowl"]),
        ("the old queen's crown right of a woman's red purse", ["red purse", "crown"]),
        ("the cat's tail is right of the dog", ["dog", "cat"]),
        ("a girl whose dress is green right of a boy whose hat is red", ["boy", "girl"]),
        ("the tower has a clock on its roof", ["tower"]),
        ("a girl in a red dress and black boots right of a boy", ["boy", "girl"]),
        # Where a scene plays is everywhere.
        ("a haunted meadow with a red cat right of a blue car", ["blue car", "red cat"]),
        ("a frog and a rabbit under the stars, by the sea", ["frog", "rabbit"]),
        ("a picture on the wall right of a bed", ["bed", "picture"]),
        ("a bathroom with a red tub right of a green sink", ["green sink", "red tub"]),
        ("a bottle stands on the right, a can on the left", ["can", "bottle"]),
        ("a square right of a giant, which is right of an oval", ["oval", "giant", "square"]),
        # "Which" and "whom" are the thing before.
        ("a boy to the left of whom stands a girl", ["girl", "boy"]),
        ("a table on which there is a vase", ["vase", "table"]),
        # What has a place of its own.
        ("at the right of the image is a cat, at the left of the image a dog", ["dog", "cat"]),
        ("a bird, a cat to the right of the dog", ["bird", "dog", "cat"]),
        ("a cat right, a dog left", ["dog", "cat"]),
        ("a cat to the right hand side of a dog", ["dog", "cat"]),
        ("a cat\u2014right of a dog\u2014and a bird", ["dog", "bird", "cat"]),
        ("the rightmost cup is red, the leftmost mug is blue", ["leftmost mug", "rightmost cup"]),
        ("the cat on the right is red, the cat on the left is blue", ["cat#2", "cat"]),
        ("on the right is a cat and left of the cat is a dog", ["dog", "cat"]),
        ("a bird, a cat side by side with a dog", ["bird", "cat", "dog"]),
        ("a photo of a cat right of a photo of a dog", ["dog", "cat"]),
        ("a dog left of a painting of a cat", ["dog", "painting"]),
        # A sentence that begins with a place is of the thing that comes.
        ("There is a cat. To the left of the cat is a dog.", ["dog", "cat"]),
        ("A cat and a dog. To the left of the cat is a bird.", ["dog", "bird", "cat"]),
        (
            "There are a cat and a dog. Between the cat and the dog is a bird.",
            ["cat", "bird", "dog"],
        ),
        ("a cat on the dog's right", ["dog", "cat"]),
        ("A red cat and a blue dog. The cat is right of the dog.", ["blue dog", "red cat"]),
        ("a red cat right of a cat", ["cat#2", "red cat"]),
        ("a cat, right of a dog, a bird", ["dog", "bird", "cat"]),
        # Places of the picture.
        ("a cat on the far right and a dog on the very far left", ["dog", "cat"]),
        ("right: a cat, left: a dog", ["dog", "cat"]),
        ("a cat (right), a dog (left)", ["dog", "cat"]),
        ("a cat at right, a dog at left", ["dog", "cat"]),
        ("a cat to the right-hand side of a dog", ["dog", "cat"]),
        ("a cat in the middle and a dog on the left", ["dog", "cat"]),
        ("a cat, a dog and a bird in the middle", ["cat", "bird", "dog"]),
        ("a cat in the bottom-right corner, a dog in the top-left corner", ["dog", "cat"]),
        # What is no thing.
        ("a dog on the right of the picture", ["dog"]),
        ("the cat's left ear", ["cat"]),
        ("zero cats and a dog", ["dog"]),
        ("two dogs and 0 cats", ["dogs"]),
        ("a cat (right of a dog)", ["dog", "cat"]),
        ("a cat right of another cat", ["cat#2", "cat"]),
        ("a cat right of its bowl", ["bowl", "cat"]),
    ],
)
def test_things_are_where_the_words_have_them(prompt: str, phrases: list[str]) -> None:
    assert order(prompt) == phrases


@pytest.mark.parametrize(
    ("prompt", "upper", "lower"),
    [
        ("a balloon on the top of a giraffe", "balloon", "giraffe"),
        ("a mouse on the bottom of a bee", "bee", "mouse"),
        ("two men ride on the back of a gray elephant", "men", "gray elephant"),
        ("the top shelf holds a vase, the bottom shelf a book", "top shelf", "bottom shelf"),
        ("on top of the table a cat, under the table a dog", "table", "dog"),
        ("a red apple above a large stack of books", "red apple", "books"),
        ("a cat left of a dog is above a bird", "cat", "bird"),
        ("a cat, which is left of a dog, sits above a bird", "cat", "bird"),
        ("a cat above a dog and a bird", "cat", "dog"),
        ("a cat above a dog and a bird", "cat", "bird"),
        ("the parrot whose feathers are red sits on an anchor", "parrot", "anchor"),
        ("a pizza with red tomatoes and green basil on a plate", "pizza", "plate"),
    ],
)
def test_things_are_over_one_another(prompt: str, upper: str, lower: str) -> None:
    found = grounds(prompt)
    assert bounds(found[upper])[3] <= bounds(found[lower])[1]


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a cat north of a dog", ["cat", "dog"]),
        ("a cat at the foot of a tree", ["cat", "tree"]),
        ("a horse in the middle of a meadow", ["horse"]),
    ],
)
def test_a_thing_beside_words_that_no_rule_reads_has_a_place(
    prompt: str, phrases: list[str]
) -> None:
    with pytest.warns(GuidanceWarning):
        assert sorted(composed(prompt).phrases) == phrases


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat on either side of a tree", "cats on both sides of a tree",
        "two cats on each side of a tree", "a tree with a cat on either side",
    ],
)  # fmt: skip
def test_what_is_on_either_side_is_on_both(prompt: str) -> None:
    found = grounds(prompt)
    left, _, right, _ = bounds(found["tree"])
    (cats,) = (mask for phrase, mask in found.items() if phrase != "tree")
    assert cats[:, :left].any()
    assert cats[:, right:].any()


def test_a_pair_of_what_is_one_thing_is_one() -> None:
    assert composed("a pair of scissors").regions[0].box is not None
    assert composed("a pair of shoes").regions[0].mask is not None


def test_reading_takes_a_time_in_proportion_to_the_prompt() -> None:
    """Ten times as many things: a time that grew with the square would be a hundred times."""

    def seconds(count: int) -> float:
        prompt = " and ".join(f"a thing{k} with a hat" for k in range(count))
        parse(prompt)
        begun = time.process_time()
        read(prompt)
        return time.process_time() - begun

    assert seconds(1000) < 40 * min(seconds(100) for _ in range(3))


@pytest.mark.parametrize("words", ["surrounded by", "among", "amid"])
def test_what_is_among_others_is_over_their_ground(words: str) -> None:
    for prompt in (f"a castle {words} trees", "trees surrounding a castle"):
        trees, castle = composed(prompt).regions
        assert (trees.phrase, castle.phrase) == ("trees", "castle")
        assert trees.box is not None and castle.box is not None  # noqa: PT018
        assert trees.box[0] < castle.box[0] < castle.box[2] < trees.box[2]
    found = grounds(f"a castle {words} two dragons")
    left, _, right, _ = bounds(found["castle"])
    assert found["dragons"][:, :left].any()
    assert found["dragons"][:, right:].any()


@pytest.mark.parametrize(
    ("prompt", "centre"),
    [
        ("a cat in the centre", 0.5),
        ("a cat in the middle of the picture, a dog on the left", 0.5),
        ("a cat in the center, left of a dog", 0.5),
        ("a cat in the left third", 0.25),
    ],
)
def test_the_middle_of_the_picture(prompt: str, centre: float) -> None:
    assert centres(prompt)["cat"] == pytest.approx((centre, 0.5), abs=0.02)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a cat and a dog, the background is far behind", ["behind"]),
        ("a dog in the back of a truck", ["in the back of"]),
        ("a dog running around a tree", ["around"]),
        ("a castle beyond a river", ["beyond"]),
        ("a cat in the corner", ["in the corner"]),
        ("a cat above-left of a dog", ["above-left of"]),
        ("a bird at the top of a tree and a cat", ["at the top of"]),
        ("three cats one above the other", ["above"]),
        ("a bird between them", ["between"]),
        ("a cat at the left or right and a dog", ["right"]),
        ("a cat to the left and right of a dog", ["to the left"]),
        ("a cat at the foot of a tree", ["at the foot of"]),
        ("a plate and a glass of water to its right", ["to its right"]),
        ("a cat facing a dog, across from a bird", ["facing", "across from"]),
        ("a cat?left of a dog", ["left of"]),
        ('a "red cat" left of a blue dog', ["left of", '"red cat"']),
        ("a cat north of a dog", ["north of"]),
        ("a cat left of the cat", ["left of"]),
    ],
)
def test_places_that_no_rule_reads_are_said(prompt: str, words: list[str]) -> None:
    with pytest.warns(GuidanceWarning) as told:
        composed(prompt)
    (sentence,) = (str(one.message) for one in told)
    assert f"no rule of layouts reads {', '.join(map(repr, words))}; what" in sentence


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat and a dog side by side",
        "a cat, a dog and a bird in a row",
        "a cat and a dog, from left to right",
        "two cats, one on the left and one on the right",
        'a sign that says "left of the dog" and a cat',
        "a man with a scar on his left cheek",
        "three cats inside a house",
        "a cat with a dog beside it",
        "a red cat on a blue background",
    ],
)
def test_what_is_read_or_says_no_place_is_not_complained_of(prompt: str) -> None:
    composed(prompt)  # warnings are errors here


@pytest.mark.parametrize(
    "prompt", ["ein Hund links von einer Katze", "un perro a la izquierda de un gato"]
)
def test_a_prompt_in_another_language_is_not_one_thing_in_silence(prompt: str) -> None:
    with pytest.warns(GuidanceWarning, match="was read as the name of one thing; .* English"):
        composed(prompt)
    assert "English" in unread(prompt)
    marked = prompt.replace("Hund", "[Hund]").replace("perro", "[perro]")
    composed(marked)  # without a warning


def test_a_prompt_in_another_script_is_told_what_is_read() -> None:
    with pytest.raises(LayoutError, match="the parser reads English"):
        composed("\u043a\u043e\u0448\u043a\u0430 \u0438 \u043f\u0451\u0441")


def test_things_that_are_named_twice_are_told_apart_in_any_letters() -> None:
    things = composed("an \u0130ce cat and an \u0130ce cat").phrases
    assert things == ("\u0130ce cat", "\u0130ce cat#2")


def test_a_prompt_in_quotation_marks_is_told_what_they_mean() -> None:
    with pytest.raises(LayoutError, match="quotation marks is read as writing in the picture"):
        composed('"a cat left of a dog"')


@pytest.mark.parametrize("words", ["above and to the left of", "to the left of and above"])
def test_two_relations_at_once_are_a_diagonal(words: str) -> None:
    cat, dog = map(bounds, grounds(f"a cat {words} a dog").values())
    assert cat[2] <= dog[0]
    assert cat[3] <= dog[1]


@pytest.mark.parametrize("prompt", ["a cat between two dogs", "between two dogs is a cat"])
def test_what_is_between_several_of_a_kind_has_some_on_either_side(prompt: str) -> None:
    found = grounds(prompt)
    left, _, right, _ = bounds(found["cat"])
    columns = found["dogs"].any(dim=0)
    assert columns[:left].any()
    assert columns[right:].any()
    assert not columns[left:right].any()


def test_what_contradicts_itself_behind_and_is_said() -> None:
    with pytest.raises(LayoutError, match="'cat' above 'dog'; 'cat' below 'dog'"):
        composed("a cat above a dog and below the dog")


# ---- Depth ---------------------------------------------------------------------------------------


def painted(layout: Layout) -> list[str]:
    """The things of a layout from the back, and that those in front stand lower and cover part."""
    assert layout.overlap == "last"
    boxes = [region.cover((64, 64)) > 0.5 for region in layout.regions]
    for k, name in enumerate(layout.phrases):
        assert layout.mask(name, (64, 64)).sum() > 0.3 * boxes[k].sum(), "all are seen"
    return list(layout.phrases)


NEARER = {
    "in front of": True, "right in front of": True, "standing in front of": True,
    "behind": False, "directly behind": False, "hidden by": False, "hiding behind": False,
    "is standing behind": False, "peeking out from behind": False, "obscured by": False,
}  # fmt: skip


@pytest.mark.parametrize("words", NEARER)
@pytest.mark.parametrize(
    ("one", "other"),
    # The forms of T2I-CompBench's "3d spatial" prompts, and of its "complex" ones.
    [
        ("a pig", "a clock"),
        ("a girl", "a television"),
        ("The soft pillow", "the hard rocking chair"),
    ],
)
def test_what_is_in_front_is_lower_and_covers_part_of_what_is_behind(
    one: str, other: str, words: str
) -> None:
    layout = composed(f"{one} {words} {other}")
    things = tuple(name.split(" ", 1)[1] for name in (one, other))
    assert painted(layout) == list(things[::-1] if NEARER[words] else things)
    behind, front = (region.box for region in layout.regions)
    assert behind is not None and front is not None  # noqa: PT018
    assert behind[1] < front[1] < behind[3] < front[3], "lower, and over part of it"
    seen = layout.masks((64, 64)).sum(dim=(1, 2))
    assert seen[1] > seen[0], "the one in front has more of the picture"


@pytest.mark.parametrize(
    ("prompt", "from_the_back"),
    [
        ("a cat with a dog behind it", ["dog", "cat"]),
        ("a cat with a dog in front of it", ["cat", "dog"]),
        ("a cat with a dog in front", ["cat", "dog"]),
        ("in front of a house is a cat", ["house", "cat"]),
        ("behind the tree there is a dog", ["dog", "tree"]),
        ("a cat not behind a dog", ["dog", "cat"]),
        ("a desk hidden by a desk", ["desk", "desk#2"]),
        ("a car with a tree in front of it and a dog behind it", ["dog", "car", "tree"]),
        ("a cat in front of a dog in front of a horse", ["horse", "dog", "cat"]),
        ("a cat, a dog and a bird from front to back", ["bird", "dog", "cat"]),
        ("two cats in front of a house", ["house", "cats"]),
        ("a cat with mountains in the background", ["mountains", "cat"]),
        ("in the background a house, in the foreground a cat", ["house", "cat"]),
        ("a cat in the background behind a tree", ["cat", "tree"]),
        ("a cat in the foreground behind a dog", ["cat", "dog"]),
        ("a cat and a dog with a house behind them", ["house", "cat", "dog"]),
        ("a cat inside a box in front of a horse", ["horse", "box", "cat"]),
    ],
)
def test_depth_is_read_in_the_words_people_use(prompt: str, from_the_back: list[str]) -> None:
    assert painted(composed(prompt)) == from_the_back


def test_depth_goes_with_sides() -> None:
    cat, dog = (
        composed("a cat in front of and to the left of a dog").regions[k].box for k in (1, 0)
    )
    assert cat is not None and dog is not None  # noqa: PT018
    assert cat[0] < dog[0] < cat[2] < dog[2]
    assert dog[1] < cat[1] < dog[3] < cat[3]
    found = centres("a cat left of a dog, with a castle in the background")
    assert HOLDS["left"](found["cat"], found["dog"])
    assert found["castle"][1] < min(found["cat"][1], found["dog"][1]) - 0.2
    found = centres("a cat on a mat in front of a fireplace")
    assert HOLDS["above"](found["cat"], found["mat"])
    found = centres("a cat left of a tree, a dog in front of the tree")
    assert found["cat"][0] < min(found["tree"][0], found["dog"][0]) - 0.2


@pytest.mark.parametrize("words", ["a brick wall", "the sea", "the camera", "a forest"])
def test_what_all_the_picture_is_before_has_no_place(words: str) -> None:
    (cat,) = composed(f"a cat in front of {words}").regions  # without a warning
    assert cat.box == pytest.approx((0.04, 0.04, 0.96, 0.96))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (
            "a cat left of a tree and a dog right of the tree, the cat in front of the dog",
            "in front",
        ),
        ("a cat in front of a dog and behind the dog", "'in front of', 'behind'"),
        ("a cat in the foreground left of a dog in the background", "in the foreground"),
    ],
)
def test_depth_that_other_words_contradict_changes_nothing_and_is_said(
    prompt: str, words: str
) -> None:
    with pytest.warns(GuidanceWarning, match=words):
        layout = composed(prompt)
    assert layout.overlap == "refuse"
    assert words in unread(prompt)


def test_what_surrounds_a_thing_is_on_all_sides_of_it() -> None:
    for prompt in ("a fence around a house", "people sitting around a table"):
        outer, inner = composed(prompt).regions
        assert outer.box is not None and inner.box is not None  # noqa: PT018
        assert outer.box[0] < inner.box[0] < inner.box[2] < outer.box[2]
    (cat,) = composed("a cat with a scarf around its neck").regions
    assert cat.phrase == "cat"


def test_several_in_one_thing_share_the_place_in_it() -> None:
    """They had all of it each, so that only the last one had a place."""
    for prompt in (
        "a cat inside a box and a dog inside the box",
        "a cat between two dogs and a bird between the two dogs",
    ):
        found = grounds(prompt)
        sizes = [
            float(ground.sum()) for name, ground in found.items() if name not in ("box", "dogs")
        ]
        assert min(sizes) > 0.8 * max(sizes)
    found = centres("a cat inside a box, a dog inside the box. The dog is left of the cat.")
    assert found["dog"][0] < found["cat"][0] - 0.1


def test_what_is_in_a_thing_between_others_is_there() -> None:
    found = centres("a bird inside a cup between two cats")
    assert found["bird"] == pytest.approx(found["cup"], abs=0.02)
