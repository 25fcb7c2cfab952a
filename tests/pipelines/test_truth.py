"""The pipelines that diffusers ships for two of the methods, number by number beside ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionAttendAndExcitePipeline,
    StableDiffusionPipelineSafe,
)

from adhere import Guidance
from adhere.plugins import PLUGINS
from tests import tiny

AttendAndExcite: Any = PLUGINS["attend-and-excite"]
SafeLatentDiffusion: Any = PLUGINS["safe-latent-diffusion"]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def parts(dtype: torch.dtype, **changes: Any) -> dict[str, Any]:
    made = tiny.sd1_parts(**changes)
    for name in ("unet", "text_encoder", "vae"):
        made[name].to(dtype)
    return made


def noise(dtype: torch.dtype, side: int) -> torch.Tensor:
    """The same in every precision, so that refinements are as many."""
    shape, generator = (1, 4, side // 2, side // 2), torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def published_attend_and_excite(dtype: torch.dtype, side: int, **call: Any) -> torch.Tensor:
    pipe = StableDiffusionAttendAndExcitePipeline(**parts(dtype), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        tiny.PROMPT,
        token_indices=[3, 7],
        latents=noise(dtype, side),
        attn_res=(side // 4, side // 4),
        height=side,
        width=side,
        output_type="latent",
        **call,
    ).images


# Pixels a side, thresholds at steps of 4: none, some that a few refinements reach, and one out of
# reach, so that refinement meets its cap.
@pytest.mark.parametrize(
    ("side", "thresholds", "capped"),
    [
        pytest.param(64, {}, False, id="at-the-model's-size"),
        pytest.param(32, {0: 0.1, 1: 0.36}, False, id="refined"),
        pytest.param(32, {1: 0.9999}, True, id="refined-to-the-cap"),
    ],
)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-5)])
def test_attend_and_excite(
    side: int, thresholds: dict[int, float], capped: bool, dtype: Any, close: float
) -> None:
    steps, guided = 4, 2
    theirs = published_attend_and_excite(
        dtype, side, num_inference_steps=steps, thresholds=thresholds, max_iter_to_alter=guided
    )
    recipe = AttendAndExcite(
        stop=guided / steps,
        refine_at=tuple(step / steps for step in thresholds),
        thresholds=tuple(thresholds.values()),
    )
    pipe = tiny.sd1(**parts(dtype))
    with Guidance(recipe).attach(pipe, subjects=("cat", "car")) as attached:
        ours = tiny.latents(pipe, steps=steps, size=(side, side), latents=noise(dtype, side))
    assert relative(ours, theirs) < close
    # The comparison says something only if guidance moved the picture, and refined where asked.
    plain = tiny.latents(pipe, steps=steps, size=(side, side), latents=noise(dtype, side))
    assert relative(plain, theirs) > 1e-2
    made = dict(attached.report.refinements[0])
    assert set(made) == set(thresholds)
    assert all(count == 20 if capped else 0 < count < 20 for count in made.values())


@pytest.fixture
def toybox(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bundled model, guided as if it were SD 1.x: maps of 16x16 and steps as published."""
    from adhere.pipelines.engine import attachment
    from adhere.pipelines.families.unet import StableDiffusion1
    from adhere.pipelines.toybox import load_toybox

    pipe = load_toybox()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    monkeypatch.setattr(attachment, "family_of", StableDiffusion1)
    return pipe


def published(kind: Any, pipe: Any) -> Any:
    """Another pipeline around the same parts."""
    parts = {name: pipe.components[name] for name in ("vae", "text_encoder", "tokenizer", "unet")}
    made = kind(
        **parts,
        scheduler=DDIMScheduler.from_config(pipe.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.slow
def test_attend_and_excite_on_the_toybox(toybox: Any) -> None:
    # Refinements magnify what is rounded: in single precision to 6.7e-4 without vector units.
    toybox.to(torch.float64)
    prompt, steps = "an elephant and a turtle", 10  # one that wants refinement
    call = {"num_inference_steps": steps, "output_type": "latent"}
    theirs = published(StableDiffusionAttendAndExcitePipeline, toybox)(
        prompt,
        token_indices=[2, 5],
        attn_res=(16, 16),
        max_iter_to_alter=5,
        thresholds={0: 0.05, 2: 0.5, 4: 0.8},
        generator=tiny.generators(0),
        **call,
    ).images
    with Guidance(AttendAndExcite()).attach(toybox, subjects=("elephant", "turtle")) as attached:
        ours = toybox(prompt, generator=tiny.generators(0), **call).images
    plain = toybox(prompt, generator=tiny.generators(0), **call).images
    assert relative(ours, theirs) < 1e-4
    assert relative(plain, theirs) > 1e-3
    assert sum(count for _, count in attached.report.refinements[0]) > 0


@pytest.mark.slow
def test_safe_latent_diffusion_on_the_toybox(toybox: Any) -> None:
    # Diffusers' pipeline steers whatever the model predicts, which is the noise in the paper and a
    # velocity here; so both are told that it is the noise, and never mind the picture.
    toybox.scheduler.register_to_config(prediction_type="epsilon")
    pipe = published(StableDiffusionPipelineSafe, toybox)
    pipe.safety_concept = "a skull"
    call = {"num_inference_steps": 10, "generator": tiny.generators(0)}
    theirs = safe_latents(pipe, "a haunted cat", sld_warmup_steps=2, **call)
    call["generator"] = tiny.generators(0)
    with Guidance(SafeLatentDiffusion("medium", concept="a skull")).attach(toybox):
        ours = toybox("a haunted cat", output_type="latent", **call).images
    plain = toybox(
        "a haunted cat", output_type="latent", **(call | {"generator": tiny.generators(0)})
    )
    assert relative(ours, theirs) < 1e-4
    assert relative(plain.images, theirs) > 1e-3


# The published presets, with the warm-up in steps of 50, and diffusers' own text.
PRESETS = [
    ("weak", {"sld_warmup_steps": 15, "sld_guidance_scale": 200, "sld_threshold": 0.0,
              "sld_momentum_scale": 0.0, "sld_mom_beta": 0.0}),
    ("medium", {"sld_warmup_steps": 10, "sld_guidance_scale": 1000, "sld_threshold": 0.01,
                "sld_momentum_scale": 0.3, "sld_mom_beta": 0.4}),
    ("strong", {"sld_warmup_steps": 7, "sld_guidance_scale": 2000, "sld_threshold": 0.025,
                "sld_momentum_scale": 0.5, "sld_mom_beta": 0.7}),
    ("max", {"sld_warmup_steps": 0, "sld_guidance_scale": 5000, "sld_threshold": 1.0,
             "sld_momentum_scale": 0.5, "sld_mom_beta": 0.7}),
]  # fmt: skip


@pytest.fixture(scope="module")
def published_safe() -> Any:
    pipe = StableDiffusionPipelineSafe(**tiny.sd1_parts(), requires_safety_checker=False)
    pipe.safety_concept = "a skull"
    pipe.set_progress_bar_config(disable=True)
    return pipe


def safe_latents(pipe: Any, prompt: Any, **call: Any) -> torch.Tensor:
    """The pipeline gives pictures only; its legacy callback is shown the latents."""
    seen = []
    pipe(prompt, callback=lambda i, t, latents: seen.append(latents), output_type="np", **call)
    return seen[-1]


@pytest.mark.parametrize(("preset", "theirs"), PRESETS, ids=[name for name, _ in PRESETS])
@pytest.mark.parametrize("steps", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_safe_latent_diffusion(
    published_safe: Any, preset: str, theirs: dict[str, float], steps: int
) -> None:
    settings = {**theirs, "sld_warmup_steps": -(-theirs["sld_warmup_steps"] * steps // 50)}
    expected = safe_latents(
        published_safe,
        ["a haunted cat", "a blue car"],
        num_inference_steps=steps,
        generator=tiny.generators(0, 1),
        height=32,
        width=32,
        **settings,
    )
    pipe = tiny.sd1()
    guidance = Guidance(SafeLatentDiffusion(preset, concept="a skull"))
    prompts = ["a haunted cat", "a blue car"]
    ours = tiny.latents(pipe, prompts, guidance=guidance, steps=steps, seeds=(0, 1))
    assert relative(ours, expected) < 1e-4
    assert relative(tiny.latents(pipe, prompts, steps=steps, seeds=(0, 1)), expected) > 1e-3


@pytest.mark.parametrize("scheduler", [{}, {"prediction_type": "v_prediction"}])
def test_safe_latent_diffusion_steers_the_noise_whatever_the_model_predicts(
    scheduler: dict[str, str],
) -> None:
    """The method by hand on eps, put back as what the model predicts (v = (eps - s x) / a)."""
    pipe = tiny.sd1(**parts(torch.float64, scheduler=tiny.scheduler(**scheduler)))
    recipe = SafeLatentDiffusion("max", concept="a skull")
    steps, scale = 3, 7.5
    ours = tiny.latents(pipe, guidance=Guidance(recipe), steps=steps, guidance_scale=scale)
    assert relative(ours, _by_hand(pipe, "a skull", steps, scale)) < 1e-6
    assert relative(ours, tiny.latents(pipe, steps=steps, guidance_scale=scale)) > 1e-2


@torch.no_grad()
def _by_hand(pipe: Any, concept: str, steps: int, scale: float) -> torch.Tensor:
    texts = ["", tiny.PROMPT, concept]
    embeds = torch.cat([pipe.encode_prompt(t, "cpu", 1, False)[0] for t in texts])
    x = torch.randn(1, 4, 16, 16, generator=tiny.generators(0)[0], dtype=torch.float64)
    pipe.scheduler.set_timesteps(steps)
    nu = torch.zeros_like(x)
    for t in pipe.scheduler.timesteps:
        out = pipe.unet(torch.cat([x] * 3), t, embeds).sample
        alpha_bar = pipe.scheduler.alphas_cumprod[t]
        a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        velocity = pipe.scheduler.config.prediction_type == "v_prediction"
        eps = a * out + s * x if velocity else out
        empty, text, unsafe = eps.chunk(3)
        gap = text - unsafe
        mu = torch.where(gap < 1.0, (5000 * gap.abs()).clamp(max=1), torch.zeros_like(gap))
        gamma = mu * (unsafe - empty) + 0.5 * nu
        nu = 0.7 * nu + 0.3 * gamma
        eps = empty + scale * (text - gamma - empty)
        out = (eps - s * x) / a if velocity else eps
        x = pipe.scheduler.step(out, t, x).prev_sample
    return x


HAUNTED = ["a haunted cat", "a red car and a blue bird"]


def both_safe_on_the_toybox(toybox: Any, preset: str, prediction: str) -> tuple[Any, Any, Any]:
    """Ours, theirs and the plain latents on the toybox's weights, read as the noise or as they are.

    Which of the two a scheduler takes a prediction for changes no weight.
    """
    steps, theirs = 4, dict(PRESETS)[preset]
    toybox.scheduler = DDIMScheduler.from_config(
        toybox.scheduler.config, prediction_type=prediction
    )
    pipe = published(StableDiffusionPipelineSafe, toybox)
    assert pipe.scheduler.config.prediction_type == prediction
    assert pipe.unet is toybox.unet
    pipe.safety_concept = "a skull"
    settings = {**theirs, "sld_warmup_steps": -(-theirs["sld_warmup_steps"] * steps // 50)}
    call = {"num_inference_steps": steps}
    expected = safe_latents(pipe, HAUNTED, generator=tiny.generators(0, 1), **call, **settings)
    guidance = Guidance(SafeLatentDiffusion(preset, concept="a skull"))
    ours, plain = (
        tiny.latents(toybox, HAUNTED, guidance=one, seeds=(0, 1), steps=steps, size=None)
        for one in (guidance, None)
    )
    return ours, expected, plain


@pytest.mark.parametrize("preset", [name for name, _ in PRESETS])
def test_safe_latent_diffusion_on_the_toyboxs_weights_read_as_noise(
    toybox: Any, preset: str
) -> None:
    ours, theirs, plain = both_safe_on_the_toybox(toybox, preset, "epsilon")
    assert relative(ours, theirs) < 1e-4
    assert relative(plain, theirs) > 1e-3


def test_safe_latent_diffusion_on_the_toybox_as_it_is_differs_by_design(toybox: Any) -> None:
    """Diffusers' pipeline puts velocities where the paper has noise (docs/design/0002)."""
    ours, theirs, plain = both_safe_on_the_toybox(toybox, "max", "v_prediction")
    assert relative(ours, theirs) > 1e-3
    assert relative(ours, plain) > 1e-3
