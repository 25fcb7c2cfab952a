"""mIoU of a picture with its layout, by any semantic segmentation model of transformers.

As ZestGuide measures it (arXiv:2306.13754, sec. 4.1): the model labels the picture, and the
intersection over union with the asked masks is averaged over the classes that occur. A region's
class is the model's label that names its phrase's noun. The row holds one picture's mean and its
pixel counts, so that the report also gives the mean over the classes of the whole suite, as the
paper does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from adhere.eval.evaluators import backends, columns
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.eval.evaluators.sets.accumulators import Overlap
from adhere.guides.parameters import param
from adhere.layout.layout import Layout


@dataclass(frozen=True)
class Segmentation(Recipe):
    """Is everything where the layout wants it, says a segmentation model."""

    name: ClassVar[str] = "segmentation"
    columns: ClassVar[tuple[Measure, ...]] = (
        columns.MIOU,
        Measure("miou_missing", "regions whose phrase the model has no class for", "neither"),
    )
    models: ClassVar[tuple[str, ...]] = ("model",)
    model: str = param("nvidia/segformer-b0-finetuned-ade-512-512", "hub id or folder")

    def load(self, device: str) -> _Scorer:
        """Load the segmentation model."""
        return _Scorer(self.model, device)


def overlaps(
    labels: Int[Tensor, "h w"], asked: Mapping[str, tuple[int, Bool[Tensor, "h w"]]]
) -> dict[str, tuple[int, int]]:
    """`(intersection, union)` in pixels by name; `asked` is the class and mask of each name."""
    found = {}
    for name, (label, mask) in asked.items():
        shown = labels == label
        found[name] = (int((shown & mask).sum()), int((shown | mask).sum()))
    return found


def match(phrase: str, names: Mapping[int, str]) -> int | None:
    """The class that a phrase is about: the longest label whose words are the phrase's last ones.

    A label may list synonyms ("car, auto") and COCO-Stuff's have endings ("wall-brick").
    """
    words = _words(phrase.partition("#")[0])
    best: tuple[int, int] | None = None
    for label, name in names.items():
        for synonym in re.split(r"[,;]", name):
            wanted = _words(synonym)
            longer = best is None or len(wanted) > best[0]
            if wanted and words[-len(wanted) :] == wanted and longer:
                best = (len(wanted), label)
    return best[1] if best else None


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


class _Scorer:
    def __init__(self, model: str, device: str) -> None:
        from transformers import AutoModelForSemanticSegmentation

        self.device = device
        self.processor = backends.image_processor(model)
        self.model = backends.network(AutoModelForSemanticSegmentation, model, device)
        labels = self.model.config.id2label
        self.names = {int(label): str(name) for label, name in labels.items()}

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        return [self._row(one) for one in shown]

    def _row(self, shown: Shown) -> Row:
        if not shown.entry.item.layout:
            return Row({})
        layout = Layout.from_json(dict(shown.entry.item.layout))
        size = (shown.image.height, shown.image.width)
        masks = layout.masks(size) > 0.5
        asked: dict[str, tuple[int, Tensor]] = {}
        missing = 0
        for phrase, mask in zip(layout.phrases, masks, strict=True):
            label = match(phrase, self.names)
            if label is None:
                missing += 1
                continue
            # Two regions of one class are one class to a semantic segmentation.
            name = self.names[label]
            before = asked.get(name)
            asked[name] = (label, mask if before is None else before[1] | mask)
        values = {"miou_missing": float(missing)}
        counts = overlaps(self.segment(shown.image), asked) if asked else {}
        if counts:
            total = Overlap()
            total.add(counts)
            values["miou"] = total.value()
        return Row(values, counts)

    @torch.inference_mode()
    def segment(self, image: Image.Image) -> Int[Tensor, "h w"]:
        """The class of every pixel."""
        inputs = self.processor(images=image.convert("RGB"), return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        found: Tensor = self.processor.post_process_semantic_segmentation(
            outputs, target_sizes=[(image.height, image.width)]
        )[0]
        return found.cpu()
