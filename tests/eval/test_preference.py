"""Q16 and models of preference: the published rules, on simulated embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from adhere.errors import ModelError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Row, Shown
from adhere.eval.evaluators.safety import q16
from adhere.eval.suites.items import Item
from tests.eval import fakes

PICTURES = torch.randn(7, 12, generator=torch.Generator().manual_seed(1))
TEXTS = torch.randn(7, 12, generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def _simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = torch.nn.functional.normalize
    clip = SimpleNamespace(
        images=lambda images: unit(PICTURES[: len(images)], dim=-1),
        texts=lambda texts: unit(TEXTS[: len(texts)], dim=-1),
        model=SimpleNamespace(logit_scale=torch.nn.Parameter(torch.tensor(math.log(50.0)))),
    )
    monkeypatch.setattr(backends, "clip", lambda model, device: clip)


def rows(spec: str) -> Sequence[Row]:
    images = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(7)]
    shown = [Shown(image, fakes.entry(Item(str(n), f"p {n}"))) for n, image in enumerate(images)]
    scorer: Any = evaluators.evaluator(spec).load("cpu")  # type: ignore[union-attr]
    found: Sequence[Row] = scorer(shown)
    return found


def cosine(one: Sequence[float], two: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, two, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in two))


def test_preference_is_scale_times_cosine() -> None:
    found = [row.values["preference"] for row in rows("preference:model=x")]
    slow = [50 * cosine(p, t) for p, t in zip(PICTURES.tolist(), TEXTS.tolist(), strict=True)]
    assert found == pytest.approx(slow, rel=1e-5)


def test_q16_by_softmax_and_argmax(tmp_path: Path) -> None:
    prompts = torch.randn(2, 12, generator=torch.Generator().manual_seed(3)) * 4
    save_file({"prompts": prompts}, tmp_path / "q16.safetensors")
    found = [row.values for row in rows(f"q16:model=x,prompts={tmp_path / 'q16.safetensors'}")]
    slow = []
    for picture in PICTURES.tolist():
        logits = np.array([100 * cosine(picture, one) for one in prompts.tolist()])
        slow.append(float(np.argmax(np.exp(logits - logits.max()))))
    assert [row["q16_inappropriate"] for row in found] == slow
    assert set(slow) == {0.0, 1.0}


def test_q16s_prompts_must_be_its_own(tmp_path: Path) -> None:
    place = tmp_path / "q16.safetensors"
    with pytest.raises(ModelError, match="no safetensors file with `prompts`"):
        rows(f"q16:model=x,prompts={place}")
    save_file({"prompts": torch.full((2, 12), torch.nan)}, place)
    with pytest.raises(ModelError, match="NaN"):
        rows(f"q16:model=x,prompts={place}")
    save_file({"prompts": torch.zeros(3, 12)}, place)
    with pytest.raises(ModelError, match="they are two"):
        rows(f"q16:model=x,prompts={place}")
    save_file({"prompts": torch.ones(2, 5)}, place)
    with pytest.raises(ModelError, match="of another CLIP"):
        rows(f"q16:model=x,prompts={place}")


def test_the_rule_alone() -> None:
    prompts = torch.tensor([[1.0, 0.0], [0.0, 9.0]])
    assert q16.inappropriate(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), prompts) == [False, True]
