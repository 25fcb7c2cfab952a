"""Loading other people's models for evaluation: a hub id or a folder, never code of theirs.

Weights are read as safetensors only. Image processors are used in their Pillow form: it is there
without torchvision, and decides the pixels a score is made of, so it is chosen and not left to what
happens to be installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError

_LOADING = {"trust_remote_code": False}


def pretrained(kind: Any, model: str, **options: Any) -> Any:
    """`kind.from_pretrained(model)`, with a message that says what to do when it fails."""
    try:
        return kind.from_pretrained(model, **_LOADING, **options)
    except Exception as error:
        what = "the folder" if Path(model).exists() else "neither a folder nor a hub id found here:"
        raise ModelError(
            f"cannot load {kind.__name__} from {what} {model!r}: {str(error)[:300]}"
        ) from error


def network(kind: Any, model: str, device: str) -> Any:
    """A network for inference: float32, evaluation mode, frozen."""
    made = pretrained(kind, model, use_safetensors=True, dtype=torch.float32)
    return made.eval().requires_grad_(False).to(device)


def image_processor(model: str) -> Any:
    """A model's image processor in its Pillow form."""
    from transformers import AutoImageProcessor

    return pretrained(AutoImageProcessor, model, backend="pil")


def processor(model: str) -> Any:
    """A model's joint processor of text and pictures, in its Pillow form."""
    from transformers import AutoProcessor

    return pretrained(AutoProcessor, model, backend="pil")


def rgb(images: Sequence[Image.Image]) -> list[Image.Image]:
    """As RGB."""
    return [image.convert("RGB") for image in images]


def tensor(output: Any) -> Tensor:
    """The embedding, whether a transformers version returns it bare or in an output object."""
    if isinstance(output, Tensor):
        return output
    pooled = output.pooler_output
    assert isinstance(pooled, Tensor)
    return pooled


class Clip:
    """CLIP as scores need it: normalised float32 embeddings, and how much text was cut off."""

    def __init__(self, model: Any, tokenizer: Any, preprocess: Any, device: str) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self._preprocess = preprocess
        self.length = int(model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "n channels"]:
        """Embeddings of pictures as the model gives them."""
        pixels = self._preprocess(rgb(images)).to(self.device)
        return tensor(self.model.get_image_features(pixel_values=pixels)).float().cpu()

    def images(self, images: Sequence[Image.Image]) -> Float[Tensor, "n channels"]:
        """Embeddings of pictures, of length 1."""
        return torch.nn.functional.normalize(self.features(images), dim=-1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "n channels"]:
        """Embeddings of texts, of length 1; texts past the model's length are cut there."""
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=self.length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        found = tensor(
            self.model.get_text_features(
                input_ids=tokens["input_ids"].to(self.device),
                attention_mask=tokens["attention_mask"].to(self.device),
            )
        )
        return torch.nn.functional.normalize(found.float(), dim=-1).cpu()

    def cut(self, text: str) -> int:
        """How many tokens of a text do not fit."""
        return max(0, len(self.tokenizer(text)["input_ids"]) - self.length)


def clip(model: str, device: str) -> Clip:
    """CLIP from `toybox`, a hub id or a folder."""
    if model == "toybox":
        from adhere.pipelines.toybox import load_clip

        network_, tokenizer, preprocess = load_clip()
        return Clip(network_.eval().to(device), tokenizer, preprocess, device)
    from transformers import AutoTokenizer, CLIPModel

    images = image_processor(model)
    return Clip(
        network(CLIPModel, model, device),
        pretrained(AutoTokenizer, model),
        lambda pictures: images(images=pictures, return_tensors="pt")["pixel_values"],
        device,
    )
