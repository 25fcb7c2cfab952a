"""Pictures that people give."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from adhere.errors import ParameterError


def read(path: str | Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        ParameterError: there is no such file, or it is no picture.
    """
    try:
        with Image.open(Path(path).expanduser()) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ParameterError(
            f"{str(path)!r} does not read as a picture ({error}); give a PNG, JPEG or WebP file"
        ) from error
