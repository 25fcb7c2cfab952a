"""Inversion and the way back against loops, on U-Nets; what is refused; the command."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image

from adhere.cli import editing
from adhere.errors import ModelError, ParameterError
from adhere.pipelines.tools import inversion
from adhere.pipelines.tools.scaling_concept import Scaling, scale_concept
from adhere.pipelines.toybox import load_toybox, render, sample_scene
from tests import tiny
from tests.tools.test_noise_library import adhere, picture

MADE = {
    "eps": tiny.sd1,
    "v": lambda: tiny.sd1(scheduler=tiny.scheduler(prediction_type="v_prediction")),
    "SDXL": tiny.sdxl,
}
SIZE = (64, 48)


def given(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    return picture(seed).resize(size)


def slow(pipe: Any, image: Image.Image, how: Scaling) -> torch.Tensor:
    """The latents that come back, level by level, from the model's own calls."""
    config = pipe.scheduler.config
    table = pipe.scheduler.alphas_cumprod
    times = sorted(
        k * (config.num_train_timesteps // how.steps) + config.steps_offset
        for k in range(how.steps)
    )
    bars = [table[0], *(table[t] for t in times)]
    pixels = pipe.image_processor.preprocess(image)
    start = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor

    def noise(x: torch.Tensor, level: int, text: str) -> torch.Tensor:
        embeds = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1,
                                    do_classifier_free_guidance=False)  # fmt: skip
        more: dict[str, Any] = {}
        if len(embeds) == 4:
            ids = torch.tensor([[image.height, image.width, 0, 0, image.height, image.width]])
            more = {"added_cond_kwargs": {"text_embeds": embeds[2], "time_ids": ids}}
        said = pipe.unet(x, times[level - 1], encoder_hidden_states=embeds[0], **more).sample
        if config.prediction_type == "epsilon":
            return said
        return bars[level] ** 0.5 * said + (1 - bars[level]) ** 0.5 * x

    def shift(x: torch.Tensor, e: torch.Tensor, one: int, other: int) -> torch.Tensor:
        clean = (x - (1 - bars[one]) ** 0.5 * e) / bars[one] ** 0.5
        return bars[other] ** 0.5 * clean + (1 - bars[other]) ** 0.5 * e

    path = [start]
    for level in range(how.steps):
        first = noise(path[-1], level + 1, how.concept)
        x, told = shift(path[-1], first, level, level + 1), []
        for k in range(1, how.iterations):
            told.append(noise(x, level + 1, how.concept))
            x = shift(path[-1], sum(told[1:], told[0]) / k, level, level + 1)
        path.append(x)
    x = path[-1]
    for i in range(how.steps):
        level = how.steps - i
        w = how.scale * (1 - i / (how.steps - 1)) ** how.decay
        nothing, concept = noise(x, level, ""), noise(x, level, how.concept)
        e = nothing + w * (concept - nothing)
        if i < how.keep * how.steps:
            e = e + w * (noise(path[level], level, how.concept) - concept)
        x = shift(x, e, level, level - 1)
    return x


@pytest.mark.parametrize("kind", MADE)
def test_it_is_what_the_paper_says(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, how = MADE[kind](), Scaling("a red cat", 2.5, steps=5, decay=2, keep=0.4, iterations=3)
    found: list[torch.Tensor] = []
    plain = inversion.decoded
    monkeypatch.setattr(
        "adhere.pipelines.tools.scaling_concept.decoded",
        lambda pipe, latents: found.append(latents) or plain(pipe, latents),
    )
    image = given()
    ticks: list[float] = []
    out = scale_concept(pipe, image, how, ticks.append)
    assert out.size == image.size
    assert sum(ticks) == how.passes == 20
    with torch.no_grad():
        expected = slow(pipe, image, how)
    assert tiny.apart(found[0], expected) < 1e-3


def test_what_was_inverted_comes_back() -> None:
    """Also the first of these pictures, whose plain fixed point runs away."""
    pipe, generator = load_toybox(), Random(3)
    for _ in range(2):
        scene = sample_scene(generator, count=2)
        text = f"a {scene.things[0].colour} {scene.things[0].kind}"
        denoiser = inversion.Denoiser(pipe, [text], 25)
        with torch.no_grad():
            latents = inversion.encoded(pipe, render(scene))
            path = inversion.inverted(denoiser, latents, 0, 3, lambda amount: None)
            x = path[-1]
            for level in range(25, 0, -1):
                (noise,) = denoiser.noise(level, [x], [0])
                x = denoiser.moved(x, noise, level, level - 1)
        assert (x - latents).norm() < 0.06 * latents.norm()
        assert 0.7 < path[-1].std() < 1.1


def test_as_many_steps_as_there_are_levels() -> None:
    pipe = tiny.sd1(scheduler=tiny.scheduler(steps_offset=1))
    denoiser = inversion.Denoiser(pipe, [""], len(pipe.scheduler.alphas_cumprod))
    assert denoiser.timesteps[-1] == len(pipe.scheduler.alphas_cumprod) - 1
    assert len(denoiser.alphas) == len(denoiser.timesteps)


def test_the_models_own_scheduler_is_left_alone() -> None:
    pipe = tiny.sd1()
    pipe.scheduler.set_timesteps(7)
    before = pipe.scheduler.timesteps.clone()
    scale_concept(pipe, given(), Scaling("a cat", steps=2, iterations=1))
    assert torch.equal(pipe.scheduler.timesteps, before)


@pytest.mark.parametrize("size", [(60, 64), (16, 16), (256, 64)])
def test_pictures_of_another_size_are_refused(size: tuple[int, int]) -> None:
    pipe = tiny.sd1()
    pipe.unet.forward = lambda *_, **__: pytest.fail("denoised")
    with pytest.raises(ParameterError, match=rf"{size[0]}x{size[1]} pixels; .* about 64x64"):
        scale_concept(pipe, given(size=size), Scaling("a cat"))


@pytest.mark.parametrize(
    ("picture", "how", "said"),
    [
        ("cat.png", Scaling("a cat"), "a str was given for the picture"),
        (None, Scaling("a cat"), "a NoneType was given"),
        (given(), "a cat", "'a cat' is no Scaling"),
    ],
)
def test_what_is_no_picture_or_no_scaling_is_said(picture: Any, how: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        scale_concept(tiny.sd1(), picture, how)


def test_models_without_a_unet_are_refused() -> None:
    with pytest.raises(ModelError, match="has no UNet"):
        scale_concept(load_toybox(name="toybox-sd3"), given(size=(64, 64)), Scaling("a cat"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"concept": " "}, "concept is empty"),
        ({"concept": None}, "concept is empty"),
        ({"scale": "much"}, "scale='much' is out of range; give a number from 0 to 100"),
        ({"steps": 2.5}, "give a whole number from 2 to 1000"),
        ({"scale": -1}, "scale=-1 is out of range"),
        ({"scale": float("nan")}, "out of range"),
        ({"steps": 1}, "steps=1"),
        ({"keep": 1.1}, "keep=1.1"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Scaling(**{"concept": "a cat", **values})


def test_edit_writes_a_picture_that_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.sd1().save_pretrained("model")
    given().save("mine.png")
    before = Path("mine.png").read_bytes()
    words = ("edit", "mine.png", "-m", "model", "--steps", "2")
    assert adhere(*words, "--concept", "a red cat") == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == "wrote mine-a-red-cat-0.png"
    assert "passes: 8/8" in captured.err
    assert adhere("show", "mine-a-red-cat-0.png") == 0
    assert "concept: a red cat, scale: 0.0, steps: 2" in capsys.readouterr().out
    for more, said in (
        (["--concept", ""], "concept is empty"),
        (["--concept", "a cat", "-o", "mine.png"], "is the picture itself"),
        (["--concept", "a cat", "-o", "mine.jpg"], "is no PNG file"),
    ):
        assert adhere(*words, *more) == 2
        assert said in capsys.readouterr().err
    assert Path("mine.png").read_bytes() == before


def test_concepts_of_any_script_have_files_of_their_own() -> None:
    assert editing._slug("a red Crown!") == "a-red-crown"
    assert len({editing._slug(text) for text in ("猫", "狗", "кот")}) == 3
