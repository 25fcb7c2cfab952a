"""Pictures that strangers send: opened by a short list of formats, within bounds, or refused."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from adhere.app.jobs.limits import LIMITS, Limits
from adhere.errors import LayoutError
from adhere.frames import frames

FORMATS = ("PNG", "WEBP", "JPEG")
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")


def decode(source: str | Path | bytes, limits: Limits = LIMITS) -> Image.Image:
    """A picture, wholly read and turned as it is seen; the size is looked at before a single pixel
    is decoded.

    Raises:
        LayoutError: not one of the formats, of several frames, too large, or broken.
    """
    data = read_bytes(source, limits)
    try:
        with warnings.catch_warnings():
            # Pillow's own warning comes at 89 million pixels; our bound is lower and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                width, height = opened.size
                if width * height > limits.upload_pixels:
                    raise LayoutError(
                        f"the picture has {width}x{height} pixels: send a smaller one, "
                        f"at most {limits.upload_pixels} pixels"
                    )
                if (count := frames(opened)) > 1:
                    raise LayoutError(
                        f"the picture has {count} frames: send the one that is meant as a picture "
                        "of its own"
                    )
                opened.load()
                return ImageOps.exif_transpose(opened)
    except LayoutError:
        raise
    except UnidentifiedImageError:
        raise LayoutError("the file is no PNG, WebP or JPEG picture: save it as PNG") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        raise LayoutError("the picture is damaged or cut off: save it again as PNG") from None


def text_of(data: bytes) -> str | None:
    """What a file says if it is text, with or without the mark some editors put first; else None.

    Raises:
        LayoutError: it begins as JSON does and is not in UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if data.lstrip()[:1] in (b"{", b"["):
            raise LayoutError("the file is JSON but not UTF-8: save it as UTF-8") from None
        return None
    return None if "\0" in text else text


def read_bytes(source: str | Path | bytes, limits: Limits = LIMITS) -> bytes:
    """A whole file that was sent in.

    Raises:
        LayoutError: it did not arrive, or is too large.
    """
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(limits.upload_bytes + 1)
        except OSError:
            raise LayoutError("the file did not arrive: send it again") from None
    if len(data) > limits.upload_bytes:
        raise LayoutError(
            f"the file is larger than {limits.upload_bytes // 1024**2} MB: send a smaller one"
        )
    return data
