"""SAFREE where the picture attends to T5's tokens alone, against its projections in NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import ModelError
from adhere.plugins.bind.dos import Dos
from adhere.plugins.safe.safree import Safree
from tests.families.cases import CASES, T5

PROMPT = "a red frog and a blue bird"  # a token each, the first in column 0
CONCEPTS = ("a dog", "car")
MARGIN = 0.0

ENCODED: dict[str, Callable[[Any, str], Tensor]] = {
    "flux": lambda pipe, text: pipe.encode_prompt(text, None, max_sequence_length=T5)[0],
    "chroma": lambda pipe, text: pipe.encode_prompt(
        text, do_classifier_free_guidance=False, max_sequence_length=T5
    )[0],
    "pixart": lambda pipe, text: pipe.encode_prompt(text, False, max_sequence_length=T5)[0],
}


def told(name: str, guidance: Guidance) -> tuple[np.ndarray, dict[str, Any]]:
    """What the transformer is told of the prompt at its first step, and the method's report."""
    case, seen = CASES[name], list[Tensor]()
    plain = case.pipe.transformer.forward

    @functools.wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["encoder_hidden_states"][-1])
        return plain(*args, **kwargs)

    case.pipe.transformer.forward = forward
    try:
        with guidance.attach(case.pipe) as attached:
            case([PROMPT], seeds=[0], steps=1, guided=False)
    finally:
        del case.pipe.transformer.forward
    return seen[0].double().numpy(), attached.report.plugins["safree"]


def onto(vectors: np.ndarray) -> np.ndarray:
    """The projection on what some vectors span, by their singular vectors."""
    _, sizes, rows = np.linalg.svd(vectors, full_matrices=False)
    rows = rows[sizes > 1e-6 * sizes[0]]
    return rows.T @ rows


@pytest.mark.parametrize("name", ENCODED)
def test_words_and_embeddings(name: str) -> None:
    pipe = CASES[name].pipe
    tokenizer = getattr(pipe, "tokenizer_2", None) or pipe.tokenizer

    def encoded(text: str) -> np.ndarray:
        with torch.no_grad():
            return ENCODED[name](pipe, text)[0].double().numpy()

    def whole(text: str) -> np.ndarray:
        read = text.strip() if name == "pixart" else text
        count = len(tokenizer(read).input_ids) - 1  # without its end
        return encoded(text)[:count].mean(axis=0)

    words = PROMPT.split()
    starts = [len(" ".join(words[:k])) + (k > 0) for k in range(len(words))]
    without = np.stack([
        whole(PROMPT[:start] + PROMPT[start + len(word) :])
        for start, word in zip(starts, words, strict=True)
    ])  # fmt: skip
    own, away = encoded(PROMPT), np.eye(32) - onto(np.stack([whole(one) for one in CONCEPTS]))
    d = [float(np.linalg.norm(away @ one)) for one in without]
    unsafe = [k for k in range(7) if d[k] >= (1 + MARGIN) * (sum(d) - d[k]) / 6]
    expected = own.copy()
    for k in unsafe:
        expected[k] = away @ onto(without) @ own[k]

    found, report = told(name, Guidance(Safree(CONCEPTS, margin=MARGIN)))
    np.testing.assert_allclose(found[: len(own)], expected, rtol=1e-3, atol=1e-4)
    assert report["unsafe_words"] == [[words[k] for k in unsafe]]
    assert 0 < len(unsafe) < 7
    assert np.abs(expected - own).max() > 0.01


@pytest.mark.parametrize(
    ("name", "plugin", "said"),
    [
        ("flux", Dos(), r"^dos: texts are compared by what CLIP's last token .* T5's tokens alone"),
        ("flux2", Safree(CONCEPTS), r"^safree: texts can be compared as CLIP and T5 .* language"),
        ("qwen-image", Safree(CONCEPTS), r"^safree: texts can be compared as CLIP and T5"),
        ("sana", Safree(CONCEPTS), r"^safree: texts can be compared as CLIP and T5"),
    ],
)
def test_where_no_text_can_be_compared_it_says_why(name: str, plugin: Any, said: str) -> None:
    case = CASES[name]
    with Guidance(plugin).attach(case.pipe), pytest.raises(ModelError, match=said):
        case([PROMPT], seeds=[0], steps=1)
