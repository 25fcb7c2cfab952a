"""Collecting pairs of noises, against diffusers' own steps, and learning them; the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from adhere.errors import ParameterError
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools import golden_noise
from adhere.pipelines.tools.golden_noise import Collector, Pairs, Plan, redenoised, trained
from adhere.pipelines.tools.inversion import Denoiser
from adhere.plugins.mathematics.noise_network import StoredNetwork
from tests import tiny, verifying
from tests.command import adhere


@torch.no_grad()
def test_a_pair_is_a_step_of_diffusers_and_one_back() -> None:
    pipe, steps, scale = tiny.sd1(), 5, 6.0
    noise = torch.randn(1, 4, 16, 16)
    found = redenoised(Denoiser(pipe, ["", "a red cat"], steps), noise, scale)

    told, plain = pipe.encode_prompt("a red cat", "cpu", 1, True)
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    inverse = DDIMInverseScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    inverse.set_timesteps(steps)
    top = scheduler.timesteps[0]

    def predicted(latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        sample: torch.Tensor = pipe.unet(latents, top, encoder_hidden_states=text).sample
        return sample

    one, other = predicted(noise, plain), predicted(noise, told)
    moved = scheduler.step(one + scale * (other - one), top, noise).prev_sample
    back = inverse.step(predicted(moved, told), top, moved).prev_sample
    assert inverse.timesteps[-1] == top
    assert torch.allclose(found, back, atol=1e-5)
    assert tiny.apart(found, noise) > 1e-3


def pairs_of(count: int) -> Pairs:
    """Noises that are to be shifted, each channel by a number that the text says."""
    draw = torch.Generator().manual_seed(2)
    given, words = (
        torch.randn(count, 4, 8, 8, generator=draw),
        torch.randn(count, 4, generator=draw),
    )
    return Pairs(given, given + 0.5 * words[..., None, None], words)


def test_it_learns_what_texts_say() -> None:
    told = trained(pairs_of(60), Plan(steps=300, rate=1e-2, width=8), lambda amount: None)[1]
    assert told > 0.8
    nothing = trained(pairs_of(60), Plan(steps=0), lambda amount: None)[1]
    assert nothing == pytest.approx(0, abs=1e-4)


def test_the_same_seed_trains_the_same() -> None:
    plans = (Plan(steps=3), Plan(steps=3), Plan(steps=3, seed=1))
    one, two, other = (trained(pairs_of(20), plan, lambda amount: None)[0] for plan in plans)
    assert torch.equal(one.residual[0].weight, two.residual[0].weight)
    assert not torch.equal(one.residual[0].weight, other.residual[0].weight)
    with pytest.raises(ParameterError, match="a single pair was kept"):
        trained(pairs_of(1), Plan(), lambda amount: None)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny model in a folder, and parts of three pairs."""
    monkeypatch.setattr(golden_noise, "PART", 3)
    tiny.sd1().save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("\n".join(f"a {word}" for word in tiny.WORDS[:5]))
    return str(tmp_path / "model")


def collector(model: str, out: Path, verifier: Any = None, count: int = 5) -> Collector:
    prompts = [f"a {word}" for word in tiny.WORDS[:count]]
    return Collector(Studio(model), prompts, verifier, out, (32, 32), steps=2)


def pattern(images: Sequence[Any], prompts: Sequence[str]) -> list[float]:
    """How alike pictures are to noise: of two nearly equal ones either may be the more."""
    shape = np.asarray(images[0]).shape
    noise = np.random.default_rng(0).standard_normal(shape)
    return [float((np.asarray(image, dtype=float) * noise).sum()) for image in images]


def test_pairs_are_chosen_by_their_pictures(model: str, tmp_path: Path) -> None:
    every = collector(model, tmp_path / "all.safetensors")
    some = collector(model, tmp_path / "some.safetensors", ("pattern", pattern))
    for one in (every, some):
        for part in one.missing():
            one.make(part, lambda amount: None)
    whole, chosen = every.chosen(), some.chosen()
    assert len(whole) == 5
    pipe = some.studio.pipe
    better = []
    for k, prompt in enumerate(some.prompts):
        scores = [
            pattern(
                pipe(
                    prompt, latents=noise[k : k + 1], num_inference_steps=2, height=32, width=32,
                    guidance_scale=some.scale,
                ).images,
                [prompt],
            )[0]
            for noise in (whole.given, whole.golden)
        ]  # fmt: skip
        better += [k] if scores[1] > scores[0] else []
    assert 0 < len(better) < 5
    assert torch.equal(chosen.given, whole.given[better])
    assert torch.equal(chosen.golden, whole.golden[better])

    none = collector(
        model, tmp_path / "none.safetensors", ("never", lambda images, _: [0.0] * len(images))
    )
    for part in none.missing():
        none.make(part, lambda amount: None)
    with pytest.raises(ParameterError, match="of 5 pairs the verifier likes none better"):
        none.chosen()


def test_what_is_made_is_not_made_again(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = collector(model, tmp_path / "one.safetensors")
    assert one.missing() == [range(3), range(3, 5)]
    one.make(range(3), lambda amount: None)
    assert one.missing() == [range(3, 5)]
    other = collector(model, tmp_path / "one.safetensors", ("redness", verifying.redness))
    with pytest.raises(ParameterError, match="noise network's pairs with verifier 'none'"):
        other.missing()  # before anything is made
    other.make(range(3, 5), lambda amount: None)
    with pytest.raises(ParameterError, match="noise network's pairs with verifier 'redness'"):
        one.chosen()


def test_more_texts_go_on_with_the_pairs_that_are_there(model: str, tmp_path: Path) -> None:
    """What a verifier that liked too few is answered with: a larger --size."""
    few = collector(model, tmp_path / "one.safetensors", count=3)
    few.make(range(3), lambda amount: None)
    assert collector(model, tmp_path / "one.safetensors").missing() == [range(3, 5)]


def test_too_few_texts_are_refused_before_a_pair_is_made(model: str, tmp_path: Path) -> None:
    out = tmp_path / "one.safetensors"
    assert collector(model, out, count=2).missing() == [range(2)]
    with pytest.raises(ParameterError, match=r"2 texts are too few .* give 4 or more"):
        collector(model, out, ("redness", verifying.redness), count=2)


@pytest.mark.parametrize("size", [(100, None), (None, 36)])
def test_a_size_that_no_model_draws_is_refused(
    size: tuple[int | None, int | None], model: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match="is not a multiple of 8 pixels; use"):
        Collector(Studio(model), ["a cat"] * 4, None, tmp_path / "golden.safetensors", size)


def test_commands_train_and_begin(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, size = tmp_path / "golden.safetensors", ("--width", "32", "--height", "32")
    texts = (
        "--texts",
        tmp_path / "prompts.txt",
        "--verifier",
        "none",
        "--steps",
        "2",
        "--training",
        "2",
    )
    assert adhere("train", "golden-noise", "-m", model, "-o", out, *texts, *size) == 0
    said = capsys.readouterr()
    assert f"wrote {out}: learnt from 5 of 5 pairs" in said.out
    assert "pairs: 5/5" in said.err
    assert StoredNetwork.read(out).latents == (4, 16, 16)
    plugin = f"golden-noise:network={out}"
    drawn = ("--steps", "2", "-o", tmp_path / "o", "-p", plugin)
    assert adhere("generate", "a cat", "-m", model, *drawn, *size) == 0
    assert adhere("generate", "a cat", *drawn) == 2
    assert "was trained for the model" in capsys.readouterr().err
    assert (
        adhere("train", "golden-noise", "-m", "toybox-sd3", "-o", tmp_path / "x.safetensors") == 2
    )
    assert "has no UNet" in capsys.readouterr().err
