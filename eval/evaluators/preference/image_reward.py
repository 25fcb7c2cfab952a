"""ImageReward (Xu et al. 2023, arXiv:2304.05977): BLIP reads prompt and picture, a head scores.

    score = (mlp(BLIP's text encoder, [CLS], looking at the picture) - 0.1672) / 1.0333

The published checkpoint (`ImageReward.pt` of THUDM/ImageReward) has BLIP's own names; they become
those of transformers, and every weight must find its place. The authors' package needs an older
transformers, so it is not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from adhere.errors import ModelError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.guides.parameters import param

MEAN, SPREAD = 0.16717362830052426, 1.0333394966054072
_WORDS = 35
_HEAD_WIDTH = 64
_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Of BLIP's training, and in no way to the score.
_UNUSED = re.compile(r"blip\.((vision|text)_proj\.|text_encoder\.embeddings\.position_ids$)")
_NAMES = (
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.", "vision.encoder.layers."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"^blip\.text_encoder\.", "text."),
)


@dataclass(frozen=True)
class ImageReward(Recipe):
    """How much people would like a picture for its prompt, says ImageReward."""

    name: ClassVar[str] = "image-reward"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("image_reward", "ImageReward: standardised, higher is liked better"),
    )
    models: ClassVar[tuple[str, ...]] = ("weights", "tokenizer")
    weights: str = param("", "ImageReward.pt, or its tensors as a safetensors file")
    tokenizer: str = param("google-bert/bert-base-uncased", "BERT's tokenizer: hub id or folder")

    def load(self, device: str) -> _Scorer:
        """Load BLIP and the head."""
        from transformers import AutoTokenizer

        # The file first: whoever forgot it should not wait for the hub.
        made = network(self.weights).to(device)
        return _Scorer(made, backends.pretrained(AutoTokenizer, self.tokenizer), device)


class Network(nn.Module):
    """BLIP's two encoders in transformers' form, and the head."""

    def __init__(self, vision: Any, text: Any, width: int) -> None:
        super().__init__()
        self.side = int(vision.config.image_size)
        self.vision, self.text = vision, text
        # Linear throughout; dropout has no weights but its place in the names.
        sizes = (width, 1024, 128, 64, 16)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Dropout()]
        self.mlp = nn.ModuleDict({"layers": nn.Sequential(*layers[:-1], nn.Linear(sizes[-1], 1))})

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """A reward for each picture with its prompt."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = backends.read_with_picture(self.text, tokens, mask, seen)
        found: Tensor = self.mlp["layers"](read[:, 0])[:, 0]
        return (found - MEAN) / SPREAD


def network(path: str) -> Network:
    """The network of a checkpoint, its sizes told by the weights.

    Raises:
        ModelError: it cannot be read, or its weights are not exactly ImageReward's.
    """
    state = _state(path)
    try:
        made = _empty(state)
        made.load_state_dict({_renamed(name): value for name, value in state.items()})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"image-reward: {path} is not ImageReward's: {str(error)[:300]}"
        ) from error
    backends.check_finite(made.state_dict(), path)
    return made.float().eval().requires_grad_(False)


def _state(path: str) -> Mapping[str, Tensor]:
    from safetensors.torch import load_file

    try:
        read = load_file if Path(path).suffix == ".safetensors" else _tensors
        state = read(path)
    except Exception as error:
        raise ModelError(
            f"image-reward: cannot read weights={path!r}: {str(error)[:200]}; give ImageReward.pt "
            "of THUDM/ImageReward"
        ) from error
    return {name: value for name, value in state.items() if not _UNUSED.match(name)}


def _tensors(path: str) -> dict[str, Tensor]:
    # Never code: a checkpoint that holds more than tensors is refused.
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _renamed(name: str) -> str:
    for pattern, other in _NAMES:
        name = re.sub(pattern, other, name)
    return name


def _empty(state: Mapping[str, Tensor]) -> Network:
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    patch = state["blip.visual_encoder.patch_embed.proj.weight"]
    places = state["blip.visual_encoder.pos_embed"].shape[1] - 1
    words, lengths = (
        state[f"blip.text_encoder.embeddings.{kind}_embeddings.weight"]
        for kind in ("word", "position")
    )
    hidden = state["blip.visual_encoder.blocks.0.mlp.fc1.weight"]
    between = state["blip.text_encoder.encoder.layer.0.intermediate.dense.weight"]
    wide, narrow = len(patch), words.shape[1]
    vision = BlipVisionConfig(
        hidden_size=wide, intermediate_size=len(hidden), num_attention_heads=wide // _HEAD_WIDTH,
        num_hidden_layers=_depth(state, r"blip\.visual_encoder\.blocks\.(\d+)\."),
        patch_size=patch.shape[-1], image_size=round(places**0.5) * patch.shape[-1],
        layer_norm_eps=1e-6,
    )  # fmt: skip
    text = BlipTextConfig(
        vocab_size=len(words), hidden_size=narrow, encoder_hidden_size=wide,
        intermediate_size=len(between), num_attention_heads=narrow // _HEAD_WIDTH,
        num_hidden_layers=_depth(state, r"blip\.text_encoder\.encoder\.layer\.(\d+)\."),
        max_position_embeddings=len(lengths),
    )  # fmt: skip
    return Network(BlipVisionModel(vision), BlipTextModel(text, add_pooling_layer=False), narrow)


def _depth(state: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(match[1]) for name in state if (match := re.match(pattern, name)))


class _Scorer:
    def __init__(self, network: Network, tokenizer: Any, device: str) -> None:
        self.network, self.tokenizer, self.device = network, tokenizer, device

    @torch.inference_mode()
    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        tokens = self.tokenizer(
            [one.entry.item.prompt for one in shown], padding="max_length", truncation=True,
            max_length=_WORDS, return_tensors="pt",
        ).to(self.device)  # fmt: skip
        pixels = torch.stack([prepared(one.image, self.network.side) for one in shown])
        mask = tokens["attention_mask"]
        found = self.network(pixels.to(self.device), tokens["input_ids"], mask)
        return [Row({"image_reward": value}) for value in found.tolist()]


def prepared(image: Image.Image, side: int) -> Tensor:
    """The middle square of a picture whose shorter side is made `side`; channels standardised."""
    width, height = image.size
    short = min(width, height)
    size = (int(side * width / short), int(side * height / short))
    picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = (round((length - side) / 2) for length in size)
    square = picture.crop((left, top, left + side, top + side))
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    values = pixels.reshape(side, side, 3).permute(2, 0, 1) / 255
    mean, spread = (torch.tensor(channel)[:, None, None] for channel in _PIXELS)
    return (values - mean) / spread
