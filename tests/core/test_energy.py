"""A complete new method in a few lines, on every family and for any number of subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from adhere import Guidance, param
from adhere.guides.energy import SubjectMethod
from adhere.guides.maps import ImageMaps
from adhere.prompt.tokens import Phrase
from tests.families.cases import CASES, Case


@dataclass(frozen=True)
class Peaks(SubjectMethod):
    """Every subject should have a cell that attends to it. Complete: the README shows it."""

    name: ClassVar[str] = "peaks"
    step_size: float = param(20.0, "length of a step along the gradient", low=0, high=1000)
    subjects: tuple[str, ...] | None = param(None, "phrases; the parser's nouns if left out")

    def loss(self, maps: ImageMaps, wanted: tuple[Phrase, ...]) -> Tensor:
        return 1 - torch.stack([maps.of(phrase).amax() for phrase in wanted]).amin()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_method_of_a_few_lines_guides_every_family(case: Case) -> None:
    prompts = ["a cat and a dog", "a red frog, a blue bird and a car"]  # two subjects, three
    plain = case(prompts, steps=1)
    with Guidance(Peaks()).attach(case.pipe) as attached:
        guided = case(prompts, steps=1)
    assert not torch.equal(plain, guided)
    assert torch.isfinite(guided).all()
    assert [len(losses) for losses in attached.report.losses["peaks"]] == [1, 1]
    for image in range(2):  # each image as alone
        with Guidance(Peaks()).attach(case.pipe):
            alone = case([prompts[image]], seeds=(1 + image,), steps=1)
        torch.testing.assert_close(guided[image : image + 1], alone, rtol=1e-3, atol=1e-3)
