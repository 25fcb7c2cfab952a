"""Layout files as they come from strangers: JSON and pictures, read within bounds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from PIL import Image, ImageOps

from adhere.errors import LayoutError
from adhere.frames import frames, warn_of_more
from adhere.written import from_json

__all__ = ["beside", "open_picture", "painted", "read_json", "weighed"]

LARGEST_JSON = 32 * 2**20
LARGEST_FILE = 64 * 2**20
"""Bytes of a picture file that are read at most."""
LARGEST_PICTURE = 2**26
"""Pixels that are decoded at most: a small file can claim to hold a huge picture."""

# Half of full brightness or opacity, of 8 bits.
_PAINTED = 128


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        LayoutError: it is missing, too large, or no JSON.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise LayoutError(
                f"{path.name} is larger than {LARGEST_JSON >> 20} MiB; that is no layout"
            )
        return from_json(path.read_text(encoding="utf-8-sig"))
    except LayoutError:
        raise
    except FileNotFoundError as error:
        raise LayoutError(f"there is no layout file {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LayoutError(f"{path.name} cannot be read as JSON: {error}") from error


def lines_of(text: str) -> list[str]:
    """Lines as editors see them: `str.splitlines` would cut at form feeds and U+2028 too."""
    return re.split(r"\r\n|\n|\r", text)


def beside(folder: Path, name: Any) -> Path:
    """A file named in a layout file, which must lie in the same folder or below it.

    Raises:
        LayoutError: it lies elsewhere: a layout from a stranger must not read other files.
    """
    if not isinstance(name, str) or not name:
        raise LayoutError(f"a picture file is named {name!r}; give its name as text")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise LayoutError(
            f"the picture file {name!r} lies outside the layout's folder; put it beside the layout"
        )
    return path


def open_picture(path: Path, formats: Sequence[str] = ("PNG", "JPEG", "WEBP")) -> Image.Image:
    """Decodes a picture file, within bounds; of an animated one the first frame, with a warning.

    Raises:
        LayoutError: the file is missing, too large, damaged, or of another format.
    """
    wanted = " or ".join(formats)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise LayoutError(
                f"{path.name} is larger than {LARGEST_FILE >> 20} MiB; save it smaller"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=list(formats)) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    raise LayoutError(
                        f"{path.name} is {picture.width}x{picture.height}, more than "
                        f"{LARGEST_PICTURE:,} pixels; save it smaller"
                    )
                picture.load()
                count, found = frames(picture), ImageOps.exif_transpose(picture)
    except LayoutError:
        raise
    except FileNotFoundError as error:
        raise LayoutError(f"there is no picture file {path.name}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LayoutError(f"{path.name} holds too many pixels; save it smaller") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise LayoutError(f"{path.name} cannot be read as {wanted}: {error}") from error
    warn_of_more({path.name: count})
    return found


def painted(picture: Image.Image) -> Bool[ndarray, "h w"]:
    """What is painted: what is not transparent if there is transparency, else what is bright."""
    return weighed(picture) * 255 >= _PAINTED


def weighed(picture: Image.Image) -> Float[ndarray, "h w"]:
    """How much of each pixel is painted, from 0 to 1: its opacity if it has one, else its light."""
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
        if alpha.min() < _PAINTED:
            return alpha / 255
    if picture.mode.startswith("I;16") or picture.mode == "I":
        return np.clip(np.asarray(picture, dtype=np.int64) / 65280, 0, 1)
    return np.asarray(picture.convert("L")) / 255
