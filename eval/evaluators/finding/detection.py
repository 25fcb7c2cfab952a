"""Presence, colours, relations by any zero-shot detector (OWLv2, Grounding DINO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from PIL import Image

from adhere.eval.evaluators import backends, columns
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.eval.evaluators.rules import composition, protocols
from adhere.eval.evaluators.rules.composition import Box, Found
from adhere.eval.suites.items import COLOURS, Item
from adhere.guides.parameters import param


@dataclass(frozen=True)
class Detector(Recipe):
    """Are the asked things there, in the asked colours and places, says a zero-shot detector.

    The verdict is GenEval's; its detector (Mask2Former) and its thresholds are not.
    """

    name: ClassVar[str] = "detector"
    revision: ClassVar[int] = 2  # 2: GenEval's exact verdict, what is excluded included
    columns: ClassVar[tuple[Measure, ...]] = (
        *columns.COMPOSITION,
        Measure("tiam", "pictures with every thing in its colour, by TIAM's rule", kind="share"),
    )
    models: ClassVar[tuple[str, ...]] = ("model",)
    model: str = param("google/owlv2-base-patch16-ensemble", "hub id or folder")
    threshold: float = param(0.25, "lowest score that counts", low=0, high=1, source="our choice")
    counting_threshold: float | None = param(
        None, "the same where something is counted or excluded; as the other if left out",
        low=0, high=1, source="GenEval has 0.9 beside 0.3 for Mask2Former",
    )  # fmt: skip
    overlap: float = param(
        0.5, "boxes of one noun that overlap more are one thing", low=0, high=1, source="usual NMS"
    )
    colours: tuple[str, ...] = param(COLOURS, "colours that a thing may turn out to have")

    def load(self, device: str) -> _Scorer:
        """Load the detector."""
        return _Scorer(self, device)

    def lowest(self, item: Item) -> float:
        """The lowest score that counts for an item."""
        counting = item.exclude or any(thing.count > 1 for thing in item.things)
        if counting and self.counting_threshold is not None:
            return self.counting_threshold
        return self.threshold


@dataclass(frozen=True)
class _Hit:
    box: Box
    score: float


class _Scorer:
    def __init__(self, recipe: Detector, device: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection

        self.recipe, self.device = recipe, device
        self.processor, self.model = backends.reader(
            AutoModelForZeroShotObjectDetection, recipe.model, device
        )
        # OWL answers many queries at once and says which; Grounding DINO is asked one by one,
        # because it answers with pieces of the text.
        self.many = "owl" in type(self.model).__name__.lower()

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        return [self._row(one.entry.item, one.image) for one in shown]

    def _row(self, item: Item, image: Image.Image) -> Row:
        if not (item.things or item.exclude):
            return Row({})
        found = self.found(item, image)
        values = composition.judge(item, found)
        if item.things:
            values["tiam"] = protocols.tiam(item, found)
        return Row(values)

    def found(self, item: Item, image: Image.Image) -> list[Found]:
        """The asked and excluded classes in a picture, with colours where one is asked for."""
        nouns = [thing.detected for thing in item.things] + [one.noun for one in item.exclude]
        coloured = {thing.detected for thing in item.things if thing.colour}
        palette = list(
            dict.fromkeys((*self.recipe.colours, *(t.colour for t in item.things if t.colour)))
        )
        queries = {(noun, ""): f"a {noun}" for noun in nouns}
        for noun in nouns:
            if noun in coloured:
                queries.update({(noun, c): f"a {c} {noun}" for c in palette})
        lowest = self.recipe.lowest(item)
        hits = dict(zip(queries, self.hits(image, list(queries.values()), lowest), strict=True))
        found = []
        for noun in dict.fromkeys(nouns):
            for hit in _apart(hits[noun, ""], self.recipe.overlap):
                one = Found(noun, hit.box, hit.score)
                if noun in coloured:
                    one = replace(one, colour=_colour(hit, {c: hits[noun, c] for c in palette}))
                found.append(one)
        return found

    @torch.inference_mode()
    def hits(self, image: Image.Image, queries: Sequence[str], lowest: float) -> list[list[_Hit]]:
        """For each query, what the detector finds above a score."""
        picture = image.convert("RGB")
        if not self.many:
            texts = [f"{query.lower()}." for query in queries]
            return [self._hits(picture, self._outputs(picture, text), lowest) for text in texts]
        outputs = self._outputs(picture, [list(queries)])
        # One query at a time: otherwise a box goes to its best query alone, and "a red car" would
        # take it from "a car".
        return [
            self._hits(
                picture, SimpleNamespace(logits=logits, pred_boxes=outputs.pred_boxes), lowest
            )
            for logits in outputs.logits.split(1, dim=-1)
        ]

    def _outputs(self, picture: Image.Image, text: Any) -> Any:
        inputs = self.processor(images=picture, text=text, return_tensors="pt").to(self.device)
        return self.model(**inputs)

    def _hits(self, picture: Image.Image, outputs: Any, lowest: float) -> list[_Hit]:
        result = self.processor.image_processor.post_process_object_detection(
            outputs,
            threshold=lowest,
            target_sizes=[(picture.height, picture.width)],
        )[0]
        return [
            _Hit((box[0], box[1], box[2], box[3]), score)
            for box, score in zip(result["boxes"].tolist(), result["scores"].tolist(), strict=True)
        ]


def _apart(hits: Sequence[_Hit], overlap: float) -> list[_Hit]:
    """The best hits that do not overlap (greedy non-maximum suppression)."""
    kept: list[_Hit] = []
    for hit in sorted(hits, key=lambda one: -one.score):
        if all(protocols.overlap(hit.box, other.box) <= overlap for other in kept):
            kept.append(hit)
    return kept


def _colour(hit: _Hit, by_colour: dict[str, list[_Hit]]) -> str | None:
    """The colour whose query scores best at the same place."""
    best, name = 0.0, None
    for colour, hits in by_colour.items():
        for other in hits:
            if other.score > best and protocols.overlap(hit.box, other.box) > 0.5:
                best, name = other.score, colour
    return name
