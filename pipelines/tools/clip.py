"""A CLIP beside the pipeline, in whose space pictures and texts are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.files import at_home
from adhere.guides.stored import PROBE
from adhere.pipelines.families import family_of
from adhere.pipelines.folders import saved
from adhere.pipelines.folders.bars import without_bars
from adhere.pipelines.hooks.weights import fingerprint
from adhere.pipelines.toybox import TOYBOXES, load_clip
from adhere.prompt.phrases import TORN, torn


@dataclass(frozen=True)
class Clip:
    """Both encoders and what prepares their input. Embeddings are float32 and of length one."""

    source: str
    model: Any
    tokenizer: Any
    preprocess: Callable[[Sequence[Image.Image]], Float[Tensor, "n 3 h w"]]

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def weights(self) -> str:
        """A fingerprint of the model."""
        return fingerprint(self.model)

    @torch.no_grad()
    def pictures(self, images: Sequence[Image.Image]) -> Float[Tensor, "n channels"]:
        """Embeddings of pictures."""
        pixels = self.preprocess([image.convert("RGB") for image in images]).to(self.device)
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        return _normal(self.model.visual_projection(seen))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "n channels"]:
        """Embeddings of texts; what an encoder cannot read is cut."""
        return self.of_tokens(self.ids(texts))

    def ids(self, texts: Sequence[str]) -> Int[Tensor, "n tokens"]:
        """Token ids with start, end and padding.

        Raises:
            ParameterError: a text has halves of characters in it.
        """
        for text in texts:
            if torn(text):
                raise ParameterError(f"{text!a} {TORN}")
        found: Tensor = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        ).input_ids
        return found.to(self.device)

    @property
    def length(self) -> int:
        """How many tokens the text encoder reads, start and end included."""
        return int(self.model.config.text_config.max_position_embeddings)

    def of_tokens(
        self, ids: Int[Tensor, "n tokens"], embeds: Float[Tensor, "n tokens c"] | None = None
    ) -> Float[Tensor, "n channels"]:
        """Embeddings of token ids, whose own embeddings may be given instead; differentiable."""
        table = self.model.text_model.embeddings.token_embedding
        hook = table.register_forward_hook(lambda *_: embeds) if embeds is not None else None
        try:
            read = self.model.text_model(input_ids=ids).pooler_output
        finally:
            if hook is not None:
                hook.remove()
        return _normal(self.model.text_projection(read))


def _normal(embeds: Tensor) -> Tensor:
    return torch.nn.functional.normalize(embeds.float(), dim=-1)


def clip_of(model: str, folder: str | None, device: str = "cpu") -> Clip | None:
    """The CLIP in a folder; the model's own where none is named; None where it has none.

    Raises:
        ModelError: the folder holds no CLIP.
    """
    if folder in TOYBOXES or (folder is None and model in TOYBOXES):
        with without_bars():
            made, tokenizer, preprocess = load_clip()
        return Clip("toybox", made.requires_grad_(False).to(device), tokenizer, preprocess)
    own = at_home(model) / "clip"
    if folder is None and not own.is_dir():
        return None
    return _from_folder(at_home(folder) if folder else own, device)


def _from_folder(folder: Path, device: str) -> Clip:
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    if not folder.is_dir():  # or the hub would be asked for a model of that name
        raise ModelError(
            f"--clip {str(folder)!r} is no folder here; give toybox, or a folder with a CLIPModel, "
            "its tokenizer and its image processor (save_pretrained)"
        )
    try:
        with without_bars():
            model, found = CLIPModel.from_pretrained(
                str(folder), dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        processor = AutoImageProcessor.from_pretrained(str(folder), backend="pil")
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"--clip {str(folder)!r} does not load as a CLIP: {str(error).splitlines()[0]}; give "
            "toybox, or a folder with a CLIPModel, its tokenizer and its image processor "
            "(save_pretrained)"
        ) from error
    saved.refuse_missing(f"the CLIP of {folder}", found["missing_keys"])
    known = model.config.text_config.vocab_size
    if len(tokenizer) > known:
        raise ModelError(
            f"--clip {str(folder)!r}: its tokenizer has {len(tokenizer)} tokens and its model "
            f"knows {known}; they are not of one model"
        )

    def preprocess(images: Sequence[Image.Image]) -> Tensor:
        pixels: Tensor = processor(images=list(images), return_tensors="pt")["pixel_values"]
        return pixels

    return Clip(str(folder), model.eval().requires_grad_(False).to(device), tokenizer, preprocess)


def own_texts(pipe: Any, clip: Clip) -> dict[str, Tensor] | None:
    """How a pipeline's own text embeddings come into a CLIP's space: the `projection` of a text's
    end, and the `probe` that this was tried on; None where the CLIP has another text encoder.
    """
    found = end_embedding(pipe, PROBE)
    return None if found is None else _way(found, clip, [_projection(clip)])


def pooled_texts(pipe: Any, clip: Clip) -> dict[str, Tensor] | None:
    """As `own_texts`, from the pooled embedding of a text that a model is told (SDXL, SD3, FLUX).

    It joins what encoders end with, the first one's or the last one's being the CLIP's: projected
    already, or not.
    """
    family = family_of(pipe)
    pooled = family.pooled(family.encode([PROBE]).values)
    if pooled is None:
        return None
    found = pooled[0].detach().float().cpu()
    projection, ways = _projection(clip), []
    for own in (torch.eye(projection.shape[1]), projection):
        for first in {0, len(found) - len(own)}:
            if first >= 0:
                ways.append(torch.zeros(len(found), own.shape[1]))
                ways[-1][first : first + len(own)] = own
    return _way(found, clip, ways)


def _projection(clip: Clip) -> Float[Tensor, "width channels"]:
    weight: Tensor = clip.model.text_projection.weight
    return weight.detach().float().cpu().T


def _way(found: Tensor, clip: Clip, ways: Sequence[Tensor]) -> dict[str, Tensor] | None:
    """The first of some projections that takes the probe's embedding where the CLIP has it."""
    own = clip.texts([PROBE])[0].cpu()
    for projection in ways:
        if len(found) != len(projection):
            continue
        if torch.cosine_similarity(found @ projection, own, dim=0) >= 0.99:
            return {"projection": projection, "probe": found}
    return None


def end_embedding(pipe: Any, text: str) -> Tensor | None:
    """A text's end by a pipeline's own encoder, as its denoiser reads it; None where the texts
    of several encoders are joined, or it has no end token.
    """
    if getattr(pipe, "text_encoder_2", None) is not None or not hasattr(pipe, "unet"):
        return None
    embeds = pipe.encode_prompt(text, pipe.device, 1, False)[0]
    ids = pipe.tokenizer(text).input_ids
    found: Tensor = embeds[0, len(ids) - 1].detach().float().cpu()
    return found
