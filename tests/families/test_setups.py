"""Transformers as people set them up: ControlNet, IP-Adapter, PixArt-alpha, swapped weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from torch import Tensor

from adhere import Guidance
from adhere.errors import ModelError
from adhere.guides.guide import Guide
from adhere.plugins import PLUGINS
from tests.families import pipes
from tests.families.cases import CASES, PROMPTS, Case, shown_calls
from tests.families.test_families import every
from tests.leftovers import picture
from tests.probes import Probe

EXCITE: Any = PLUGINS["attend-and-excite"](refinements=0)
# The published scale of 5000 makes a step of 1 out of a difference that is all rounding.
SAFE: Any = PLUGINS["safe-latent-diffusion"]("max", scale=20.0, concept="a green frog")
SD3, FLUX, PIXART = (CASES[name] for name in ("sd3", "flux", "pixart"))
CPU = torch.device("cpu")


# Weights that are swapped behind autograd's back


def offloaded(transformer: Any) -> None:
    transformer.enable_group_offload(
        onload_device=CPU, offload_device=CPU, offload_type="leaf_level"
    )


def cast(transformer: Any) -> None:
    transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
    )


@every
@pytest.mark.parametrize(
    ("swap", "sentence"),
    [
        (offloaded, r"group offload swaps .*enable_model_cpu_offload"),
        (cast, "layerwise casting swaps"),
    ],
    ids=["group-offload", "layerwise-casting"],
)
def test_swapped_weights_are_refused_before_denoising(
    case: Case, swap: Callable[[Any], None], sentence: str
) -> None:
    pipe = case.make()
    swap(pipe.transformer)
    before = picture(pipe)
    with (
        shown_calls(pipe) as calls,
        Guidance(EXCITE).attach(pipe),
        pytest.raises(ModelError, match=sentence),
    ):
        case(pipe=pipe)
    assert calls == []
    assert picture(pipe) == before


# What else steers the model


def control_pictures() -> Tensor:
    return torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(4))


def sd3_controlnet() -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(5)
    net = diffusers.SD3ControlNetModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=16,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=24,
    )
    pipe = diffusers.StableDiffusion3ControlNetPipeline(
        **pipes.sd3_parts(), controlnet=pipes.lively(net)
    )
    # The pipeline draws the picture's latents without the call's generator: let it draw the mean.
    last = pipe.vae.encoder.conv_out
    with torch.no_grad():
        last.weight[len(last.weight) // 2 :] = 0
        last.bias[len(last.bias) // 2 :] = -30
    return pipes.quiet(pipe), {"control_image": control_pictures()}


def flux_controlnet() -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(5)
    net = diffusers.FluxControlNetModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    pipe = diffusers.FluxControlNetPipeline(**pipes.flux_parts(), controlnet=pipes.lively(net))
    return pipes.quiet(pipe), {"control_image": control_pictures()}


def sd3_ip_adapter() -> tuple[Any, dict[str, Tensor]]:
    pipe = pipes.sd3()
    model = pipe.transformer
    torch.manual_seed(6)
    model.set_attn_processor(
        {
            name: SD3IPAdapterJointAttnProcessor2_0(
                hidden_size=16, ip_hidden_states_dim=16, head_dim=8, timesteps_emb_dim=16
            )
            for name in model.attn_processors
        }
    )
    model.image_proj = IPAdapterTimeImageProjection(
        embed_dim=12,
        output_dim=16,
        hidden_dim=16,
        dim_head=8,
        heads=2,
        num_queries=4,
        timestep_in_dim=16,
    )
    # A negative picture's embeddings and a picture's, for all prompts.
    return pipe, {"ip_adapter_image_embeds": torch.randn(2, 5, 12)}


def flux_ip_adapter() -> tuple[Any, dict[str, Tensor]]:
    pipe = pipes.flux()
    torch.manual_seed(6)
    weights = {
        f"{block}.{part}.{kind}": torch.randn((32, 32) if kind == "weight" else (32,))
        for block in range(2)
        for part in ("to_k_ip", "to_v_ip")
        for kind in ("weight", "bias")
    }
    projection = {
        "proj.weight": torch.randn(4 * 32, 12),
        "proj.bias": torch.randn(4 * 32),
        "norm.weight": torch.ones(32),
        "norm.bias": torch.zeros(32),
    }
    pipe.transformer._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": weights}])
    # A picture's embeddings, which the pipeline repeats for all prompts.
    return pipe, {"ip_adapter_image_embeds": torch.randn(1, 1, 12)}


def of_image(name: str, given: Tensor, image: int) -> Tensor:
    """One image's part of what steers two; adapters take one picture for all."""
    return given if name == "ip_adapter_image_embeds" else given[image : image + 1]


def told(name: str, given: Tensor, case: Case) -> dict[str, Any]:
    """Options of the call. FLUX takes a list, and negative ones for true CFG."""
    if name == "ip_adapter_image_embeds" and case is FLUX:
        return {name: [given], f"negative_{name}": [given / 2]}
    return {name: given}


STEERED = {
    "sd3-controlnet": (SD3, sd3_controlnet),
    "flux-controlnet": (FLUX, flux_controlnet),
    "sd3-ip-adapter": (SD3, sd3_ip_adapter),
    "flux-ip-adapter": (FLUX, flux_ip_adapter),
}


@pytest.mark.parametrize("name", STEERED)
def test_controlnet_and_ip_adapter(name: str) -> None:
    case, make = STEERED[name]
    pipe, steering = make()
    ((key, given),) = steering.items()
    both = {"pipe": pipe, **told(key, given, case)}
    torch.manual_seed(0)
    plain = case(**both)
    assert (plain - case(**{"pipe": pipe, **told(key, -given, case)})).abs().max() > 1e-3
    with Guidance(Probe(lambda run: Guide())).attach(pipe):
        torch.manual_seed(0)
        assert torch.equal(case(**both), plain)
    for plugin in (EXCITE, SAFE):
        with Guidance(plugin).attach(pipe):
            together = case(**both)
            for image in range(2):
                own = told(key, of_image(key, given, image), case)
                alone = case(PROMPTS[image : image + 1], seeds=(image + 1,), pipe=pipe, **own)
                torch.testing.assert_close(together[image : image + 1], alone, rtol=1e-3, atol=1e-3)
        assert (together - plain).abs().max() > 1e-2


# The other PixArt


def test_pixart_alpha() -> None:
    """The same model in alpha's pipeline: with no resolution conditions it is Sigma's picture."""
    pipe = pipes.quiet(diffusers.PixArtAlphaPipeline(**pipes.pixart_parts()))
    length = {"max_sequence_length": PIXART.options.get("max_sequence_length", 120)}
    assert torch.equal(PIXART(pipe=pipe, **length), PIXART(**length))
    for plugin in (EXCITE, SAFE):
        with Guidance(plugin).attach(pipe):
            found = PIXART(pipe=pipe, **length)
        with Guidance(plugin).attach(PIXART.pipe):
            assert torch.equal(found, PIXART(**length))
        assert (found - PIXART(**length)).abs().max() > 1e-2


def test_pixart_alpha_with_resolution_conditions() -> None:
    """Alpha's large model is told the picture's size for each row: the pass must cut that too."""
    parts = pipes.pixart_parts()
    config = {**parts["transformer"].config, "use_additional_conditions": True}
    torch.manual_seed(0)
    # Sizes are embedded in thirds of the width.
    config.update(num_attention_heads=3, attention_head_dim=8, cross_attention_dim=24)
    model = pipes.lively(diffusers.PixArtTransformer2DModel.from_config(config))
    pipe = pipes.quiet(diffusers.PixArtAlphaPipeline(**{**parts, "transformer": model}))
    model.config.sample_size = 128
    plain = PIXART(pipe=pipe)
    with shown_calls(pipe) as calls, Guidance(EXCITE).attach(pipe):
        together = PIXART(pipe=pipe)
        alone = PIXART(PROMPTS[1:], seeds=(2,), pipe=pipe)
    assert {tuple(call["added_cond_kwargs"]["resolution"].shape) for call in calls} >= {(4, 2)}
    torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-3)
    assert (together - plain).abs().max() > 1e-2
