"""GenEval from pictures to verdict (Ghosh et al. 2023, arXiv:2310.11513; code @16f1681).

Mask2Former finds COCO's 80 classes; of each class the 16 most confident above a threshold count
(0.3, and 0.9 for the task of counting); a thing's colour is that of ten whose texts are nearest to
its crop on grey, says CLIP; `rules.composition` judges. The published figures come from mmdet's own
training of Mask2Former Swin-S, which transformers cannot read; Meta's, of the same architecture and
data, stands in for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.eval.evaluators import backends
from adhere.eval.evaluators.evaluator import Measure, Recipe, Row, Shown
from adhere.eval.evaluators.finding.instances import Instance, Mask2Former
from adhere.eval.evaluators.rules import composition
from adhere.eval.evaluators.rules.composition import Found
from adhere.eval.suites.items import Item
from adhere.guides.parameters import param

COLOURS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip
TEXTS = ("a photo of a {} {noun}", "a photo of a {}-colored {noun}", "a photo of a {} object")
MOST = 16
COUNTING = "counting"
_GREY = "#999"
# COCO's classes in its order, three of them under GenEval's names (object_names.txt).
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote",
    "computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


@dataclass(frozen=True)
class GenEval(Recipe):
    """Is a picture right, by GenEval's rules and with its kind of models?"""

    name: ClassVar[str] = "geneval"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("geneval", "pictures that are right by GenEval's rules", kind="share"),
    )
    models: ClassVar[tuple[str, ...]] = ("detector", "clip")
    detector: str = param(
        "facebook/mask2former-swin-small-coco-instance",
        "Mask2Former for COCO's instances: hub id or folder",
    )
    clip: str = param("openai/clip-vit-large-patch14", "CLIP that says colours: hub id or folder")
    threshold: float = param(
        0.3, "a score must be above it", low=0, high=1, source="evaluate_images.py"
    )
    counting_threshold: float = param(
        0.9, "the same for the task of counting", low=0, high=1, source="evaluate_images.py"
    )

    def load(self, device: str) -> _Scorer:
        """Load the detector and CLIP."""
        return _Scorer(
            self, Mask2Former(self.detector, len(CLASSES), device), backends.clip(self.clip, device)
        )

    def lowest(self, item: Item) -> float:
        """What a score must be above for an item."""
        return self.counting_threshold if COUNTING in item.tags else self.threshold


class _Scorer:
    def __init__(self, recipe: GenEval, detector: Mask2Former, clip: backends.Clip) -> None:
        self.recipe, self.detector, self.clip = recipe, detector, clip
        self._palettes: dict[str, Tensor] = {}

    def __call__(self, shown: Sequence[Shown]) -> list[Row | str]:
        return [self._row(one.entry.item, one.image) for one in shown]

    def _row(self, item: Item, image: Image.Image) -> Row | str:
        if not (item.things or item.exclude):
            return Row({})
        asked = {*(one.detected for one in item.things), *(one.noun for one in item.exclude)}
        if unknown := sorted(asked - set(CLASSES)):
            return f"geneval knows COCO's 80 classes, and {unknown[0]!r} is none of them"
        colours = {thing.colour for thing in item.things if thing.colour}
        if others := sorted(colours - set(COLOURS)):
            return f"geneval tells {', '.join(COLOURS)} apart, and {others[0]!r} is none of them"
        kept = confident(self.detector(image), self.recipe.lowest(item))
        values = composition.judge(item, self._found(item, image, kept))
        counts = ", ".join(f"{len(some)} {name}" for name, some in kept.items())
        return Row({"geneval": values["fully_right"]}, notes={"found": counts})

    def _found(
        self, item: Item, image: Image.Image, kept: Mapping[str, Sequence[Instance]]
    ) -> list[Found]:
        coloured: dict[str, int] = defaultdict(int)
        for thing in item.things:
            if thing.colour:
                coloured[thing.detected] = max(coloured[thing.detected], thing.count)
        found = []
        for name, some in kept.items():
            colours: list[str | None] = [*self._colours(image, some[: coloured[name]], name)]
            colours += [None] * (len(some) - len(colours))
            found += [
                Found(name, one.box, one.score, colour)
                for one, colour in zip(some, colours, strict=True)
            ]
        return found

    def _colours(self, image: Image.Image, some: Sequence[Instance], noun: str) -> list[str]:
        if not some:
            return []
        if noun not in self._palettes:
            self._palettes[noun] = palette(self.clip, noun)
        pictures = self.clip.images([crop(image, one) for one in some])
        best = (pictures @ self._palettes[noun].T).argmax(dim=1)
        return [COLOURS[number] for number in best.tolist()]


def confident(found: Sequence[Instance], lowest: float) -> dict[str, list[Instance]]:
    """By class, the most confident first, those above a threshold and not more than 16."""
    kept: dict[str, list[Instance]] = defaultdict(list)
    for one in sorted(found, key=lambda each: -each.score):
        if one.score > lowest:
            kept[CLASSES[one.label]].append(one)
    return {name: some[:MOST] for name, some in kept.items()}


def palette(clip: backends.Clip, noun: str) -> Float[Tensor, "colours channels"]:
    """A direction for each colour: the mean of what CLIP makes of three texts."""
    texts = [text.format(colour, noun=noun) for colour in COLOURS for text in TEXTS]
    means = clip.texts(texts).unflatten(0, (len(COLOURS), len(TEXTS))).mean(dim=1)
    return torch.nn.functional.normalize(means, dim=-1)


def crop(image: Image.Image, one: Instance) -> Image.Image:
    """The thing alone, on grey, cut to its box."""
    picture = image.convert("RGB")
    mask = Image.fromarray(one.mask.numpy())
    return Image.composite(picture, Image.new("RGB", picture.size, _GREY), mask).crop(one.box)
