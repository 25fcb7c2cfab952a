"""Small random pipelines made from configs: the mechanics of every family without any weights."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizerFast,
)

from adhere.layout.layout import Layout, Region

WORDS = [
    *("a", "an", "the", "and", "of", "with", "in", "on", "is"),
    *("red", "blue", "green", "yellow", "big", "small", "haunted", "bright"),
    *("cat", "dog", "frog", "car", "bird", "photo", "skull", "crown"),
]


@functools.cache
def tokenizer_folder() -> Path:
    """A CLIP tokenizer whose words above are one token, and all others one token a letter."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-clip-"))
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = {token: i for i, token in enumerate([*letters, *(f"{c}</w>" for c in letters)])}
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = f"{parts[0]} {parts[1]}"
            if pair not in merges:
                merges.append(pair)
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.setdefault(parts[0], len(vocabulary))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return folder


def tokenizer(length: int = 77) -> CLIPTokenizerFast:
    folder = tokenizer_folder()
    return CLIPTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length
    )


def text_encoder(width: int, *, projection: bool = False, seed: int = 0) -> Any:
    tok = tokenizer()
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(tok),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=[8, 16],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    ).eval()


def unet(cross: int = 32, seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    """Four levels like SD 1.x; latents of 32x32 give maps of 32, 16, 8 and 4 cells a side."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "sample_size": 32,
        "block_out_channels": (16, 16, 32, 32),
        "layers_per_block": 1,
        "cross_attention_dim": cross,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    made = UNet2DConditionModel(**{**options, **changes}).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            # Fresh weights attend to everything alike; these have words that they prefer.
            if ".attn2.to_q" in name or ".attn2.to_k" in name:
                weight.mul_(4)
    return made


def scheduler(**changes: Any) -> DDIMScheduler:
    options = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return DDIMScheduler(**{**options, **changes})


def sd1_parts(**changes: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "vae": vae(),
        "text_encoder": text_encoder(32),
        "tokenizer": tokenizer(),
        "unet": unet(),
        "scheduler": scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    return {**parts, **changes}


def sd1(**changes: Any) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline(**sd1_parts(**changes), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sd2(**changes: Any) -> StableDiffusionPipeline:
    """Like SD 2.x: text embeddings 1024 wide."""
    return sd1(unet=unet(cross=1024), text_encoder=text_encoder(1024), **changes)


def sdxl(**changes: Any) -> StableDiffusionXLPipeline:
    cross = 64
    parts: dict[str, Any] = {
        "vae": vae(),
        "text_encoder": text_encoder(32),
        "text_encoder_2": text_encoder(32, projection=True, seed=1),
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer(),
        "unet": unet(
            cross=cross,
            sample_size=32,
            block_out_channels=(16, 32, 32),
            transformer_layers_per_block=(1, 1, 2),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=8 * 6 + 32,
        ),
        "scheduler": scheduler(),
    }
    pipe = StableDiffusionXLPipeline(**{**parts, **changes}, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ip_adapter(unet: Any) -> dict[str, dict[str, Tensor]]:
    """Random weights of an IP-Adapter for embeddings of 16 numbers, four tokens a picture."""
    draw = torch.Generator().manual_seed(2)
    cross = unet.config.cross_attention_dim
    layers = [name for name in unet.attn_processors if ".attn1." not in name]
    weights: dict[str, Tensor] = {}
    for key, name in enumerate(layers):
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"{2 * key + 1}.{part}.weight"] = torch.randn(width, cross, generator=draw)
    projection = {
        "proj.weight": torch.randn(cross * 4, 16, generator=draw),
        "proj.bias": torch.randn(cross * 4, generator=draw),
        "norm.weight": torch.ones(cross),
        "norm.bias": torch.zeros(cross),
    }
    return {"image_proj": projection, "ip_adapter": weights}


def load_ip_adapter(pipe: Any) -> None:
    """Put a random IP-Adapter on a pipeline, as `pipe.load_ip_adapter` would from a file."""
    pipe.unet._load_ip_adapter_weights([ip_adapter(pipe.unet)])


def pictures(count: int = 2) -> Tensor:
    """What a pipeline's image encoder would make of no picture, and of some."""
    return torch.randn(2, count, 16, generator=torch.Generator().manual_seed(5))


def shown(pipe: Any) -> Any:
    """A pipeline with a random IP-Adapter, whose calls show it two pictures unless others are."""
    load_ip_adapter(pipe)
    kind = type(pipe)

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("ip_adapter_image_embeds", [pictures().to(self.dtype)])
        return kind.__call__(self, *args, **kwargs)

    pipe.__class__ = type(kind.__name__, (kind,), {"__call__": call})
    return pipe


def suited(plugin: Any, pipe: Any) -> Any:
    """A pipeline that a plugin can guide: one that is shown pictures, where it needs some."""
    return shown(pipe) if getattr(plugin, "pictures", False) else pipe


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


PROMPT = "a red cat and a blue car"
LAYOUT = Layout(
    (Region("red cat", box=(0.0, 0.25, 0.5, 1.0)), Region("blue car", box=(0.5, 0.0, 1.0, 0.75)))
)
"""Places for the things of the prompt above."""


def latents(
    pipe: Any,
    prompt: Any = PROMPT,
    *,
    guidance: Any = None,
    mode: str = "attach",
    seeds: Sequence[int] = (0,),
    steps: int = 3,
    size: tuple[int, int] | None = (32, 32),
    about: Mapping[str, Any] | None = None,
    **call: Any,
) -> Tensor:
    """The final latents of one call of a pipeline.

    Args:
        size: height and width in pixels, two for each latent cell; None for the pipeline's own.
        guidance: put on the pipeline in one of the three ways; None for the pipeline alone.
        mode: "attach", "callback", or "multi" (a callback among others).
        about: what is said to the guidance beside the call.
    """
    asked = {"num_inference_steps": steps, "output_type": "latent", **call}
    if size is not None:
        asked["height"], asked["width"] = size
    if "generator" not in asked:
        asked["generator"] = generators(*seeds)
    if guidance is None:
        return pipe(prompt, **asked).images
    if mode == "attach":
        with guidance.attach(pipe, **(about or {})):
            return pipe(prompt, **asked).images
    callback: Any = guidance.callback(pipe, **(about or {}))
    if mode == "multi":
        callback = MultiPipelineCallbacks([_Watcher(), callback])
    return pipe(prompt, callback_on_step_end=callback, **asked).images


class _Watcher(PipelineCallback):
    """Another callback, which asks for tensors and changes nothing."""

    @property
    def tensor_inputs(self) -> list[str]:
        return ["latents", "prompt_embeds"]

    def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
        return tensors


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference as a share of the range of values."""
    return float((one - other).abs().max() / (other.max() - other.min()))
