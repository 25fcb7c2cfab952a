"""Extra texts in the pipelines that people put them in: ControlNet, LoRA, pictures to start from.

In each a text that nobody attends to changes no bit, the prompt's own text in the prompt's place
changes nothing, and every picture of a batch has its own regions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from adhere import Guidance, prediction_guider
from adhere.errors import LayoutError, ParameterError
from adhere.layout.layout import Layout, Region
from adhere.pipelines.families import family_of
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families import modular_cases, pipes
from tests.families.test_extra_texts import NEW, ONE, OTHER, Attends
from tests.families.test_setups import flux_controlnet, sd3_controlnet
from tests.pipelines.test_setups import controlnet

TOKENS = 6
"""Of the first text for T5, its end with them: then FLUX and SD3 have no filling."""

# Longer ones are cut there, which is said.
pytestmark = pytest.mark.filterwarnings("ignore:the T5 encoder reads")

Regional: Any = PLUGINS["regional-prompting"]
NAG: Any = PLUGINS["nag"]("a skull", scale=8.0, alpha=0.5)
VSF: Any = PLUGINS["vsf"]("a skull")


@dataclass(frozen=True)
class Host:
    """A pipeline, and what its calls have beside a prompt.

    Attributes:
        each: options of which every picture of a batch has one.
        lora: put on the denoiser as two weighted adapters.
    """

    kind: str
    parts: Callable[[], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    each: dict[str, Any] = field(default_factory=dict)
    lora: bool = False

    @functools.cached_property
    def pipe(self) -> Any:
        pipe = pipes.quiet(getattr(diffusers, self.kind)(**self.parts()))
        if self.lora:
            adapted(pipe)
        return pipe

    def __call__(
        self, *plugins: Any, layouts: list[Layout] | None = None, images: tuple[int, ...] = (0,)
    ) -> Tensor:
        """Final latents of some images, each with its own noise and options."""
        call = {"num_inference_steps": 3, "output_type": "latent", **self.options}
        call |= {name: given[list(images)] for name, given in self.each.items()}
        call |= {"prompt": [ONE] * len(images), "generator": tiny.generators(*images)}
        pipe = self.pipe
        torch.manual_seed(0)  # once it is made: some draw without the call's generators
        if not plugins:
            return pipe(**call).images
        with Guidance(*plugins).attach(pipe, layout=layouts):
            return pipe(**call).images


def adapted(pipe: Any) -> None:
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    torch.manual_seed(7)
    for name in ("one", "two"):
        targets = ["to_q", "to_k", "to_v", "add_k_proj"]
        config = LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
        denoiser.add_adapter(config, adapter_name=name)
    denoiser.set_adapters(["one", "two"], weights=[0.7, -0.4])


def made_of(make: Callable[[], Any], **more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**make().components, **more}


def fixed_picture_latents(parts: dict[str, Any]) -> dict[str, Any]:
    """The VAE gives its mean, since some pipelines draw without the call's generator."""
    last = parts["vae"].encoder.conv_out
    with torch.no_grad():
        last.weight[len(last.weight) // 2 :] = 0
        last.bias[len(last.bias) // 2 :] = -30
    return parts


def wide_sd3_parts() -> dict[str, Any]:
    """Latents of 16 channels, which the inpainting pipeline asks for."""
    parts = pipes.sd3_parts(vae=pipes.vae(16))
    config = {**parts["transformer"].config, "in_channels": 16, "out_channels": 16}
    torch.manual_seed(0)
    model = pipes.lively(diffusers.SD3Transformer2DModel.from_config(config))
    return fixed_picture_latents({**parts, "transformer": model})


def plain_sd1(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**tiny.sd1_parts(**changes), "requires_safety_checker": False}


def pictures(channels: int = 3) -> Tensor:
    return torch.rand(2, channels, 32, 32, generator=tiny.generators(4)[0])


SIZE = {"height": 32, "width": 32}
FEW = {**SIZE, "max_sequence_length": TOKENS}
CFG = {"guidance_scale": 5.0}
START = {"strength": 0.7, "num_inference_steps": 4}
MASK = {"image": pictures(), "mask_image": (pictures(1) > 0.5).float()}
XL = {"add_watermarker": False}
CONTROL_XL = {
    "cross_attention_dim": 64,
    "block_out_channels": (16, 32, 32),
    "transformer_layers_per_block": (1, 1, 2),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 8 * 6 + 32,
}

HOSTS = {
    "sd1-controlnet": Host(
        "StableDiffusionControlNetPipeline",
        lambda: {**plain_sd1()(), "controlnet": controlnet()},
        {**SIZE, **CFG},
        {"image": pictures()},
    ),
    "sdxl-controlnet": Host(
        "StableDiffusionXLControlNetPipeline",
        lambda: {**tiny.sdxl().components, "controlnet": controlnet(**CONTROL_XL), **XL},
        {**SIZE, **CFG},
        {"image": pictures()},
    ),
    "sd3-controlnet": Host(
        "StableDiffusion3ControlNetPipeline",
        lambda: sd3_controlnet()[0].components,
        {**FEW, **CFG},
        {"control_image": pictures()},
    ),
    "flux-controlnet": Host(
        "FluxControlNetPipeline",
        lambda: flux_controlnet()[0].components,
        FEW,
        {"control_image": pictures()},
    ),
    "sd1-lora": Host("StableDiffusionPipeline", plain_sd1(), {**SIZE, **CFG}, lora=True),
    "sdxl-lora": Host(
        "StableDiffusionXLPipeline", made_of(tiny.sdxl, **XL), {**SIZE, **CFG}, lora=True
    ),
    "sd3-lora": Host("StableDiffusion3Pipeline", pipes.sd3_parts, {**FEW, **CFG}, lora=True),
    "flux-lora": Host("FluxPipeline", pipes.flux_parts, FEW, lora=True),
    "sd1-inpaint": Host(
        "StableDiffusionInpaintPipeline",
        plain_sd1(unet=tiny.unet(in_channels=9)),
        {**SIZE, **CFG},
        MASK,
    ),
    "sdxl-inpaint": Host(
        "StableDiffusionXLInpaintPipeline",
        made_of(tiny.sdxl, **XL),
        {**SIZE, **CFG, **START},
        MASK,
    ),
    "sd3-inpaint": Host(
        "StableDiffusion3InpaintPipeline",
        wide_sd3_parts,
        {**FEW, **CFG, **START},
        MASK,
    ),
    "flux-inpaint": Host(
        "FluxInpaintPipeline",
        lambda: fixed_picture_latents(pipes.flux_parts()),
        {**FEW, **START},
        MASK,
    ),
    "sd1-image": Host(
        "StableDiffusionImg2ImgPipeline", plain_sd1(), {**CFG, **START}, {"image": pictures()}
    ),
    "sdxl-image": Host(
        "StableDiffusionXLImg2ImgPipeline",
        made_of(tiny.sdxl, **XL),
        {**CFG, **START},
        {"image": pictures()},
    ),
    "sd3-image": Host(
        "StableDiffusion3Img2ImgPipeline", pipes.sd3_parts, {**FEW, **CFG, **START},
        {"image": pictures()},
    ),
    "flux-image": Host(
        "FluxImg2ImgPipeline", pipes.flux_parts, {**FEW, **START}, {"image": pictures()}
    ),
}  # fmt: skip
hosted = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)

LAYOUTS = [
    Layout(
        (
            Region(text=OTHER, box=(0, 0, 0.4, 1)),
            Region(text=NEW, negative="a dog", box=(0.4, 0.2, 1, 0.8)),
        )
    ),
    Layout((Region(text="a haunted car", box=(0, 0.5, 1, 1), feather=0.1),), base=0.3),
]


@hosted
def test_the_prompt_in_its_own_place_changes_nothing(host: Host) -> None:
    plain = host()
    assert torch.equal(host(Attends(texts={"other": OTHER, "new": NEW})), plain)
    itself = Attends(lambda one: one.output({"same": 1.0}), {"new": NEW, "same": ONE})
    torch.testing.assert_close(host(itself), plain, rtol=1e-4, atol=1e-4)
    other = Attends(lambda one: one.output({"new": 1.0}), {"new": NEW, "same": ONE})
    assert not torch.allclose(host(other), plain, rtol=1e-2, atol=1e-2)


@hosted
def test_every_picture_of_a_batch_has_its_own_regions(host: Host) -> None:
    both = host(Regional(), NAG, VSF, layouts=LAYOUTS, images=(0, 1))
    assert torch.isfinite(both).all()
    for image, layout in enumerate(LAYOUTS):
        alone = host(Regional(), NAG, VSF, layouts=[layout], images=(image,))
        torch.testing.assert_close(both[image : image + 1], alone, rtol=1e-3, atol=1e-3)
        swapped = host(Regional(), NAG, VSF, layouts=[LAYOUTS[1 - image]], images=(image,))
        assert not torch.allclose(alone, swapped, rtol=1e-2, atol=1e-2)


def test_a_picture_without_regions_is_refused_before_denoising() -> None:
    host = HOSTS["sd1-lora"]
    with pytest.raises(LayoutError, match=f"no layout for '{ONE}'"):
        host(Regional(), layouts=[LAYOUTS[0], None], images=(0, 1))  # type: ignore[list-item]


# ---- Modular pipelines -------------------------------------------------------

MODULAR = modular_cases.CASES


@pytest.mark.parametrize("plugin", [Regional(LAYOUTS[0]), NAG, VSF], ids=["regional", "nag", "vsf"])
@pytest.mark.parametrize("case", MODULAR.values(), ids=MODULAR)
def test_a_guided_loop_makes_the_classic_picture(case: Any, plugin: Any) -> None:
    wanted = case.expected(plugin)
    found = case.unpacked(case.modular(case.pipe(Guidance(plugin))))
    # Z-Image's transformer goes on in single precision whatever is asked.
    bound = 1e-3 if case.name == "z-image" else 1e-8
    torch.testing.assert_close(found, wanted, rtol=bound, atol=bound)
    assert not torch.allclose(wanted, case.expected(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("plugin", [Regional(LAYOUTS[0]), NAG, VSF], ids=["regional", "nag", "vsf"])
def test_a_guider_refuses_what_acts_in_attention(plugin: Any) -> None:
    pipe = MODULAR["sd3"].pipe()
    with pytest.raises(ParameterError, match=f"{plugin.name} acts on .* in the loop"):
        prediction_guider(pipe, Guidance(plugin))


def test_a_refiner_knows_the_token_that_opens_a_text() -> None:
    """It has the second tokenizer alone."""
    pipe = tiny.sdxl()
    both = tuple(family_of(pipe).opening(77))
    pipe.tokenizer = None
    assert both == tuple(family_of(pipe).opening(77)) == (0,)
