"""Pictures that people give: as they are shown, in eight bits a colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from adhere.errors import ParameterError
from adhere.files import at_home
from adhere.frames import frames, warn_of_more

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What opening a damaged picture, or one too large to be opened safely, raises."""


def read(path: str | Path) -> Image.Image:
    """A picture as `shown`; of an animated one the first frame, with a warning (`adhere.frames`).

    Raises:
        ParameterError: there is no such file, or it is no picture.
    """
    place = at_home(path)
    try:
        image, count = counted(place)
    except Image.DecompressionBombError as error:
        raise ParameterError(
            f"{str(path)!r} is too large to be read ({error}); make a smaller copy of it and give "
            "that: a model sees no more than a few million pixels"
        ) from error
    except UNREADABLE as error:
        raise ParameterError(
            f"{str(path)!r} does not read as a picture ({error}); give a PNG, JPEG or WebP file"
        ) from error
    warn_of_more({str(path): count})
    return image


def counted(path: Path) -> tuple[Image.Image, int]:
    """A picture as `shown`, and how many frames or pages its file has: whoever reads several says
    of all of them together which have more than one.

    Raises:
        OSError, SyntaxError, ValueError: it cannot be read.
        DecompressionBombError: it has more pixels than Pillow opens.
    """
    image = shown(path)
    with Image.open(path) as file:  # anew: what is read wholly may be closed by then
        return image, frames(file)


def shown(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF data say, on white where it is transparent.

    Raises:
        OSError, SyntaxError, ValueError: it cannot be read.
        DecompressionBombError: it has more pixels than Pillow opens.
    """
    with Image.open(path) as file:
        image = eight_bits(ImageOps.exif_transpose(file))
        if not image.has_transparency_data:
            return image.convert("RGB")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16-bit greys by their high bytes, as Pillow reads 16-bit colours.

    Pillow's own conversion of greys clips instead: all above 255 would be white.

    Raises:
        ValueError: its greys are floating-point numbers, of which nobody says what is white.
    """
    if image.mode == "F":
        raise ValueError("its greys are floating-point numbers; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
