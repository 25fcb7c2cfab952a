"""Reference pictures of a set distance: their features, kept so that they are made once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.backends import Extract
from adhere.eval.evaluators.sets.accumulators import FeatureMoments, moments_from_file
from adhere.eval.files import digest
from adhere.eval.places import Place
from adhere.frames import warn_of_more
from adhere.pipelines.tools.pictures import UNREADABLE, counted

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
RENDERS = 2048
_RENDER_SEED = 20_231
_CHUNK = 64


@dataclass(frozen=True)
class Reference:
    """Features of the reference pictures; of a statistics file only the moments are known."""

    moments: FeatureMoments
    features: Float[Tensor, "n channels"] | None

    def all_features(self, metric: str) -> Float[Tensor, "n channels"]:
        """The features, for metrics that compare pictures pair by pair."""
        if self.features is None:
            raise EvaluationError(
                f"{metric} compares pictures pair by pair; a statistics file has only their mean "
                "and covariance. Give a folder of reference pictures"
            )
        return self.features


def from_features(features: Float[Tensor, "n channels"]) -> Reference:
    """A reference from features at hand."""
    moments = FeatureMoments()
    moments.add(features)
    return Reference(moments, features)


def load(spec: str, name: str, extract: Extract, place: Place, cache: str) -> Reference:
    """A reference from its spec: `toybox` renders, a folder of pictures, or a statistics file.

    Args:
        spec: what the evaluator says.
        name: the extractor's spec, for the cache.
        extract: the extractor.
        place: the run, where the features are kept.
        cache: the folder for them.

    Raises:
        EvaluationError: an empty folder, or statistics without their n.
    """
    path = Path(spec)
    if path.suffix == ".safetensors" and path.is_file():
        return Reference(moments_from_file(path), None)
    if spec == "toybox":
        key, pictures = f"toybox-{RENDERS}-{_RENDER_SEED}", _renders()
    else:
        files = _pictures_in(path)
        stats = ((file, file.stat()) for file in files)
        stamp = "".join(f"{file.name}:{one.st_size}:{one.st_mtime_ns};" for file, one in stats)
        key, pictures = f"folder-{digest(str(path.resolve()) + stamp, 16)}", _opened(files)
    kept = f"{cache}/reference-{digest(name + key, 16)}.safetensors"
    return from_features(_cached(place, kept, extract, pictures))


def _pictures_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise EvaluationError(
            f"reference {str(folder)!r} is neither a folder of pictures nor a statistics file "
            "(.safetensors), nor 'toybox', nor 'plain'"
        )
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not files:
        raise EvaluationError(
            f"the reference folder {folder} has no pictures ({', '.join(IMAGES)})"
        )
    return files


def _opened(files: Sequence[Path]) -> Iterator[Image.Image]:
    counts = dict[str, int]()
    for file in files:
        try:
            image, counts[str(file)] = counted(file)
        except UNREADABLE as error:
            raise EvaluationError(f"reference picture {file} cannot be read: {error}") from error
        yield image
    warn_of_more(counts)


def _renders() -> Iterator[Image.Image]:
    from adhere.pipelines.toybox.world.world import render, sample_scene

    rng = Random(_RENDER_SEED)
    for _ in range(RENDERS):
        yield render(sample_scene(rng))


def _cached(place: Place, name: str, extract: Extract, pictures: Iterator[Image.Image]) -> Tensor:
    from safetensors.torch import load as loaded
    from safetensors.torch import save

    try:
        found: Tensor = loaded(place.read(name))["features"]
        return found
    except FileNotFoundError:
        pass
    parts, chunk = [], []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == _CHUNK:
            parts.append(extract(chunk))
            chunk = []
    if chunk:
        parts.append(extract(chunk))
    features = torch.cat(parts)
    place.write(name, save({"features": features.contiguous()}))
    return features
