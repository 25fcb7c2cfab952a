"""Loading other people's models for evaluation: a hub id or a folder, never code of theirs.

Weights are read as safetensors only, and must fit the architecture exactly: a missing weight would
be made up at random, one that nobody knows belongs to another model. They must be numbers, too: a
detector of NaN finds nothing, and a safety checker of NaN calls every picture safe. Image
processors are used in their Pillow form: it is there without torchvision, and decides the pixels a
score is made of, so it is chosen and not left to what happens to be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError
from adhere.pipelines.folders import hub

Extract = Callable[[Sequence[Image.Image]], Float[Tensor, "n channels"]]
"""Embeds pictures."""

_LOADING = {"trust_remote_code": False}


def pretrained(kind: Any, model: str, **options: Any) -> Any:
    """`kind.from_pretrained(model)`, with a message that says what to do when it fails."""
    hub.check_answers(model)
    try:
        return kind.from_pretrained(model, **_LOADING, **options)
    except Exception as error:
        what = "the folder" if Path(model).exists() else "neither a folder nor a hub id found here:"
        raise ModelError(
            f"cannot load {kind.__name__} from {what} {model!r}: {str(error)[:300]}"
        ) from error


def network(kind: Any, model: str, device: str) -> Any:
    """A network for inference: float32, evaluation mode, frozen.

    Raises:
        ModelError: it cannot be loaded, its weights are not exactly those of the architecture, or
            some of them are NaN or infinite.
    """
    # Weights of other shapes are told below, by name, with what else does not fit.
    made, info = pretrained(
        kind, model, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    _check_whole(made, model, info)
    check_finite(made.state_dict(), model)
    return made.eval().requires_grad_(False).to(device)


def reader(kind: Any, model: str, device: str) -> tuple[Any, Any]:
    """A network that reads texts beside pictures, after its processor of both.

    Raises:
        ModelError: as `network`, or the tokenizer is of another model.
    """
    both = processor(model)
    made = network(kind, model, device)
    tokenizer = getattr(both, "tokenizer", None)
    if tokenizer is None:
        raise ModelError(f"{model!r} has no processor that takes texts beside pictures")
    _check_tokenizer(tokenizer, made, model)
    return both, made


def check_finite(weights: Mapping[str, Tensor], model: str) -> None:
    """Raises `ModelError` where some weights are no numbers."""
    bad = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if bad:
        raise ModelError(
            f"{model!r}: {len(bad)} weights hold NaN or infinity (first {bad[0]!r}), as after an "
            "overflow in half precision; its scores would mean nothing. Give a whole checkpoint"
        )


def _check_whole(made: torch.nn.Module, model: str, info: Mapping[str, Any]) -> None:
    # Buffers that the network computes itself (positions) were saved by older versions.
    computed = {name for name, _ in made.named_buffers()}
    told = {
        "weights are missing": sorted(map(str, info["missing_keys"])),
        "weights have no place": sorted(set(info["unexpected_keys"]) - computed),
        "weights have other shapes": sorted(str(name) for name, *_ in info["mismatched_keys"]),
    }
    said = [f"{len(keys)} {what} (first {keys[0]!r})" for what, keys in told.items() if keys]
    if said:
        raise ModelError(
            f"{model!r} does not hold a {type(made).__name__}: {' and '.join(said)}; a partly "
            "loaded model gives scores that mean nothing. Give a checkpoint of exactly this kind"
        )


def _check_tokenizer(tokenizer: Any, made: Any, model: str) -> None:
    # Models pad their vocabularies by a little. A tokenizer whose files are missing is made all the
    # same, with its special tokens alone: it reads every text as the same.
    words, known = len(tokenizer), made.config.get_text_config().vocab_size
    if not known / 2 <= words <= known:
        raise ModelError(
            f"{model!r}: the tokenizer has {words} tokens, the model knows {known}; "
            "they are not of one model, or the tokenizer's files are missing"
        )


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
    """CLIP or SigLIP as scores need it: float32 embeddings, and how much text was cut off."""

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
        # SigLIP was trained with its padding in sight; CLIP's is hidden.
        hidden = () if self.model.config.model_type == "siglip" else ("attention_mask",)
        given = {name: tokens[name].to(self.device) for name in ("input_ids", *hidden)}
        found = tensor(self.model.get_text_features(**given))
        return torch.nn.functional.normalize(found.float(), dim=-1).cpu()

    def cut(self, text: str) -> int:
        """How many tokens of a text do not fit."""
        return max(0, len(self.tokenizer(text)["input_ids"]) - self.length)


def clip(model: str, device: str) -> Clip:
    """CLIP or SigLIP from `toybox`, a hub id or a folder.

    Raises:
        ModelError: another architecture, weights that do not fit it, or a tokenizer that does not.
    """
    if model == "toybox":
        from adhere.pipelines.toybox import load_clip

        network_, tokenizer, preprocess = load_clip()
        return Clip(network_.eval().to(device), tokenizer, preprocess, device)
    from transformers import AutoTokenizer

    kind = _dual_encoder(model)
    images, tokenizer = image_processor(model), pretrained(AutoTokenizer, model)
    made = network(kind, model, device)
    _check_tokenizer(tokenizer, made, model)
    return Clip(
        made,
        tokenizer,
        lambda pictures: images(images=pictures, return_tensors="pt")["pixel_values"],
        device,
    )


def architecture(model: str) -> str:
    """What a model's configuration says it is: `clip`, `siglip`, `dinov2`..."""
    from transformers import AutoConfig

    return str(pretrained(AutoConfig, model).model_type)


def _dual_encoder(model: str) -> Any:
    from transformers import CLIPModel, SiglipModel

    kinds: dict[str, Any] = {"clip": CLIPModel, "siglip": SiglipModel}
    kind = architecture(model)
    if kind not in kinds:
        raise ModelError(
            f"{model!r} is a {kind!r} model; pictures and texts are compared by CLIP or SigLIP"
        )
    return kinds[kind]


def read_with_picture(text: Any, tokens: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
    """What BLIP's text encoder makes of tokens `(n, tokens)` while it looks at `seen`, a picture's
    last hidden state `(n, patches, channels)`: `(n, tokens, channels)`.
    """
    found: Tensor = text(
        input_ids=tokens,
        attention_mask=mask,
        encoder_hidden_states=seen,
        encoder_attention_mask=seen.new_ones(seen.shape[:-1], dtype=torch.long),
    ).last_hidden_state
    return found
