"""Extra texts on models as people run them: in half precision, offloaded, cast, fused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import accelerate
import diffusers
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from torch import Tensor, nn

from adhere import Guidance
from adhere.errors import ModelError
from adhere.guides.guide import Guide
from adhere.layout.layout import Layout, Region
from adhere.pipelines.engine.moments.extra_texts import _text
from adhere.pipelines.hooks.compat import positions_moved
from adhere.pipelines.hooks.splitting import _hidden
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families import pipes

LAYOUT = Layout(
    (
        Region(text="a big green frog", box=(0, 0, 0.4, 1)),
        Region(text="a haunted blue bird", negative="a dog", box=(0.4, 0.2, 1, 0.8)),
    )
)
PLUGIN: Any = PLUGINS["regional-prompting"](LAYOUT)
NAG: Any = PLUGINS["nag"]("a skull", scale=8.0, alpha=0.5)
VSF: Any = PLUGINS["vsf"]("a skull")

MAKERS: dict[str, Callable[[], Any]] = {"sd1": tiny.sd1, "sd3": pipes.sd3, "flux": pipes.flux}
every = pytest.mark.parametrize("name", MAKERS)


def guided(pipe: Any, *plugins: Any) -> Tensor:
    """Latents of two steps from a noise that is the same in every precision."""
    torch.manual_seed(0)
    noise = torch.randn(1, 4, 16, 16).to(denoiser(pipe).dtype)
    if isinstance(pipe, diffusers.FluxPipeline):
        noise = pipe._pack_latents(noise, 1, 4, 16, 16)
    return tiny.latents(pipe, steps=2, guidance=Guidance(*plugins), latents=noise)


def denoiser(pipe: Any) -> Any:
    return getattr(pipe, "unet", None) or pipe.transformer


@every
def test_half_precision_is_near_single(name: str) -> None:
    wanted = guided(MAKERS[name](), PLUGIN, NAG, VSF)
    for dtype, bound in ((torch.float16, 0.02), (torch.bfloat16, 0.2)):
        pipe = MAKERS[name]().to(dtype)
        found = guided(pipe, PLUGIN, NAG, VSF)
        assert torch.isfinite(found).all()
        assert tiny.apart(found.float(), wanted) < bound


@every
def test_under_autocast_is_near_single(name: str) -> None:
    """There what attention gives out may have another precision than what it is given."""
    wanted = guided(MAKERS[name](), PLUGIN, NAG, VSF)
    with torch.autocast("cpu", torch.bfloat16):
        found = guided(MAKERS[name](), PLUGIN, NAG, VSF)
    assert torch.isfinite(found).all()
    assert tiny.apart(found.float(), wanted) < 0.2


# ---- Weights that are elsewhere between calls --------------------------------


def models(pipe: Any) -> list[nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, nn.Module)]


def model_by_model(pipe: Any) -> None:
    hook = None
    for name in pipe.model_cpu_offload_seq.split("->"):
        if (part := getattr(pipe, name, None)) is not None:
            _, hook = accelerate.cpu_offload_with_hook(part, "cpu", prev_module_hook=hook)


def layer_by_layer(pipe: Any) -> None:
    """Weights are on the meta device until a layer runs, the text encoders' too."""
    for part in models(pipe):
        accelerate.cpu_offload(part, torch.device("cpu"), offload_buffers=bool(part._parameters))


def in_groups(pipe: Any) -> None:
    for part in models(pipe):
        apply_group_offloading(part, torch.device("cpu"), offload_type="leaf_level")


@pytest.mark.parametrize("name", ["sd1", "sd3"])
@pytest.mark.parametrize("offloaded", [model_by_model, layer_by_layer, in_groups])
def test_texts_are_encoded_where_encoders_are_offloaded(
    name: str, offloaded: Callable[[Any], None]
) -> None:
    wanted = guided(MAKERS[name](), PLUGIN, NAG, VSF)
    pipe = MAKERS[name]()
    offloaded(pipe)
    for _ in range(2):
        assert torch.equal(guided(pipe, PLUGIN, NAG, VSF), wanted)


def test_weights_that_are_cast_for_each_layer() -> None:
    rounded = pipes.sd3()
    rounded.transformer.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=torch.float32)
    exact = guided(pipes.sd3(), PLUGIN)
    assert 0 < tiny.apart(guided(rounded, PLUGIN), exact) < 0.2


# ---- Fused projections -------------------------------------------------------


def sd3_of_one_attention() -> Any:
    """As 3 medium: without what fused projections of diffusers leave out of 3.5, or fail in."""
    pipe = pipes.sd3()
    config = {**pipe.transformer.config, "dual_attention_layers": (), "qk_norm": None}
    torch.manual_seed(0)
    pipe.transformer = pipes.lively(diffusers.SD3Transformer2DModel.from_config(config))
    return pipe


@pytest.mark.parametrize(
    "make", [tiny.sd1, sd3_of_one_attention, pipes.flux], ids=["sd1", "sd3", "flux"]
)
def test_fused_projections(make: Callable[[], Any]) -> None:
    pipe = make()
    wanted = guided(pipe, PLUGIN, NAG, VSF)
    denoiser(pipe).fuse_qkv_projections()
    assert tiny.apart(guided(pipe, PLUGIN, NAG, VSF), wanted) < 1e-5


def test_fused_projections_that_diffusers_itself_cannot_run_are_refused() -> None:
    pipe = pipes.sd3()
    wanted = guided(pipe, PLUGIN)
    pipe.transformer.fuse_qkv_projections()
    for plugin in (PLUGIN, NAG, PLUGINS["attend-and-excite"](), PLUGINS["apg"]()):
        with pytest.raises(ModelError, match=r"\.attn2 of .* call unfuse_qkv_projections\(\)"):
            guided(pipe, plugin)
    pipe.transformer.unfuse_qkv_projections()
    assert torch.equal(guided(pipe, PLUGIN), wanted)


# ---- Embeddings in place of a prompt -----------------------------------------

SHORT = "a cat"
LONG = "a red cat and a blue car and a big green frog in a yellow bird"


def test_a_text_may_be_longer_than_embeddings_without_filling() -> None:
    """Qwen-Image's have as many columns as the prompt has tokens."""
    plugin = PLUGINS["nag"](LONG, scale=8.0, alpha=0.5)
    pipe = pipes.qwen()
    options: dict[str, Any] = {"guidance": Guidance(plugin), "steps": 1}
    wanted = tiny.latents(pipe, SHORT, **options)
    embeds, mask = pipe.encode_prompt(SHORT)
    given = {"prompt_embeds": embeds, "prompt_embeds_mask": mask}
    found = tiny.latents(pipe, None, about={"prompt": SHORT}, **given, **options)
    assert torch.equal(found, wanted)


def test_embeddings_of_sd3_may_be_those_of_clip_alone() -> None:
    pipe = pipes.sd3()
    embeds, none, pooled, pooled_none = pipe.encode_prompt(SHORT, None, None)
    given = {"prompt_embeds": embeds[:, :77], "pooled_prompt_embeds": pooled}
    given |= {"negative_prompt_embeds": none[:, :77], "negative_pooled_prompt_embeds": pooled_none}
    plain = tiny.latents(pipe, None, steps=1, **given)
    found = tiny.latents(pipe, None, steps=1, guidance=Guidance(PLUGIN), **given)
    assert tiny.apart(found, plain) > 1e-3


# ---- Programs that set defaults, and several threads -------------------------


def test_texts_lie_together_whatever_the_default_device_is() -> None:
    embeds, shown = torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    with torch.device("meta"):
        made = _text(Guide(), "other", [1, -1], embeds, shown)
        hidden = _hidden(torch.tensor([[True, True, False]], device="cpu"), embeds)
    assert made.shown.tolist() == [[True] * 3, [False] * 3]
    assert hidden is not None
    assert hidden.flatten().tolist() == [0, 0, float("-inf")]


def test_positions_may_be_moved_by_threads_that_end_in_any_order() -> None:
    def embedder(places: Tensor) -> Tensor:
        return 2 * places

    model: Any = SimpleNamespace(rope_embedder=embedder)
    first = positions_moved(model, lambda places: places + 1)
    second = positions_moved(model, lambda places: places + 10)
    first.__enter__()
    second.__enter__()
    assert model.rope_embedder(torch.tensor(0)) == 22
    first.__exit__(None, None, None)
    assert model.rope_embedder(torch.tensor(0)) == 20
    second.__exit__(None, None, None)
    assert model.rope_embedder is embedder
