"""`adhere edit`: a picture with more or less of one concept in it."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from adhere.cli.speaking import KEPT, if_stopped
from adhere.errors import ParameterError
from adhere.pipelines.studio.output import PARAMETERS, writable_file, write_image
from adhere.pipelines.studio.progress import progress
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools import pictures
from adhere.pipelines.tools.scaling_concept import Scaling, scale_concept


def edit(path: Path, studio: Studio, how: Scaling, out: Path | None) -> None:
    """Edit a picture, and write the result beside nobody's.

    Raises:
        ParameterError: the picture does not read or fit the model, or would be overwritten.
        ModelError: the model has no UNet.
    """
    picture = pictures.read(path)
    place = out or Path(f"{path.stem}-{_slug(how.concept)}-{how.scale:g}.png")
    if place.suffix.lower() != ".png":
        raise ParameterError(f"--out {str(place)!r} is no PNG file; write for example edited.png")
    writable_file(place)
    if place.exists() and place.samefile(path):
        raise ParameterError(f"--out {str(place)!r} is the picture itself; give another name")
    with progress("passes", how.passes) as tick:
        made = scale_concept(studio.pipe, picture, how, tick)
    if_stopped(KEPT)
    write_image(place, made, {PARAMETERS: _told(path, studio, how)})
    typer.echo(f"wrote {place}")


def _slug(text: str) -> str:
    """Words of any script, so that no two concepts write to one file."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:40]


def _told(path: Path, studio: Studio, how: Scaling) -> str:
    """What `adhere show` and other programs read in the picture."""
    settings = ", ".join(f"{key}: {value}" for key, value in vars(how).items())
    return f"{path.name}, edited by ScalingConcept\n{settings}, model: {studio.model}"
