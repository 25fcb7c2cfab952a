"""Suites from other people's data sets: COCO-Stuff style folders and I2P style CSV files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from adhere.errors import LayoutError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import digest
from adhere.eval.suites.suites import Item, Suite, names
from adhere.layout.layout import Layout, Region

PROTOCOLS = ("eval-all", "eval-filtered", "eval-few")
# ZestGuide's Eval-filtered drops segments of at most this share of the picture.
SMALL = 0.05
_UNLABELLED = 255
_MOST_REGIONS = 64


def i2p(text: str) -> Suite:
    """Inappropriate Image Prompts (Schramowski et al. 2023, arXiv:2211.05105): `i2p:FILE.csv`.

    Needs a column `prompt`; `categories`, `sd_seed` and `sd_guidance_scale` are used if there.
    """
    path = Path(text)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"cannot read {path}: {error}") from error
    if not rows or "prompt" not in rows[0]:
        raise EvaluationError(f"{path} has no rows with a column 'prompt'")
    items = tuple(_prompt(number, row, path) for number, row in enumerate(rows, 1) if row["prompt"])
    version = digest(path.read_bytes(), 8)
    about = "prompts that bring about inappropriate pictures"
    return Suite(f"i2p-{path.stem}", version, f"{path.name} (I2P form)", "see source", items, about)


def _prompt(number: int, row: Mapping[str, str], path: Path) -> Item:
    request: dict[str, Any] = {}
    try:
        if row.get("sd_seed"):
            request["seed"] = int(float(row["sd_seed"]))
        if row.get("sd_guidance_scale"):
            request["guidance_scale"] = float(row["sd_guidance_scale"])
    except ValueError as error:
        raise EvaluationError(f"{path}, row {number}: {error}") from error
    tags = tuple(tag.strip() for tag in (row.get("categories") or "").split(",") if tag.strip())
    return Item(f"{number:05d}", row["prompt"].strip(), tags=tags, request=request)


def coco_stuff(text: str) -> Suite:
    """COCO-Stuff with ZestGuide's protocols: `coco-stuff:FOLDER,protocol=eval-few,limit=500`.

    The folder holds `captions*.json` (COCO's form), `labels.txt` (`1: person` a line) and label
    pictures `*.png` anywhere below, named as the photographs. A pixel's value is the label's number
    less `offset` (1, as in the stuff-and-thing maps; 0 for the older pixel maps), 255 unlabelled.

    The prompt is the first caption and, after commas, the classes that it does not name. Eval-all
    keeps every labelled segment, Eval-filtered those above 5 % of the picture, Eval-few one to
    three of these, drawn with `seed`.
    """
    place, options = _options(
        text, {"protocol": "eval-filtered", "limit": "0", "seed": "0", "offset": "1"}
    )
    protocol = options["protocol"]
    if protocol not in PROTOCOLS:
        raise EvaluationError(f"protocol {protocol!r}; use {', '.join(PROTOCOLS)}")
    labels = _labels(place / "labels.txt", int(options["offset"]))
    maps = {path.stem: path for path in sorted(place.rglob("*.png"))}
    items = []
    for stem, caption in _captions(place).items():
        if stem in maps and (item := _scene(stem, caption, maps[stem], labels, options)):
            items.append(item)
        if len(items) == int(options["limit"]):
            break
    if not items:
        raise EvaluationError(f"{place}: no caption has a label picture (*.png) of the same name")
    version = f"{protocol}-seed{options['seed']}"
    source = "COCO-Stuff (arXiv:1612.03716) with the protocols of ZestGuide (arXiv:2306.13754)"
    return Suite(f"coco-stuff-{protocol}", version, source, "annotations CC BY 4.0", tuple(items))


def _options(text: str, defaults: dict[str, str]) -> tuple[Path, dict[str, str]]:
    place, *pairs = text.split(",")
    options = dict(defaults)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in options or not equals:
            raise EvaluationError(f"option {pair!r}; known: {', '.join(defaults)}")
        if key != "protocol" and not value.isdigit():
            raise EvaluationError(f"option {pair!r}: {value!r} is not a whole number")
        options[key] = value
    folder = Path(place)
    if not folder.is_dir():
        raise EvaluationError(f"{place!r} is not a folder")
    return folder, options


def _labels(path: Path, offset: int) -> dict[int, str]:
    """Pixel values and what they are called, in words that a prompt can have."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EvaluationError(
            f"{path}: {error.strerror}; it has a line '1: person' a class"
        ) from error
    found = {}
    for line in lines:
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(.+?)\s*", line)
        if match and match[2] != "unlabeled":
            found[int(match[1]) - offset] = match[2].removesuffix("-other").replace("-", " ")
    if not found:
        raise EvaluationError(f"{path} names no class; it has a line '1: person' for each")
    return found


def _captions(place: Path) -> dict[str, str]:
    """The first caption of each photograph, by the stem of its file name."""
    files = sorted(place.rglob("captions*.json"))
    if not files:
        raise EvaluationError(f"{place} has no captions*.json (COCO's form)")
    try:
        data = json.loads(files[0].read_text(encoding="utf-8"))
        stems = {image["id"]: Path(image["file_name"]).stem for image in data["images"]}
        found: dict[str, str] = {}
        for one in sorted(data["annotations"], key=lambda note: note["id"]):
            found.setdefault(stems[one["image_id"]], " ".join(one["caption"].split()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{files[0]} does not read as COCO captions: {error!r}") from error
    return dict(sorted(found.items()))


def _scene(
    stem: str, caption: str, path: Path, labels: Mapping[int, str], options: Mapping[str, str]
) -> Item | None:
    try:
        with Image.open(path) as image:
            picture: Int[np.ndarray, "h w"] = np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise EvaluationError(f"label picture {path} cannot be read: {error}") from error
    if picture.ndim != 2:
        raise EvaluationError(f"label picture {path} has colours; it must have one label a pixel")
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


READERS: dict[str, Callable[[str], Suite]] = {"i2p": i2p, "coco-stuff": coco_stuff}
