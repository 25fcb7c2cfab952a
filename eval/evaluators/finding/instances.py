"""Instance segmentation by Mask2Former, with scores and boxes as mmdet makes them of its output.

    score = max softmax over classes  x  mean of sigmoid over the mask's pixels
    box   = left, top, right, bottom of the mask's pixels, the last two one beyond

(MaskFormerFusionHead of mmdet 2.x; instances of one class may overlap, and none is merged.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.rules.composition import Box

MOST = 100
"""Instances of a picture, mmdet's `max_per_image`."""


@dataclass(frozen=True)
class Instance:
    """One thing that was found: its class by number, and where it is."""

    label: int
    score: float
    box: Box
    mask: Bool[Tensor, "height width"]


def instances(
    classes: Float[Tensor, "queries labels"], masks: Float[Tensor, "queries height width"]
) -> Iterator[Instance]:
    """What logits say of a picture: of classes, the last of which is nothing, and of its pixels.

    A mask without a pixel is an instance too, with a box of no size, as in mmdet.
    """
    shares = classes.softmax(dim=-1)[:, :-1]
    scores, places = shares.flatten().topk(min(MOST, shares.numel()))
    for score, place in zip(scores, places.tolist(), strict=True):
        query, label = divmod(place, shares.shape[1])
        inside = masks[query] > 0
        sure = (masks[query].sigmoid() * inside).sum() / (inside.sum() + 1e-6)
        yield Instance(label, float(score * sure), box_of(inside), inside)


def box_of(mask: Bool[Tensor, "height width"]) -> Box:
    """The smallest box around a mask, in pixels; all zeros where the mask is empty."""
    rows, columns = (torch.nonzero(mask.any(dim=axis)).flatten().tolist() for axis in (1, 0))
    if not rows:
        return (0.0, 0.0, 0.0, 0.0)
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


class Mask2Former:
    """Mask2Former of transformers for a number of classes.

    Raises:
        ModelError: another architecture, weights that do not fit it, other classes.
    """

    def __init__(self, model: str, classes: int, device: str) -> None:
        from transformers import Mask2FormerForUniversalSegmentation

        if (kind := backends.architecture(model)) != "mask2former":
            raise ModelError(f"{model!r} is a {kind!r} model; a Mask2Former was expected")
        self.device = device
        self.processor = backends.image_processor(model)
        self.model = backends.network(Mask2FormerForUniversalSegmentation, model, device)
        if (known := self.model.config.num_labels) != classes:
            raise ModelError(
                f"{model!r} tells {known} classes apart; instances of {classes} were expected"
            )

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> list[Instance]:
        """Every instance in a picture."""
        picture = image.convert("RGB")
        pixels = self.processor(images=picture, return_tensors="pt")["pixel_values"]
        found = self.model(pixel_values=pixels.to(self.device))
        masks = found.masks_queries_logits.float().cpu()
        # First to the size that the network saw, then to the picture's, as mmdet does.
        for size in (pixels.shape[-2:], (picture.height, picture.width)):
            masks = torch.nn.functional.interpolate(masks, size, mode="bilinear")
        return list(instances(found.class_queries_logits[0].float().cpu(), masks[0]))
