"""What words are to a picture: the equations, the texts, and the files."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import adhere
from adhere.errors import ParameterError, PromptError
from adhere.guides.run import Prompt
from adhere.pipelines.explaining.information import information, levels, parts
from adhere.pipelines.explaining.reader import Reader, chosen, without
from tests import tiny

WORDS = ["red", "cat", "car"]
PROMPT = "a red cat and a blue car"
NO = {
    "red": "a cat and a blue car",
    "cat": "a red and a blue car",
    "car": "a red cat and a blue",
}
NEITHER = {
    ("red", "cat"): "a and a blue car",
    ("red", "car"): "a cat and a blue",
    ("cat", "car"): "a red and a blue",
}


class Model:
    """Stands for the pictures: to every text a prediction of its own."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], float, int]] = []

    def eps(self, text: str, log_snr: float, draw: int) -> Tensor:
        seed = sum(map(ord, text)) + 1000 * draw + round(100 * log_snr)
        return torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(seed))

    def predicted(self, texts: Any, log_snr: float, draw: int = 0) -> Tensor:
        self.asked.append((tuple(texts), log_snr, draw))
        return torch.stack([self.eps(text, log_snr, draw)[None] for text in texts])


def slow(model: Model, one: str, other: str, count: int, draws: int) -> list[list[float]]:
    """I of each cell, term by term."""
    found = [[0.0] * 5 for _ in range(3)]
    for k, draw in itertools.product(range(count), range(draws)):
        alpha = -5 + 12 * (k + 0.5) / count
        gap = model.eps(one, alpha, draw) - model.eps(other, alpha, draw)
        for c, y, x in itertools.product(range(4), range(3), range(5)):
            found[y][x] += 0.5 * float(gap[c, y, x]) ** 2 * (12 / count) / draws
    return found


@pytest.mark.parametrize("context", [False, True])
def test_the_read_out_is_the_equations(context: bool) -> None:
    reader, model = Reader(tuple(reversed(WORDS)), context, levels=3, draws=2), Model()
    guide: Any = reader.guide(_run(PROMPT))
    guide.finished(model)
    found = reader.reading
    assert found is not None
    assert found.words == ("red", "cat", "car")
    for k, word in enumerate(found.words):
        base, under = (NO[word], PROMPT) if context else ("", word)
        wanted = torch.tensor(slow(model, base, under, 3, 2))
        torch.testing.assert_close(found.information[k], wanted, rtol=1e-4, atol=1e-4)
    for pair in found.pairs:
        a, b = pair.words
        if context:
            base, first, second, both = NEITHER[a, b], NO[b], NO[a], PROMPT
        else:
            base, first, second, both = "", a, b, f"{a} {b}"
        said = [slow(model, base, text, 3, 2) for text in (first, second, both)]
        for y, x in itertools.product(range(3), range(5)):
            one, two, joint = (values[y][x] for values in said)
            shared = min(one, two)
            assert float(pair.maps.redundant[y, x]) == pytest.approx(shared, rel=1e-4)
            assert float(pair.maps.unique[0][y, x]) == pytest.approx(one - shared, abs=1e-3)
            assert float(pair.maps.unique[1][y, x]) == pytest.approx(two - shared, abs=1e-3)
            assert float(pair.maps.synergistic[y, x]) == pytest.approx(
                joint - max(one, two), abs=1e-3
            )
    assert len(model.asked) == 6


def _run(prompt: str) -> Any:
    class Run:
        batch, prompts = 1, (Prompt(prompt),)

    return Run()


def test_the_parts_add_up_to_what_both_say() -> None:
    first, second, joint = torch.rand(3, 4, 4, dtype=torch.float64)
    found = parts(first, second, joint)
    torch.testing.assert_close(found.redundant + sum(found.unique) + found.synergistic, joint)
    assert float((found.unique[0] * found.unique[1]).abs().max()) == 0
    same = parts(first, first, first)
    assert float(same.synergistic.abs().max()) == 0
    torch.testing.assert_close(same.redundant, first)


def test_of_one_gaussian_the_information_is_known() -> None:
    """x ~ N(0, 1) of which y says all: I = 1/2 int (1 / (1 + e^a)) da, as sech sums to it.

    The best guess of the noise in x_a is x_a s without y, and the noise itself with y; the mean
    square of their difference is 1 / (1 + 1 / e^a) = the sigmoid of a.
    """
    ratios, width = levels(400)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(1, 1)
    for ratio in ratios:
        a, s = (torch.tensor(sign * ratio).sigmoid().sqrt() for sign in (1, -1))
        x, noise = torch.randn(2, 20_000, generator=generator)
        seen = a * x + s * noise
        total += information(
            (s * seen)[:, None, None, None], noise[:, None, None, None], width
        ).mean(0)
    exact = (math.log1p(math.exp(7)) - math.log1p(math.exp(-5))) / 2
    assert float(total) == pytest.approx(exact, rel=0.01)


def test_words_are_found_and_left_out() -> None:
    prompt = Prompt("a cat and a cat")
    assert [span.start for span in chosen(prompt, ("cat#2", "cat"))] == [2, 12]
    assert [span.text for span in chosen(Prompt(PROMPT), None)] == ["cat", "car"]
    assert without(PROMPT, chosen(Prompt(PROMPT), ("red", "car"))) == "a cat and a blue"


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["red"], PromptError, "compared two by two"),
        (["dog", "cat"], PromptError, "dog"),
        (["red cat", "cat"], PromptError, "share words"),
        ("cat", ParameterError, "list of phrases"),
        ([1, "cat"], ParameterError, "list of phrases"),
    ],
)
def test_bad_words_are_said_before_any_denoising(words: Any, error: Any, said: str) -> None:
    pipe = tiny.sd1()
    pipe.unet.forward = None
    with pytest.raises(error, match=said):
        adhere.explain(pipe, PROMPT, words, num_inference_steps=1, height=32, width=32)


@pytest.mark.parametrize("numbers", [{"levels": 0}, {"draws": 0}, {"levels": 2.5}])
def test_bad_numbers_are_said(numbers: Any) -> None:
    with pytest.raises(ParameterError, match="whole number"):
        adhere.explain(tiny.sd1(), PROMPT, **numbers)


def test_more_than_one_picture_is_refused() -> None:
    with pytest.raises(ParameterError, match="one picture is explained at a time"):
        adhere.explain(tiny.sd1(), PROMPT, num_images_per_prompt=2, num_inference_steps=1)
    with pytest.raises(ParameterError, match="one text"):
        adhere.explain(tiny.sd1(), [PROMPT])  # type: ignore[arg-type]


def test_an_explanation_is_kept_in_files(tmp_path: Path) -> None:
    size: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 64}

    def made() -> adhere.Explanation:
        generator = torch.Generator().manual_seed(0)
        return adhere.explain(tiny.sd1(), PROMPT, WORDS, levels=2, generator=generator, **size)

    found = made()
    assert found.information.shape == (3, 32, 32)
    plain = tiny.sd1()(PROMPT, generator=torch.Generator().manual_seed(0), **size).images[0]
    assert found.image.tobytes() == plain.tobytes()
    picture, numbers, maps = found.save(tmp_path)
    said = json.loads(numbers.read_text())
    assert [pair["words"] for pair in said["pairs"]] == [
        ["red", "cat"],
        ["red", "car"],
        ["cat", "car"],
    ]
    pair = said["pairs"][0]
    assert pair["redundant"] + pair["unique to red"] == pytest.approx(
        said["information"]["red"], rel=1e-4
    )
    tensors = load_file(maps)
    assert set(tensors) == set(found.tensors())
    torch.testing.assert_close(
        tensors["red + car/redundant"], found.pair("car", "red").maps.redundant
    )
    with Image.open(picture) as page:
        assert page.width > 7 * 64
    torch.testing.assert_close(made().information, found.information)
