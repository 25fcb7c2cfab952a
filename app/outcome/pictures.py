"""Pictures as files that the page shows: written once and whole, and never again.

Given a picture, Gradio writes `<hash>/image.png` anew each time it is shown, also while a browser
still reads the file: the picture then arrives cut off. So it is given files only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from PIL import Image

from adhere.pipelines.studio.output import write_image


def file_of(image: Image.Image) -> str:
    """The path of a picture's PNG file in the app's own folder, named by its pixels.

    A file that is there already stays as it is, and is kept for another hour.
    """
    pixels = f"{image.mode} {image.width} ".encode() + image.tobytes()
    name = hashlib.sha256(pixels).hexdigest()[:32]
    path = Path(os.environ["GRADIO_TEMP_DIR"]) / "shown" / f"{name}.png"
    try:
        os.utime(path)
    except FileNotFoundError:
        write_image(path, image)
    return str(path)
