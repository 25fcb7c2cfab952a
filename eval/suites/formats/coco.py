"""COCO: captions (JSON), and COCO-Stuff's label pictures as layouts (a folder)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from random import Random

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from adhere.errors import LayoutError
from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats import content as contents
from adhere.eval.suites.formats.content import Content
from adhere.eval.suites.formats.telling import counted, joined
from adhere.eval.suites.items import Item, Suite
from adhere.eval.suites.reading import names
from adhere.layout.files import lines_of
from adhere.layout.layout import Layout, Region

PROTOCOLS = ("eval-all", "eval-filtered", "eval-few")
# ZestGuide's Eval-filtered drops segments of at most this share of the picture.
SMALL = 0.05
_UNLABELLED = 255
_MOST_REGIONS = 64


_DEFAULTS = {"protocol": "eval-filtered", "limit": "0", "seed": "0", "offset": "1"}
_CAPTIONS = {"images", "annotations"}


def is_captions(content: Content) -> bool:
    """`images` and `annotations` that have captions."""
    data = content.data
    return (
        content.kind == "json"
        and isinstance(data, Mapping)
        and set(data) >= _CAPTIONS
        and isinstance(data["annotations"], list)
        and all("caption" in note for note in data["annotations"][:1])
    )


def captions(content: Content) -> Suite:
    """COCO captions (arXiv:1504.00325): the first caption of every photograph, under its stem."""
    found = _captions(content)
    items = tuple(Item(stem, caption) for stem, caption in found.items())
    source = "COCO captions (Chen et al. 2015, arXiv:1504.00325)"
    return Suite(f"coco-{content.name}", content.version, source, "CC BY 4.0", items)


def is_coco_stuff(content: Content) -> bool:
    """A folder with captions and labels."""
    return content.kind == "folder" and (content.path / "labels.txt").is_file()


def coco_stuff(content: Content) -> Suite:
    """COCO-Stuff with ZestGuide's protocols: `coco-stuff:FOLDER,protocol=eval-few,limit=500`.

    The folder holds `captions*.json` (COCO's form), `labels.txt` (`1: person` a line) and label
    pictures `*.png` anywhere below, named as the photographs. A pixel's value is the label's number
    less `offset` (1, as in the stuff-and-thing maps; 0 for the older pixel maps), 255 unlabelled.

    The prompt is the first caption and, after commas, the classes that it does not name. Eval-all
    keeps every labelled segment, Eval-filtered those above 5 % of the picture, Eval-few one to
    three of these, drawn with `seed`. Maps are made square, as the protocols' pictures are.
    """
    place, options = content.path, _options(content.options)
    protocol = options["protocol"]
    offset = int(options["offset"])
    labels = _labels(place / "labels.txt", offset)
    maps = {path.stem: path for path in sorted(place.rglob("*.png"))}
    items: list[Item] = []
    lacking: list[str] = []
    unknown: set[int] = set()
    for stem, caption in _first_captions(place).items():
        if stem not in maps:
            lacking.append(stem)
            continue
        picture = _label_picture(maps[stem])
        unknown |= set(np.unique(picture).tolist()) - {*labels, _UNLABELLED, -offset}
        if item := _scene(stem, caption, picture, labels, options):
            items.append(item)
        if len(items) == int(options["limit"]):
            break
    if not items:
        raise EvaluationError(f"{place}: no caption has a label picture (*.png) of the same name")
    version = f"{protocol}-seed{options['seed']}"
    source = "COCO-Stuff (arXiv:1612.03716) with the protocols of ZestGuide (arXiv:2306.13754)"
    about = joined(
        counted("captions without a label picture", lacking),
        counted(
            f"values that labels.txt does not name at offset {offset}, taken as unlabelled",
            list(map(str, sorted(unknown))),
        ),
    )
    return Suite(
        f"coco-stuff-{protocol}", version, source, "annotations CC BY 4.0", tuple(items), about
    )


def _options(given: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if key not in _DEFAULTS:
            raise EvaluationError(f"option '{key}={value}'; known: {', '.join(_DEFAULTS)}")
        if key != "protocol" and not value.isdigit():
            raise EvaluationError(f"option '{key}={value}': {value!r} is not a whole number")
    if given.get("protocol", PROTOCOLS[0]) not in PROTOCOLS:
        raise EvaluationError(f"protocol {given['protocol']!r}; use {', '.join(PROTOCOLS)}")
    return {**_DEFAULTS, **given}


def _labels(path: Path, offset: int) -> dict[int, str]:
    """Pixel values and what they are called, in words that a prompt can have."""
    if not path.is_file():
        raise EvaluationError(f"{path} is not there; it has a line '1: person' a class")
    lines = lines_of(contents.decoded(path))
    found: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(.+?)\s*", line)
        if line.strip() and not match:
            raise EvaluationError(f"{path}, line {number}: {line!r} is not as '1: person'")
        if match and match[2] != "unlabeled":
            value = int(match[1]) - offset
            if value in found:
                raise EvaluationError(f"{path}, line {number}: {match[1]} is {found[value]!r} too")
            found[value] = match[2].removesuffix("-other").replace("-", " ")
    if not found:
        raise EvaluationError(f"{path} names no class; it has a line '1: person' for each")
    return found


def _first_captions(place: Path) -> dict[str, str]:
    files = sorted(place.rglob("captions*.json"))
    if not files:
        raise EvaluationError(f"{place} has no captions*.json (COCO's form)")
    return _captions(contents.read(files[0]))


def _captions(content: Content) -> dict[str, str]:
    """The first caption of each photograph, by the stem of its file name."""
    data = content.data
    try:
        stems = {image["id"]: Path(image["file_name"]).stem for image in data["images"]}
        found: dict[str, str] = {}
        for one in sorted(data["annotations"], key=lambda note: note["id"]):
            if caption := " ".join(one["caption"].split()):
                found.setdefault(stems[one["image_id"]], caption)
    except (KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"{content.path} does not read as COCO captions: {error!r}"
        ) from error
    if not found:
        raise EvaluationError(f"{content.path} has no captions")
    return dict(sorted(found.items()))


def _label_picture(path: Path) -> Int[np.ndarray, "h w"]:
    try:
        with Image.open(path) as image:
            picture: Int[np.ndarray, "h w"] = np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise EvaluationError(f"label picture {path} cannot be read: {error}") from error
    if picture.ndim != 2:
        raise EvaluationError(f"label picture {path} has colours; it must have one label a pixel")
    side = max(picture.shape)
    rows, columns = (np.arange(side) * size // side for size in picture.shape)
    square: Int[np.ndarray, "h w"] = picture[np.ix_(rows, columns)]
    return square


def _scene(
    stem: str,
    caption: str,
    picture: Int[np.ndarray, "h w"],
    labels: Mapping[int, str],
    options: Mapping[str, str],
) -> Item | None:
    masks = segments(picture, labels, options["protocol"], f"{options['seed']}-{stem}")
    if not masks:
        return None
    prompt = caption.rstrip(". ")
    regions: list[Region] = []
    for name in masks:
        if not names(prompt, name):
            prompt = f"{prompt}, {name}"
    # Long names first: "dining table" takes its words before "table" looks for its own.
    for name, mask in sorted(masks.items(), key=lambda pair: -len(pair[0].split())):
        prompt, region = _placed(prompt, regions, name, mask)
        regions.append(region)
    # Segments of a label picture cannot overlap; "share" spares the test for it.
    layout = Layout(tuple(regions), overlap="share")
    return Item(stem, prompt, layout=layout.to_json(), tags=(options["protocol"],))


def segments(
    picture: Int[np.ndarray, "h w"], labels: Mapping[int, str], protocol: str, seed: str
) -> dict[str, Bool[np.ndarray, "h w"]]:
    """The segments that a protocol keeps, by name, the largest first."""
    found: dict[str, Bool[np.ndarray, "h w"]] = {}
    for value in np.unique(picture).tolist():
        if value != _UNLABELLED and value in labels:
            name = labels[value]
            found[name] = found.get(name, np.zeros(picture.shape, dtype=bool)) | (picture == value)
    if protocol != "eval-all":
        found = {name: mask for name, mask in found.items() if mask.mean() > SMALL}
    chosen = sorted(found, key=lambda name: (-int(found[name].sum()), name))[:_MOST_REGIONS]
    if protocol == "eval-few" and chosen:
        rng = Random(seed)
        few = set(rng.sample(chosen, min(len(chosen), rng.randint(1, 3))))
        chosen = [name for name in chosen if name in few]
    return {name: found[name] for name in chosen}


def _placed(
    prompt: str, regions: list[Region], name: str, mask: Bool[np.ndarray, "h w"]
) -> tuple[str, Region]:
    """A region whose words no other region has; the prompt says the name once more if need be."""
    region = Region.painted(name, mask)
    try:
        Layout((*regions, region), overlap="share").check(prompt)
    except LayoutError:
        # "table" was found inside "dining table": it gets words of its own at the end.
        prompt = f"{prompt}, {name}"
        count = len(re.findall(rf"(?<!\w){re.escape(name)}(?!\w)", prompt, re.IGNORECASE))
        region = Region.painted(f"{name}#{count}", mask)
    return prompt, region
