"""The toybox's CLIP: a small text and a small vision encoder, trained contrastively on scenes and
captions.

The text encoder is then frozen and conditions the UNet, as in Stable Diffusion; the pair gives
CLIP scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from adhere.pipelines.toybox.model.tokenizer import END, MOST_TOKENS, START
from adhere.pipelines.toybox.world.world import SIDE

WIDTH = 128


def build_clip(tokenizer: CLIPTokenizerFast) -> CLIPModel:
    """An untrained CLIP of the toybox's shape: 2 text layers and 3 vision layers of width 128."""
    start, end = tokenizer.convert_tokens_to_ids([START, END])
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MOST_TOKENS,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def text_encoder_of(clip: CLIPModel, kind: Any = CLIPTextModel) -> Any:
    """The text half as a pipeline's encoder, of class `kind`, sharing no memory but holding equal
    weights.
    """
    encoder = kind(CLIPTextConfig(**clip.config.text_config.to_dict()))
    held = {_bare(k): v for k, v in clip.state_dict().items()}
    encoder.load_state_dict({k: held[_bare(k)] for k in encoder.state_dict()})
    return encoder.eval()


def _bare(name: str) -> str:
    """A weight's name without the prefix that some versions of some classes give it."""
    return name.removeprefix("text_model.")


def preprocess(images: Sequence[Image.Image]) -> Tensor:
    """Pictures to CLIP's input `(n, 3, 64, 64)` in [-1, 1]; other sizes are resized (area
    averaging).
    """
    arrays = []
    for image in images:
        picture = image.convert("RGB")
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
        arrays.append(np.asarray(picture))
    stack = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    return stack.float() / 127.5 - 1


def tokenise(tokenizer: CLIPTokenizerFast, captions: Sequence[str]) -> Tensor:
    """Captions to token ids `(n, 32)`, padded with the end token as the pipeline does."""
    ids: Tensor = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=MOST_TOKENS,
        return_tensors="pt",
    ).input_ids
    return ids


def contrastive_loss(clip: CLIPModel, pixel_values: Tensor, ids: Tensor, same: Tensor) -> Tensor:
    """Symmetric cross-entropy over the batch; pairs with an equal caption (`same`) are no
    negatives.
    """
    out = clip(input_ids=ids, pixel_values=pixel_values)
    logits = out.logits_per_text.float()
    clash = same & ~torch.eye(len(ids), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(clash, -1e4)
    target = torch.arange(len(ids), device=logits.device)
    cross = nn.functional.cross_entropy
    return (cross(logits, target) + cross(logits.T, target)) / 2


def trimmed(ids: Tensor) -> Tensor:
    """Drops columns that are padding in every row; a causal text encoder never looks at them."""
    ends = (ids == ids.max()).int().argmax(1)
    return ids[:, : int(ends.max()) + 1]
