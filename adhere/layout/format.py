"""Layout files as plain data: what `Layout.read` and `Layout.from_json` make a layout of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adhere import written
from adhere.errors import LayoutError
from adhere.layout import labels
from adhere.layout.files import beside, open_picture, read_json
from adhere.layout.masks import Mask
from adhere.layout.region import OWN, Region

__all__ = ["Parts", "from_json", "from_labels", "read"]

_REGION_KEYS = {"phrase", "box", "polygon", "mask", "file", *OWN}
_LAYOUT_KEYS = {"prompt", "regions", "overlap", "base"}
_LABELS_KEYS = {"prompt", "labels", "base"}


@dataclass(frozen=True)
class Parts:
    """What a layout is made of; `Layout` checks that it fits together."""

    regions: tuple[Region, ...]
    prompt: Any = None
    overlap: Any = "refuse"
    base: Any = None


def read(path: Path) -> Parts:
    """A layout file: JSON, or a label picture with its legend beside it (same name, .json).

    Raises:
        LayoutError: the file is missing or is no layout.
    """
    if path.suffix.lower() != ".json":
        return from_labels(path, None)
    value = read_json(path)
    if isinstance(value, Mapping) and "legend" in value:
        picture = beside(path.parent, value.get("labels", path.with_suffix(".png").name))
        return from_labels(picture, value)
    return from_json(value, path.parent)


def from_labels(png: Path, legend: Mapping[str, Any] | str | Path | None) -> Parts:
    """A label picture with its legend; without one, the JSON file beside the picture."""
    phrases, whole = labels.read_legend(png, legend)
    _refuse_unknown("the layout", whole, _LABELS_KEYS)
    found = labels.split(open_picture(png, labels.formats(phrases)), phrases, png.name)
    regions = tuple(_labelled(said, mask) for said, mask in found)
    return Parts(regions, whole.get("prompt"), base=whole.get("base"))


def _labelled(said: str | Mapping[str, Any], mask: Mask) -> Region:
    """The region of a colour, of which the legend has a phrase or all that a region is told."""
    if isinstance(said, str):
        return Region(said, mask=mask)
    _refuse_unknown(f"the legend's {str(dict(said))[:60]}", said, {"phrase", *OWN})
    return Region(mask=mask, **said)


def from_json(value: Any, folder: Path | None = None) -> Parts:
    """A layout as a mapping or as JSON text.

    Args:
        value: the layout.
        folder: where files that it names lie; without it, it may name none.

    Raises:
        LayoutError: the value is no layout.
    """
    if isinstance(value, str):
        try:
            value = written.from_json(value)
        except (ValueError, RecursionError) as error:
            raise LayoutError(f"the layout is no JSON: {error}") from error
    if not isinstance(value, Mapping) or not isinstance(value.get("regions"), Sequence):
        raise LayoutError(
            'a layout must be {"prompt": "...", "regions": [{"phrase": "...", '
            f'"box": [left, top, right, bottom]}}]}}, not {str(value)[:60]}'
        )
    _refuse_unknown("the layout", value, _LAYOUT_KEYS)
    regions = tuple(_region(item, folder) for item in value["regions"])
    return Parts(regions, value.get("prompt"), value.get("overlap", "refuse"), value.get("base"))


def _region(value: Any, folder: Path | None) -> Region:
    if not isinstance(value, Mapping) or not value.keys() & {"phrase", "text"}:
        raise LayoutError(
            f'a region must be a mapping with "phrase" or "text", not {str(value)[:60]}'
        )
    phrase, label = value.get("phrase", ""), value.get("phrase") or value.get("text")
    _refuse_unknown(f"region {label!r}", value, _REGION_KEYS)
    own = {name: value[name] for name in OWN if name in value}
    if "file" not in value:
        mask = value.get("mask")
        stored = None if mask is None else _mask(mask, label)
        return Region(phrase, value.get("box"), value.get("polygon"), stored, **own)
    if folder is None:
        raise LayoutError(
            f"region {label!r} has a mask file; read the layout from its own file (Layout.read)"
        )
    if value.keys() & {"box", "polygon", "mask"}:
        raise LayoutError(f"region {label!r} has a mask file and another place; give one of them")
    return Region.weighed(phrase, open_picture(beside(folder, value["file"])), **own)


def _mask(value: Any, label: Any) -> Mask:
    try:
        return Mask.from_json(value)
    except LayoutError as error:
        raise LayoutError(f"region {label!r}: {error}") from error


def _refuse_unknown(what: str, value: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(value) - known, key=str)
    if unknown:
        raise LayoutError(
            f"{what} has unknown {', '.join(map(repr, unknown))}; "
            f"known are {', '.join(sorted(known))}"
        )
