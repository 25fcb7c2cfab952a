"""Writing pictures so that a stop at any moment leaves nothing broken."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adhere.pipelines.studio.request import Picture

SETTINGS = "adhere"
"""The PNG text chunk that carries a picture's request as JSON."""


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_image(path: Path, image: Image.Image, settings: dict[str, Any] | None = None) -> None:
    """A PNG, whole or not at all, with its settings inside. The bytes depend on nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    if settings is not None:
        info.add_itxt(SETTINGS, json.dumps(settings, ensure_ascii=False, sort_keys=True))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    image.save(temporary, format="PNG", pnginfo=info)
    os.replace(temporary, path)


def write_picture(folder: Path, name: str, picture: Picture) -> Path:
    path = folder / f"{name}.png"
    write_image(path, picture.image, picture.request.to_json())
    return path


def read_settings(path: Path) -> dict[str, Any] | None:
    """The request that a picture was made from, if it carries one."""
    with Image.open(path) as image:
        text = image.info.get(SETTINGS)
    if not isinstance(text, str):
        return None
    settings: dict[str, Any] = json.loads(text)
    return settings


def slug(text: str, length: int = 40) -> str:
    """A prompt as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or "empty"
