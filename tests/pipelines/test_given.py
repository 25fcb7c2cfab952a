"""What guides are given: the latents that the model was shown, where other texts' words are."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance, ModelError
from adhere.guides.guide import Guide, Prediction, Step, Text
from tests import tiny
from tests.families.cases import CASES
from tests.probes import Probe


class Seeing(Guide):
    """Keeps what it is given and adds nothing that could be seen."""

    texts = ("a frog",)

    def __init__(self) -> None:
        self.seen: list[tuple[Step, Tensor]] = []

    def predict(self, step: Step, eps: Prediction) -> Tensor:
        self.seen.append((step, eps.latents))
        return eps.cond


@pytest.mark.parametrize("kind", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_latents_are_what_the_model_was_shown(kind: str) -> None:
    pipe: Any = tiny.sd1()
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config)
    guide, shown = Seeing(), []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: shown.append(args[0] if args else kwargs["sample"]),
        with_kwargs=True,
    )
    tiny.latents(
        pipe, guidance=Guidance(Probe(lambda run: guide)), seeds=(0, 1), prompt=["a cat"] * 2
    )
    hook.remove()
    assert len(guide.seen) == len(shown) == 3
    for (step, latents), sample in zip(guide.seen, shown, strict=True):
        torch.testing.assert_close(latents, sample[2:4])
        assert math.hypot(step.noise / step.sigma, step.noise) == pytest.approx(1, abs=1e-4)


class Asking(Guide):
    """Asks where words stand in texts that are not the prompt."""

    def embed(self, step: Step, text: Text) -> Text:
        texts = ["cat", "a red cat and a frog"]
        self.columns = [one.content for one in text.tracks(texts)[0].images]
        self.rows = text.encode(texts)
        return text


@pytest.mark.parametrize("make", [tiny.sd1, tiny.sd2, tiny.sdxl])
def test_words_of_other_texts_are_found(make: Any) -> None:
    guide = Asking()
    tiny.latents(make(), guidance=Guidance(Probe(lambda run: guide)))
    assert guide.columns == [(1,), (1, 2, 3, 4, 5, 6)]
    # What is read up to a word does not depend on what follows: the encoders are causal.
    torch.testing.assert_close(guide.rows[0, 0], guide.rows[1, 0])
    assert not torch.allclose(guide.rows[0, 1], guide.rows[1, 1])


def test_models_that_cannot_say_so_refuse() -> None:
    case = CASES["sd3"]
    with (
        Guidance(Probe(lambda run: Asking())).attach(case.pipe),
        pytest.raises(ModelError, match=r"^probe: texts can be compared .* encodes them otherwise"),
    ):
        case(["a red cat"], seeds=[0])
