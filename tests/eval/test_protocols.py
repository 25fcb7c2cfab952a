"""Published rules against slow re-implementations, on simulated answers and detections."""

from __future__ import annotations

import random

import pytest

from adhere.eval.evaluators.asking import blip_vqa
from adhere.eval.evaluators.rules import protocols
from adhere.eval.evaluators.rules.composition import Found
from adhere.eval.suites.items import Item, Question, Target


def slow_dsg(answers: dict[int, str], dependency: dict[int, list[int]]) -> float:
    scores = {}
    for key, answer in answers.items():
        scores[key] = 1.0 if answer == "yes" else 0.0
    filtered = dict(scores)
    for key, parents in dependency.items():
        for parent in parents:
            if parent != 0 and scores[parent] == 0:
                filtered[key] = 0.0
    return sum(filtered.values()) / len(filtered)


def test_dsg_on_simulated_answers() -> None:
    rng = random.Random(1)
    for _ in range(500):
        count = rng.randint(1, 8)
        dependency = {
            key: rng.sample(range(1, key), rng.randint(0, min(2, key - 1))) or [0]
            for key in range(1, count + 1)
        }
        answers = {key: rng.choice(["yes", "no"]) for key in dependency}
        questions = [
            Question(str(key), "?", parents=tuple(str(p) for p in parents if p))
            for key, parents in dependency.items()
        ]
        right = {str(key): answer == "yes" for key, answer in answers.items()}
        assert protocols.dsg(questions, right) == pytest.approx(slow_dsg(answers, dependency))


def test_tifa_and_soft_tifa() -> None:
    questions = [Question(str(n), "?") for n in range(4)]
    assert protocols.tifa(questions, {"0": True, "1": False, "2": True, "3": True}) == 0.75
    am, gm = protocols.soft_tifa([0.5, 0.25, 1.0])
    assert (am, gm) == (pytest.approx(1.75 / 3), pytest.approx(0.5))
    assert protocols.soft_tifa([0.9, 0.0]) == (pytest.approx(0.45), 0.0)


def test_blip_vqa_rounds_as_published() -> None:
    rng = random.Random(2)
    for _ in range(200):
        shares = [rng.random() for _ in range(rng.randint(1, 9))]
        reward = 1.0
        for share in shares[:8]:
            reward *= float(f"{share:.4f}")
        assert protocols.blip_vqa(shares) == pytest.approx(float(f"{reward:.4f}"), abs=1e-12)


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("a green bench and a red car", ("a green bench", "a red car")),
        ("The fluffy rug is on the hard floor", ("The fluffy rug", "the hard floor")),
        ("two red apples and 3 green pears", ("two red apples", "3 green pears")),
        ("her red hat, all the old shoes", ("her red hat", "all the old shoes")),
        ("rubber ball next to a glass cup", ("rubber ball", "a glass cup")),
        ("a cat and a cat", ("a cat", "a cat")),
    ],
)
def test_blip_vqa_asks_for_whole_noun_chunks(prompt: str, chunks: tuple[str, ...]) -> None:
    """As spaCy cuts them, which the published questions are made of, also where one is twice."""
    assert blip_vqa.phrases(Item("1", prompt)) == chunks


def test_blip_vqa_asks_for_a_suites_things_likewise() -> None:
    things = (Target("dogs", "dogs", count=2), Target("car", "red car", "red"))
    asked = blip_vqa.phrases(Item("1", "Two dogs and the red car", things))
    assert asked == ("Two dogs", "the red car")


def slow_tiam(item: Item, found: list[Found]) -> int:
    kept = [one for one in found if one.score >= 0.5]
    gone = set()
    for i, a in enumerate(kept):
        for j, b in enumerate(kept):
            if a.noun == b.noun or i == j:
                continue
            width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
            height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
            both = max(width, 0) * max(height, 0)
            area = sum((k.box[2] - k.box[0]) * (k.box[3] - k.box[1]) for k in (a, b))
            if both / (area - both) >= 0.95:
                gone |= {i, j}
    kept = [one for i, one in enumerate(kept) if i not in gone]
    for thing in item.things:
        of = [one for one in kept if one.noun == thing.noun]
        if not of or (thing.colour and thing.colour not in [one.colour for one in of]):
            return 0
    return 1


def test_tiam_on_simulated_detections() -> None:
    rng = random.Random(3)
    total = 0
    for _ in range(1500):
        things = tuple(
            Target(noun, noun, rng.choice([None, "red", "blue"]))
            for noun in rng.sample(["cat", "car", "dog"], rng.randint(1, 3))
        )
        found = []
        for _ in range(rng.randint(0, 6)):
            x = rng.choice([0, 0, 30])
            box = (float(x), 0.0, x + rng.choice([40.0, 41.0, 20.0]), 40.0)
            noun = rng.choice(["cat", "car", "dog"])
            found.append(Found(noun, box, rng.random() * 0.7 + 0.3, rng.choice(["red", "blue"])))
        item = Item("1", "", things)
        expected = slow_tiam(item, found)
        assert protocols.tiam(item, found) == expected
        total += expected
    assert 100 < total < 1400


def test_free_answers_mean_a_choice() -> None:
    assert protocols.chosen("A cat.", ("cat", "dog")) == "cat"
    assert protocols.chosen("it is a red cat", ("cat", "dog")) == "cat"
    assert protocols.chosen("cat or dog", ("cat", "dog")) == "cat or dog"
    assert protocols.chosen("hot dog stand", ("dog", "hot dog")) == "hot dog stand"
    assert protocols.chosen("There are two.", ("1", "2", "3")) == "2"
    assert protocols.chosen("3", ("two", "Three")) == "Three"
