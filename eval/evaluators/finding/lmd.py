"""LLM-grounded Diffusion's four tasks, judged by OWL-ViT as its authors do (arXiv:2305.13655)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image

from adhere.errors import ModelError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.eval.evaluators.rules import lmd
from adhere.eval.evaluators.rules.composition import Found
from adhere.guides.parameters import param


@dataclass(frozen=True)
class LmdTasks(Recipe):
    """Is a picture right by the predicates of LLM-grounded Diffusion's four tasks?"""

    name: ClassVar[str] = "lmd"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("lmd", "pictures that are right by LMD's predicates", kind="share"),
    )
    models: ClassVar[tuple[str, ...]] = ("model",)
    model: str = param("google/owlvit-base-patch32", "OWL-ViT or OWLv2: hub id or folder")
    threshold: float = param(
        0.05, "lowest score that counts", low=0, high=1, source="scripts/owl_vit_eval.py"
    )

    def load(self, device: str) -> _Scorer:
        """Load the detector."""
        return _Scorer(self, device)


class _Scorer:
    def __init__(self, recipe: LmdTasks, device: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection

        if (kind := backends.architecture(recipe.model)) not in ("owlvit", "owlv2"):
            raise ModelError(f"{recipe.model!r} is a {kind!r} model; OWL-ViT or OWLv2 was expected")
        self.recipe, self.device = recipe, device
        self.processor, self.model = backends.reader(
            AutoModelForZeroShotObjectDetection, recipe.model, device
        )

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        return [self._row(one) for one in shown]

    def _row(self, shown: Shown) -> Row:
        item = shown.entry.item
        if lmd.task(item) is None:
            return Row({})
        sure = [
            one
            for one in self.found(shown.image, lmd.texts(item))
            if one.score >= self.recipe.threshold
        ]
        return Row({"lmd": float(lmd.holds(item, lmd.apart(sure)))})

    @torch.inference_mode()
    def found(self, image: Image.Image, texts: Sequence[str]) -> list[Found]:
        """Every box of the detector, under the text that it fits best."""
        queries = [lmd.QUERY.format(text) for text in texts]
        picture = image.convert("RGB")
        inputs = self.processor(images=picture, text=[queries], return_tensors="pt")
        result = self.processor.image_processor.post_process_object_detection(
            self.model(**inputs.to(self.device)),
            threshold=0.0,
            target_sizes=[(picture.height, picture.width)],
        )[0]
        columns = (result[name].tolist() for name in ("labels", "boxes", "scores"))
        return [
            Found(queries[label], (box[0], box[1], box[2], box[3]), score)
            for label, box, score in zip(*columns, strict=True)
        ]
