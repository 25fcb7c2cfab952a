"""The moment after the last step: the model is asked about the picture as the pipeline asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import ModelError
from adhere.guides.guide import Finished, Guide
from tests import tiny
from tests.families.cases import CASES, Case
from tests.probes import Probe

ONE, OTHER = "a cat and a dog", "a dog and a cat"
"""Two prompts of one length."""


class Asks(Guide):
    """Asks for the noise found under some texts, and remembers it."""

    def __init__(self, texts: list[str], log_snr: float) -> None:
        self.texts, self.log_snr = texts, log_snr
        self.found: Tensor | None = None

    def finished(self, pictures: Finished) -> None:
        self.found = pictures.predicted(self.texts, self.log_snr)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a denoiser's arguments, in their order, but for masks that hide nothing."""
    if isinstance(value, Tensor):
        if not (value.ndim == 2 and bool((value == 1).all())):
            yield value.detach().float()
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from tensors(value[key])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors(one)


def calls(model: Any, run: Callable[[], Any]) -> list[tuple[list[Tensor], Tensor]]:
    """What a denoiser is called with and gives out, call by call."""
    seen: list[tuple[list[Tensor], Tensor]] = []

    def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen.append((list(tensors([*args, kwargs])), next(tensors(list(output))).clone()))

    hook = model.register_forward_hook(keep, with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return seen


def denoiser(pipe: Any) -> Any:
    return getattr(pipe, "unet", None) or pipe.transformer


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_another_text_is_asked_as_if_it_were_the_prompt(case: Case) -> None:
    pipe, model = case.pipe, denoiser(case.pipe)

    def plain(prompt: str) -> Tensor:
        return case([prompt], seeds=(1,), guided=False)

    guide = Asks([OTHER], 0.0)
    with Guidance(Probe(lambda run: guide)).attach(pipe):
        asked = calls(model, lambda: plain(ONE))[-1][0]
    own, other = (calls(model, lambda p=p: plain(p))[0][0] for p in (ONE, OTHER))  # type: ignore[misc]
    assert len(asked) == len(own)
    texts, moved = 0, 0
    for mine, first, second in zip(asked, own, other, strict=True):
        if torch.equal(first, second):
            moved += not torch.equal(mine, first)
        else:
            texts += 1
            shown = mine != 0  # filling that a mask hides is left empty
            assert shown.any()
            torch.testing.assert_close(mine[shown], second[shown], rtol=0, atol=1e-5)
    assert texts >= 1
    assert moved == 2  # the latents and the time


def test_the_noise_is_the_denoisers_own() -> None:
    """... of a x0 + s n, on a model that predicts noise and on one that predicts a velocity."""
    pipe, guide = tiny.sd1(), Asks(["a cat", ""], 1.0)
    with Guidance(Probe(lambda run: guide)).attach(pipe):
        finished = tiny.latents(pipe)
        seen = calls(pipe.unet, lambda: finished.copy_(tiny.latents(pipe)))[-2:]
    assert guide.found is not None
    torch.testing.assert_close(guide.found, torch.stack([output for _, output in seen]))
    table = pipe.scheduler.alphas_cumprod
    time = next(one for one in seen[0][0] if one.numel() == 1)
    a = table[int(time)]
    assert float(a.logit()) == pytest.approx(1.0, abs=0.02)
    noise = (seen[0][0][0] - a.sqrt() * finished) / (1 - a).sqrt()
    assert abs(float(noise.mean())) < 0.2
    assert float(noise.std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_velocities_become_noise(name: str) -> None:
    case, guide = CASES[name], Asks([OTHER], 2.0)
    with Guidance(Probe(lambda run: guide)).attach(case.pipe):
        finished = case([ONE], seeds=(1,), guided=False)
        (given, output) = calls(denoiser(case.pipe), lambda: case([ONE], seeds=(1,), guided=False))[
            -1
        ]
    seen = next(one for one in given if one.shape == finished.shape)
    share = 1 / (1 + float(torch.tensor(1.0).exp()))  # log SNR 2: (1 - s) / s = e
    assert guide.found is not None
    noise = seen + (1 - share) * output  # of (1 - s) x0 + s n, where v = n - x0
    assert noise.flatten().sort().values == pytest.approx(
        guide.found.flatten().sort().values, abs=1e-4
    )
    own = (seen - (1 - share) * finished) / share
    assert float(own.std()) == pytest.approx(1, abs=0.15)


def test_asking_changes_no_pixel_and_a_batch_is_asked_as_its_pictures() -> None:
    pipe = tiny.sd1().to(torch.float64)
    prompts = [tiny.PROMPT, "a frog"]

    def asked(**call: Any) -> tuple[Tensor, Tensor]:
        guide = Asks(["a cat", "a dog"], 0.5)
        made = tiny.latents(pipe, guidance=Guidance(Probe(lambda run: guide)), **call)
        assert guide.found is not None
        return made, guide.found

    made, both = asked(prompt=prompts, seeds=(0, 1))
    assert torch.equal(made, tiny.latents(pipe, prompt=prompts, seeds=(0, 1)))
    for k, prompt in enumerate(prompts):
        _, alone = asked(prompt=prompt, seeds=(k,))
        torch.testing.assert_close(both[:, k : k + 1], alone, rtol=0, atol=1e-4)
    assert not torch.allclose(both[0], both[1])


def test_a_sampler_without_a_table_is_refused() -> None:
    from diffusers import EDMEulerScheduler

    pipe = tiny.sd1()
    pipe.scheduler = EDMEulerScheduler()
    guide = Asks([""], 0.0)
    with (
        Guidance(Probe(lambda run: guide)).attach(pipe),
        pytest.raises(ModelError, match="EDMEulerScheduler has no table"),
    ):
        tiny.latents(pipe)
