"""Pictures as files that the page shows: written once and whole, and never again.

Given a picture, Gradio writes `<hash>/image.png` anew each time it is shown, also while a browser
still reads the file: the picture then arrives cut off. So it is given files only.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from PIL import Image


def file_of(image: Image.Image) -> str:
    """The path of a picture's PNG file in the app's own folder, named by its pixels.

    A file that is there already stays as it is, and is kept for another hour.
    """
    base = Path(os.environ["GRADIO_TEMP_DIR"]) / "shown"
    base.mkdir(exist_ok=True)
    about = f"{image.mode} {image.width} ".encode()
    path = base / f"{hashlib.sha256(about + image.tobytes()).hexdigest()[:32]}.png"
    try:
        os.utime(path)
    except FileNotFoundError:
        _write(image, path)
    return str(path)


def _write(image: Image.Image, path: Path) -> None:
    """Write beside the place and move it there: nobody ever sees half a file."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            image.save(part, "PNG")
        except BaseException:
            Path(part.name).unlink()
            raise
    Path(part.name).replace(path)
