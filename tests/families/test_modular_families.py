"""Loops and guiders of every modular family against the classic pipeline of the same parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from adhere import Guidance, guided_blocks, guided_denoise, prediction_guider
from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Guide
from adhere.guides.parameters import parameters
from adhere.guides.run import Run
from adhere.plugins import PLUGINS
from tests import stored
from tests.families.modular_cases import CASES, PROMPT, ModularCase
from tests.leftovers import picture
from tests.probes import Energetic, Probe

EXCITE: Any = PLUGINS["attend-and-excite"](refinements=0)
SAFE: Any = PLUGINS["safe-latent-diffusion"]("max", concept="a green frog")
DELAYED: Any = PLUGINS["delayed-negative"](start=0.5)
DIVERSE: Any = PLUGINS["diverse"](clear=0.8)
JITTER: Any = PLUGINS["caption-jitter"](way="noise")


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> ModularCase:
    found: ModularCase = request.param
    return found


def close(case: ModularCase, found: Any, *plugins: Any) -> None:
    """The classic pipeline's picture with the plugins, and another one than without them."""
    wanted = case.expected(*plugins)
    found = case.unpacked(found)
    # Z-Image's transformer goes on in single precision whatever is asked: 5000 times 1e-7.
    exact = found.dtype == torch.float64
    bound = 1e-8 if exact else 1e-3
    assert exact or case.name == "z-image"
    torch.testing.assert_close(found, wanted, rtol=bound, atol=bound)
    idle = plugins in ((), (DELAYED,) if not case.negative else ())
    assert ((wanted - case.expected()).abs().max() <= 1e-2) == idle


@pytest.mark.parametrize("plugin", [None, EXCITE, SAFE, DELAYED], ids=["none", "a&e", "sld", "neg"])
def test_a_guided_loop_makes_the_classic_picture(case: ModularCase, plugin: Any) -> None:
    if plugin == DELAYED and not case.guides:
        pytest.skip("FLUX.1's loop reads no negative prompt")
    plugins = () if plugin is None else (plugin,)
    close(case, case.modular(case.pipe(Guidance(*plugins))), *plugins)


@pytest.mark.parametrize("plugins", [(), (SAFE,), (DELAYED,), (SAFE, DELAYED), (DIVERSE,)], ids=str)
def test_a_guider_makes_the_classic_picture(case: ModularCase, plugins: Any) -> None:
    if not case.guides:
        with pytest.raises(ModelError, match="asks no guider"):
            prediction_guider(case.pipe(), Guidance(*plugins))
        return
    pipe = case.pipe()
    pipe.update_components(guider=prediction_guider(pipe, Guidance(*plugins), guidance_scale=4.0))
    close(case, case.modular(pipe), *plugins)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "z-image"])
def test_a_guider_jitters_as_the_classic_pipeline(name: str) -> None:
    case = CASES[name]
    pipe = case.pipe()
    pipe.update_components(guider=prediction_guider(pipe, Guidance(JITTER), guidance_scale=4.0))
    close(case, case.modular(pipe), JITTER)


@pytest.mark.parametrize("name", ["qwen-image", "z-image"])
@pytest.mark.parametrize("in_loop", [False, True], ids=["guider", "loop"])
def test_a_negative_prompt_of_another_length_is_jittered(name: str, in_loop: bool) -> None:
    case = CASES[name]
    pipe = case.pipe(Guidance(JITTER) if in_loop else None)
    if not in_loop:
        guider = prediction_guider(pipe, Guidance(JITTER), guidance_scale=4.0)
        pipe.update_components(guider=guider)
    found = case.modular(pipe)
    assert found.isfinite().all()
    assert (found - case.modular(case.pipe())).abs().max() > 1e-2


@pytest.mark.parametrize("plugin", [DIVERSE, JITTER], ids=["diverse", "jitter"])
def test_a_guider_draws_for_each_picture(plugin: Any) -> None:
    """Two pictures of one prompt are told different things, each what it is told alone."""
    case = CASES["sd3"]
    noise = torch.randn(2, 4, 16, 12, dtype=torch.float64, generator=torch.manual_seed(0))
    pipe = case.pipe()
    guider = prediction_guider(pipe, Guidance(plugin), guidance_scale=4.0)
    pipe.update_components(guider=guider)
    told: list[Tensor] = []

    def made(rows: slice) -> Tensor:
        texts = {"prompt": [PROMPT] * len(noise[rows]), "latents": noise[rows].clone()}
        texts["negative_prompt"] = ["a bird"] * len(noise[rows])
        hook = pipe.transformer.register_forward_pre_hook(
            lambda module, args, kwargs: told.append(kwargs["encoder_hidden_states"]),
            with_kwargs=True,
        )
        found = case.modular(pipe, steps=2, **texts)
        hook.remove()
        return found

    both = made(slice(0, 2))
    first = told[0]
    assert (first[0] - first[1]).abs().max() > 1e-2
    for row in (0, 1):
        torch.testing.assert_close(
            made(slice(row, row + 1)), both[row : row + 1], rtol=1e-8, atol=1e-8
        )


def test_a_guider_in_a_guided_loop_follows_the_moved_latents(case: ModularCase) -> None:
    if not case.guides:
        pytest.skip("FLUX.1's loop asks no guider")
    pipe = case.pipe(Guidance(EXCITE))
    pipe.update_components(guider=prediction_guider(pipe, Guidance(SAFE), guidance_scale=4.0))
    close(case, case.modular(pipe), EXCITE, SAFE)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_image_to_image(name: str) -> None:
    case = CASES[name]
    runs: list[Run] = []

    def start(run: Run) -> Guide:
        runs.append(run)
        return Energetic(lambda maps: maps.cross()[..., 2].mean(dim=(1, 2)), step_size=20.0)

    call: dict[str, Any] = {
        "image": Image.new("RGB", (32, 32), "red"),
        "width": 32,
        "strength": 0.5,
        "steps": 4,
    }
    plain = case.modular(case.pipe(), **call)
    moved = case.modular(case.pipe(Guidance(Probe(start))), **call)
    assert (moved - plain).abs().max() > 1e-2
    assert not runs[0].sampling


def test_a_loop_without_guider_refuses_what_reshapes_guidance() -> None:
    case = CASES["flux"]
    pipe = case.pipe(Guidance(PLUGINS["apg"]()))
    before = picture(pipe)
    with pytest.raises(ModelError, match="one prediction a step"):
        case.modular(pipe)
    assert picture(pipe) == before


def test_a_guider_refuses_what_acts_on_latents_or_attention() -> None:
    pipe = CASES["sd3"].pipe()
    reads = ("safree", "prototype", "concept-steering")
    for name in ("attend-and-excite", "best-of-noise", "dense-diffusion", *reads):
        kind = PLUGINS[name]
        plugin = kind(**stored.needed({one.name for one in parameters(kind)}))
        with pytest.raises(ParameterError, match=f"{name} acts on .* in the loop"):
            prediction_guider(pipe, Guidance(plugin))


@pytest.mark.parametrize("plugin", [SAFE, DELAYED], ids=["text", "none"])
def test_a_guider_that_guides_nothing_is_refused_before_denoising(plugin: Any) -> None:
    case = CASES["sd3"]
    pipe = case.pipe()
    pipe.update_components(guider=prediction_guider(pipe, Guidance(plugin), guidance_scale=1.0))
    before = picture(pipe)
    with pytest.raises(ModelError, match="above 1"):
        case.modular(pipe)
    assert picture(pipe) == before


def test_a_guider_is_copied_with_its_plugins() -> None:
    pipe = CASES["sd3"].pipe()
    guider = prediction_guider(pipe, Guidance(SAFE), guidance_scale=4.0)
    other = guider.new(guidance_scale=6.0)
    assert (other.guidance_scale, other.guidance, other.texts) == (
        6.0,
        guider.guidance,
        guider.texts,
    )
    assert guider.guidance_scale == 4.0


def test_reports_reach_the_block_that_was_made() -> None:
    case = CASES["sd3"]
    blocks = case.blocks()
    loop = blocks.sub_blocks["denoise"].sub_blocks["text2image"].sub_blocks["denoise"]
    step = guided_denoise(Guidance(EXCITE), loop)
    pipe = case.pipe()
    pipe._blocks.sub_blocks["denoise"].sub_blocks["text2image"].sub_blocks["denoise"] = step
    case.modular(pipe)
    assert "attend-and-excite" in step.reports[0].plugins


def test_blocks_are_copied_and_others_are_untouched() -> None:
    blocks = CASES["sd3"].blocks()
    guided_blocks(blocks, Guidance(EXCITE))
    loop = (
        CASES["sd3"].blocks().sub_blocks["denoise"].sub_blocks["text2image"].sub_blocks["denoise"]
    )
    assert type(loop).__name__ == "StableDiffusion3DenoiseStep"


def test_what_is_no_loop_is_refused() -> None:
    blocks = CASES["sd3"].blocks()
    with pytest.raises(ParameterError, match="not a denoising loop"):
        guided_denoise(Guidance(EXCITE), blocks)
    with pytest.raises(ModelError, match="no denoising loop"):
        guided_blocks(blocks.sub_blocks["decode"], Guidance(EXCITE))


def test_other_families_are_refused_by_name() -> None:
    from diffusers.modular_pipelines import FluxKontextAutoBlocks, Krea2AutoBlocks

    for kind, name in ((Krea2AutoBlocks, "krea2"), (FluxKontextAutoBlocks, "flux-kontext")):
        with pytest.raises(ModelError, match=f"{name} cannot be guided"):
            guided_blocks(kind(), Guidance(EXCITE))
