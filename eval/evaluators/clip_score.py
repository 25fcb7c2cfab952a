"""CLIP score in the forms of Attend-and-Excite (arXiv:2301.13826, sec. 4.2 and metrics/@163efdf).

    full      cos(picture, prompt)
    minimum   min over parts of cos(picture, part)     the parts of the prompt at "and" and "with"
    text      cos(caption of the picture, prompt)      the caption by a captioner

Embeddings are normalised in float32. The authors average a text over the 80 ImageNet templates;
give `templates` a file with one template a line (`a photo of {}.`) to do so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import ParameterError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.eval.run.manifest import Entry
from adhere.guides.parameters import param
from adhere.layout.files import lines_of

_CACHE = 10_000


@dataclass(frozen=True)
class ClipScore(Recipe):
    """How well picture and prompt agree, for the whole prompt and for its most neglected part."""

    name: ClassVar[str] = "clip-score"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("clip_full", "cosine of picture and prompt"),
        Measure("clip_minimum", "cosine of picture and its most neglected part of the prompt"),
        Measure("clip_text", "cosine of the picture's caption and the prompt"),
        Measure("clip_cut", "tokens of the prompt that CLIP cannot read", "neither"),
    )
    models: ClassVar[tuple[str, ...]] = ("model", "captioner", "templates")
    model: str = param("toybox", "CLIP: toybox, a hub id or a folder")
    captioner: str | None = param(None, "an image-to-text model for clip_text: hub id or folder")
    templates: str | None = param(None, "file with text templates to average over, one a line")

    def load(self, device: str) -> _Scorer:
        """Load CLIP, and the captioner if one is named."""
        caption = Captioner(self.captioner, device) if self.captioner else None
        return _Scorer(backends.clip(self.model, device), _templates(self.templates), caption)


def _templates(path: str | None) -> tuple[str, ...]:
    if path is None:
        return ("{}",)
    try:
        lines = tuple(filter(None, map(str.strip, lines_of(Path(path).read_text("utf-8")))))
    except OSError as error:
        raise ParameterError(f"templates: cannot read {path}: {error.strerror}") from error
    bad = [line for line in lines if line.count("{}") != 1]
    if bad or not lines:
        raise ParameterError(f"templates: {path}: each line needs one {{}}: {(bad or [''])[0]!r}")
    return lines


def parts(entry: Entry) -> tuple[str, ...]:
    """The parts of a prompt that must all show: the phrases of its things, or its halves.

    Halves are made as the authors make them, at " and " and " with ".
    """
    if entry.item.things:
        return tuple(dict.fromkeys(thing.phrase for thing in entry.item.things))
    found = re.split(r",? and | with ", entry.item.prompt)
    return tuple(filter(None, (part.strip() for part in found)))


def similarities(
    picture: Float[Tensor, " channels"], texts: Float[Tensor, "n channels"]
) -> Float[Tensor, " n"]:
    """Cosines of one picture and several texts, all of length 1."""
    return texts @ picture


class Captioner:
    """Any image-to-text model of transformers that captions without a question (BLIP, GIT...)."""

    def __init__(self, model: str, device: str) -> None:
        from transformers import AutoModelForImageTextToText

        self.device = device
        self.processor, self.model = backends.reader(AutoModelForImageTextToText, model, device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        inputs = self.processor(images=backends.rgb(images), return_tensors="pt").to(self.device)
        written = self.model.generate(**inputs, max_new_tokens=30, do_sample=False)
        texts: list[str] = self.processor.batch_decode(written, skip_special_tokens=True)
        return [text.strip() for text in texts]


class _Scorer:
    def __init__(
        self, clip: backends.Clip, templates: tuple[str, ...], caption: Captioner | None
    ) -> None:
        self.clip, self.templates, self.caption = clip, templates, caption
        self._texts: dict[str, Tensor] = {}

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        images = [one.image for one in shown]
        pictures = self.clip.images(images)
        captions = self.caption(images) if self.caption else [None] * len(images)
        return [
            self._row(one.entry, picture, caption)
            for one, picture, caption in zip(shown, pictures, captions, strict=True)
        ]

    def _row(self, entry: Entry, picture: Tensor, caption: str | None) -> Row:
        prompt = entry.item.prompt
        whole = self._embed(prompt)
        values: dict[str, Any] = {
            "clip_full": float(similarities(picture, whole[None])[0]),
            "clip_cut": float(self.clip.cut(prompt)),
        }
        some = parts(entry)
        if len(some) > 1:
            texts = torch.stack([self._embed(part) for part in some])
            values["clip_minimum"] = float(similarities(picture, texts).min())
        notes = {}
        if caption is not None:
            # The authors embed the caption bare, also where the prompt goes through templates.
            values["clip_text"] = float(similarities(whole, self.clip.texts([caption]))[0])
            notes["caption"] = caption
        return Row(values, notes=notes)

    def _embed(self, text: str) -> Tensor:
        if text not in self._texts:
            if len(self._texts) >= _CACHE:
                self._texts.clear()
            made = self.clip.texts([template.replace("{}", text) for template in self.templates])
            self._texts[text] = torch.nn.functional.normalize(made.mean(dim=0), dim=0)
        return self._texts[text]
