"""GenEval and LMD's tasks from file to verdict, against slow re-implementations."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adhere.errors import ModelError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Row, Shown
from adhere.eval.evaluators.finding import geneval, instances
from adhere.eval.evaluators.finding.geneval import CLASSES, COLOURS, GenEval
from adhere.eval.evaluators.finding.instances import Instance
from adhere.eval.evaluators.finding.lmd import LmdTasks
from adhere.eval.evaluators.finding.lmd import _Scorer as LmdScorer
from adhere.eval.evaluators.rules import lmd
from adhere.eval.evaluators.rules.composition import Found
from adhere.eval.suites import suites
from adhere.eval.suites.formats.lmd import item as lmd_item
from adhere.eval.suites.items import Item, Target
from tests.eval import fakes, tiny_models
from tests.eval.test_composition import slow_verdict

SIDE = 40
NOUNS = ("cat", "dog", "computer mouse", "bus")
PLURALS = {"cat": "cats", "dog": "dogs", "computer mouse": "computer mouses", "bus": "buses"}
HUES = {name: np.random.default_rng(n).random(3) for n, name in enumerate(COLOURS)}


LIKELY = ("red", "blue")


def metadata(rng: random.Random) -> dict[str, Any]:
    """A line as create_prompts.py writes it."""
    first, second = rng.sample(NOUNS, 2)
    tag = rng.choice(["single_object", "two_object", "counting", "colors", "position",
                      "color_attr"])  # fmt: skip
    if tag == "counting":
        count = rng.randint(2, 4)
        number = ("two", "three", "four")[count - 2]
        return {"tag": tag, "include": [{"class": first, "count": count}],
                "exclude": [{"class": first, "count": count + 1}],
                "prompt": f"a photo of {number} {PLURALS[first]}"}  # fmt: skip
    include: list[dict[str, Any]] = [{"class": first, "count": 1}, {"class": second, "count": 1}]
    if tag in ("single_object", "colors"):
        include = include[:1]
    if tag in ("colors", "color_attr"):
        for clause in include:
            clause["color"] = rng.choice(LIKELY)
    if tag == "position":
        include[1]["position"] = [rng.choice(["left of", "right of", "above", "below"]), 0]
    names = [f"a {one.get('color', '')} {one['class']}".replace("  ", " ") for one in include]
    return {"tag": tag, "include": include, "prompt": f"a photo of {' and '.join(names)}"}


def detected(rng: random.Random) -> list[Instance]:
    found = []
    for _ in range(rng.randint(0, 9)):
        x, y = rng.randint(0, 25), rng.randint(0, 25)
        mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        mask[y : y + rng.randint(3, 15), x : x + rng.randint(3, 15)] = True
        label = CLASSES.index(rng.choice(NOUNS))
        score = rng.choice([rng.random(), 0.9 + rng.random() / 10])
        found.append(Instance(label, score, instances.box_of(mask), mask))
    return found


class FakeClip:
    """Says a colour by the mean of a picture's pixels, in a direction for each colour."""

    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        means = [np.asarray(image, float).mean(axis=(0, 1)) for image in images]
        return torch.nn.functional.normalize(torch.tensor(np.array(means)), dim=-1)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        hues = [
            HUES[colour]
            for text in texts
            for colour in COLOURS
            if text.startswith((f"a photo of a {colour} ", f"a photo of a {colour}-colored "))
        ]
        assert len(hues) == len(texts)
        return torch.nn.functional.normalize(torch.tensor(np.array(hues)), dim=-1)


def slow_colour(pixels: np.ndarray, one: Instance) -> str:
    left, top, right, bottom = (round(value) for value in one.box)
    total = np.zeros(3)
    for y in range(top, bottom):
        for x in range(left, right):
            total += pixels[y, x] if one.mask[y, x] else np.array([0x99, 0x99, 0x99])
    cosines = [total @ hue / np.linalg.norm(total) / np.linalg.norm(hue) for hue in HUES.values()]
    return COLOURS[int(np.argmax(cosines))]


def slow_geneval(line: dict[str, Any], pixels: np.ndarray, found: list[Instance]) -> bool:
    """evaluate_images.py from the detector's output on, written down once more."""
    lowest = 0.9 if line["tag"] == "counting" else 0.3
    objects: dict[str, list[Found]] = {}
    for name in CLASSES:
        ones = [one for one in found if CLASSES[one.label] == name and one.score > lowest]
        ones = sorted(ones, key=lambda one: one.score, reverse=True)[:16]
        asked = [one for one in line["include"] if one["class"] == name and "color" in one]
        objects[name] = [
            Found(name, one.box, one.score, slow_colour(pixels, one) if asked else None)
            for one in ones
        ]
    include = [dict(clause) for clause in line["include"]]
    for clause in include:
        if "position" in clause:
            clause["position"] = (clause["position"][0].removesuffix(" of"), clause["position"][1])
    return slow_verdict(include, line.get("exclude", []), objects)


def test_geneval_from_its_file_to_the_verdict(tmp_path: Path) -> None:
    rng = random.Random(5)
    lines = [metadata(rng) for _ in range(500)]
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    suite = suites.read(path)
    scorer = geneval._Scorer(GenEval(), lambda image: pictured, FakeClip())  # type: ignore[arg-type]
    right = dict.fromkeys((line["tag"] for line in lines), 0)
    for item, line in zip(suite.items, lines, strict=True):
        pictured = detected(rng)
        hues = [rng.choice(LIKELY) for _ in range(4)]
        squares = np.array([255 * HUES[hue] / HUES[hue].max() for hue in hues]).reshape(2, 2, 3)
        pixels = squares.repeat(SIDE // 2, axis=0).repeat(SIDE // 2, axis=1).astype("u1")
        (row,) = scorer([Shown(Image.fromarray(pixels), fakes.entry(item))])
        assert isinstance(row, Row)
        expected = slow_geneval(line, pixels, pictured)
        assert row.values == {"geneval": expected}, line
        right[line["tag"]] += expected
    assert len(right) == 6
    assert min(right.values()) >= 4, right


def test_sixteen_of_a_class_count() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool)
    many = [Instance(15, 0.5 + n / 100, (0, 0, 4, 4), mask) for n in range(20)]
    kept = geneval.confident([*many, Instance(16, 0.3, (0, 0, 4, 4), mask)], 0.3)
    assert {name: len(some) for name, some in kept.items()} == {"cat": 16}
    assert min(one.score for one in kept["cat"]) == 0.54


def test_a_class_that_the_detector_does_not_know_is_told() -> None:
    scorer = geneval._Scorer(GenEval(), lambda image: [], FakeClip())  # type: ignore[arg-type]
    image = Image.new("RGB", (8, 8))
    asked = Item("1", "a dragon", (Target("dragon", "dragon"),))
    (row,) = scorer([Shown(image, fakes.entry(asked))])
    assert isinstance(row, str)
    assert "'dragon'" in row
    assert scorer([Shown(image, fakes.entry(Item("1", "sky")))]) == [Row({})]


def test_a_colour_that_it_does_not_know_is_told_and_not_a_failure() -> None:
    scorer = geneval._Scorer(GenEval(), lambda image: [], FakeClip())  # type: ignore[arg-type]
    asked = Item("1", "a gray car", (Target("car", "gray car", "gray"),))
    (row,) = scorer([Shown(Image.new("RGB", (8, 8)), fakes.entry(asked))])
    assert isinstance(row, str)
    assert "'gray'" in row


def test_instances_are_mmdets() -> None:
    generator = torch.Generator().manual_seed(3)
    classes = torch.randn(12, 6, generator=generator) * 3
    masks = torch.randn(12, 9, 7, generator=generator)
    masks[4] = -1
    pairs = []
    for query in range(12):
        logits = classes[query].double().numpy()
        shares = [float(v) for v in np.exp(logits) / np.exp(logits).sum()]
        inside = [(y, x) for y in range(9) for x in range(7) if masks[query, y, x] > 0]
        sure = sum(1 / (1 + np.exp(-float(masks[query, y, x]))) for y, x in inside)
        sure = sure / len(inside) if inside else 0.0
        pairs += [(shares[label], shares[label] * sure, label, inside) for label in range(5)]
    expected = sorted(pairs, key=lambda one: -one[0])[:60]
    found = list(instances.instances(classes, masks))
    assert len(found) == len(expected) == 60
    for one, (_, score, label, inside) in zip(found, expected, strict=True):
        assert (one.label, one.score) == (label, pytest.approx(score, rel=1e-4))
        ys, xs = [y for y, _ in inside], [x for _, x in inside]
        box = (min(xs), min(ys), max(xs) + 1, max(ys) + 1) if inside else (0, 0, 0, 0)
        assert one.box == box


def test_geneval_with_real_models(tmp_path: Path) -> None:
    detector = tiny_models.mask2former(tmp_path / "m2f")
    clip = tiny_models.clip(tmp_path / "clip")
    spec = f"geneval:detector={detector},clip={clip},threshold=0.0001"
    scorer: Any = evaluators.evaluator(spec).load("cpu")  # type: ignore[union-attr]
    image = fakes.noisy(50, 34)
    found = scorer.detector(image)
    assert len(found) == 100
    assert {tuple(one.mask.shape) for one in found} == {(34, 50)}
    item = Item("1", "a red cat", (Target("cat", "red cat", "red"),))
    (row,) = scorer([Shown(image, fakes.entry(item))])
    assert row.values["geneval"] in (0, 1)
    other = tiny_models.mask2former(tmp_path / "other", classes=3)
    with pytest.raises(ModelError, match="tells 3 classes apart"):
        evaluators.evaluator(f"geneval:detector={other},clip={clip}").load("cpu")  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="is a 'clip' model"):
        evaluators.evaluator(f"geneval:detector={clip},clip={clip}").load("cpu")  # type: ignore[union-attr]


# -- LMD


def slow_lmd(prompt: str, boxes: list[dict[str, Any]]) -> bool:
    """The authors' predicates on their own boxes: name and x, y, width, height."""

    def count(text: str) -> int:
        return len([box for box in boxes if text in box["name"]])

    words = prompt.split()
    if "without" in words:
        return count({"cats": "cat", "books": "book"}[words[-1]]) == 0
    if "on the" in prompt:
        first, _, rest = prompt.partition("with ")[2].partition(" on the ")
        side, _, second = rest.partition(" and ")
        second = second.partition(" on the ")[0]
        places = []
        for text in (first, second):
            named = [box for box in boxes if box["name"].endswith(text)]
            if not named:
                return False
            x, y, width, height = named[0]["bounding_box"]
            places.append((x + width / 2, y + height / 2))
        (ax, ay), (bx, by) = places
        return {"left": ax < bx, "right": ax > bx, "top": ay < by, "bottom": ay > by}[side]
    if " and " in prompt:
        first, _, second = prompt.partition("with ")[2].partition(" and ")
        return count(first) >= 1 and count(second) >= 1
    number = {"one": 1, "two": 2, "three": 3}[words[-2]]
    return count({"cats": "cat", "books": "book"}.get(words[-1], words[-1])) == number


def slow_nms(boxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    left = sorted(boxes, key=lambda box: box["score"], reverse=True)
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        ax, ay, aw, ah = best["bounding_box"]
        rest = []
        for box in left:
            bx, by, bw, bh = box["bounding_box"]
            width = max(0, min(ax + aw, bx + bw) - max(ax, bx))
            height = max(0, min(ay + ah, by + bh) - max(ay, by))
            if width * height / (aw * ah + bw * bh - width * height) < 0.5:
                rest.append(box)
        left = rest
    return kept


PROMPTS = [
    "A realistic photo of a scene without cats",
    "A realistic photo of a scene without books",
    "A realistic photo of a scene with one cat",
    "A realistic photo of a scene with two cats",
    "A realistic photo of a scene with three books",
    "A realistic photo of a scene with a red cat and an orange book",
    "A realistic photo of a scene with a cat on the left and a book on the right",
    "A realistic photo of a scene with a book on the right and a cat on the left",
    "A realistic photo of a scene with a cat on the top and a book on the bottom",
    "A realistic photo of a scene with a cat on the bottom and a book on the top",
]


def test_lmd_predicates_on_simulated_detections() -> None:
    rng = random.Random(7)
    right = dict.fromkeys(lmd.TASKS, 0)
    for number in range(3000):
        prompt = rng.choice(PROMPTS)
        item = lmd_item(str(number), prompt)
        queries = [lmd.QUERY.format(text) for text in lmd.texts(item)]
        boxes = [
            {"name": rng.choice(queries), "score": rng.random(),
             "bounding_box": [rng.randint(0, 60), rng.randint(0, 60),
                              rng.randint(5, 40), rng.randint(5, 40)]}
            for _ in range(rng.randint(0, 5))
        ]  # fmt: skip
        found = [
            Found(box["name"], (x, y, x + width, y + height), box["score"])
            for box in boxes
            for x, y, width, height in (box["bounding_box"],)
        ]
        expected = slow_lmd(prompt, slow_nms(boxes))
        assert lmd.holds(item, lmd.apart(found)) is expected, (prompt, boxes)
        right[lmd.task(item) or ""] += expected
    assert min(right.values()) > 50, right


def test_lmd_asks_as_its_authors_do() -> None:
    asked = [lmd.texts(lmd_item("1", prompt)) for prompt in PROMPTS]
    assert asked[0] == asked[2] == asked[3] == ("a cat",)
    assert asked[4] == ("a book",)
    assert asked[5] == ("a red cat", "an orange book")
    assert asked[6] == ("a cat", "a book")
    assert lmd.with_article("apple") == "an apple"
    with pytest.raises(ValueError, match="none of the tasks"):
        lmd.holds(Item("1", "a cat"), [])


def test_lmd_with_a_real_model(tmp_path: Path) -> None:
    folder = tiny_models.owlv2(tmp_path / "owl")
    scorer: Any = LmdScorer(LmdTasks(model=str(folder)), "cpu")
    image = fakes.noisy(64, 48)
    found = scorer.found(image, ("a cat", "a car"))
    assert {one.noun for one in found} <= {"a photo of a cat", "a photo of a car"}
    assert len(found) == 16
    (row,) = scorer([Shown(image, fakes.entry(lmd_item("1", PROMPTS[3])))])
    assert row.values["lmd"] in (0, 1)
    assert scorer([SimpleNamespace(image=image, entry=fakes.entry(Item("1", "sky")))]) == [Row({})]
    with pytest.raises(ModelError, match="'clip' model"):
        LmdTasks(model=str(tiny_models.clip(tmp_path / "clip"))).load("cpu")
