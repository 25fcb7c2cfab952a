"""Modular Diffusers against the classic pipeline of the same parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance, PerturbedAttentionGuidance
from diffusers.modular_pipelines.stable_diffusion_xl import StableDiffusionXLAutoBlocks
from torch import Tensor

from adhere import Guidance
from adhere.errors import ModelError
from adhere.pipelines.modular.blocks import guided_denoise
from adhere.plugins import PLUGINS
from tests import tiny
from tests.leftovers import picture

PROMPT = "a red cat and a blue car"
EXCITE: Any = PLUGINS["attend-and-excite"](refinements=0)
SAFE: Any = PLUGINS["safe-latent-diffusion"]("max", concept="a green frog")


def modular(step: Any = None, guider: Any = None) -> Any:
    blocks = StableDiffusionXLAutoBlocks()
    if step is not None:
        blocks.sub_blocks["denoise"].sub_blocks["denoise"].sub_blocks["denoise"] = step
    pipe = blocks.init_pipeline()
    parts = tiny.sdxl().components
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet")
    pipe.update_components(
        **{name: parts[name] for name in names},
        scheduler=parts["scheduler"],
        guider=guider or ClassifierFreeGuidance(guidance_scale=4.0),
        force_zeros_for_empty_prompt=True,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


CALL: dict[str, Any] = {
    "prompt": PROMPT,
    "negative_prompt": "a bird",
    "height": 64,
    "width": 48,
    "num_inference_steps": 3,
    "output_type": "latent",
}


def latents(pipe: Any) -> Tensor:
    found: Tensor = pipe(**CALL, generator=tiny.generators(0)[0], output="latents")
    return found


def classic(*plugins: Any) -> Tensor:
    pipe = tiny.sdxl()
    with Guidance(*plugins).attach(pipe):
        found: Tensor = pipe(**CALL, guidance_scale=4.0, generator=tiny.generators(0)[0]).images
    return found


@pytest.mark.parametrize("plugins", [(), (EXCITE,), (SAFE,)], ids=["none", "energy", "prediction"])
def test_the_picture_is_that_of_the_classic_pipeline(plugins: tuple[Any, ...]) -> None:
    pipe = modular(guided_denoise(Guidance(*plugins)))
    torch.testing.assert_close(latents(pipe), classic(*plugins), rtol=1e-3, atol=1e-3)
    if plugins:
        assert not torch.allclose(classic(*plugins), classic(), atol=1e-2)


def test_nothing_is_left_after_an_error() -> None:
    pipe = modular(guided_denoise(Guidance(PLUGINS["attend-and-excite"](subjects=("a zebra",)))))
    before = picture(pipe)
    with pytest.raises(ValueError, match="zebra"):
        latents(pipe)
    assert picture(pipe) == before


@pytest.mark.parametrize("plugin", [SAFE, PLUGINS["delayed-negative"]()], ids=["text", "none"])
def test_another_guider_is_refused_for_predictions(plugin: Any) -> None:
    guider = PerturbedAttentionGuidance(guidance_scale=4.0, perturbed_guidance_layers=["mid_block"])
    pipe = modular(guided_denoise(Guidance(plugin)), guider)
    with pytest.raises(ModelError, match="use that guider"):
        latents(pipe)


def test_pictures_are_heard_where_they_are_in_the_classic_pipeline() -> None:
    """The calls with and without the prompt are masked alike, though they are made apart."""
    plugin, (none, shown) = PLUGINS["subject-guidance"](), tiny.pictures().split(1)
    pipe = modular(guided_denoise(Guidance(plugin)))
    tiny.load_ip_adapter(pipe)
    embeds = {"ip_adapter_embeds": [shown], "negative_ip_adapter_embeds": [none]}
    found = pipe(**CALL, **embeds, generator=tiny.generators(0)[0], output="latents")
    host = tiny.shown(tiny.sdxl())
    plain = host(**CALL, guidance_scale=4.0, generator=tiny.generators(0)[0]).images
    with Guidance(plugin).attach(host):
        classic = host(**CALL, guidance_scale=4.0, generator=tiny.generators(0)[0]).images
    torch.testing.assert_close(found, classic, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(classic, plain, atol=1e-2)
