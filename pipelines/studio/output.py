"""Files that a stop at any moment leaves whole, and the settings inside pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from adhere.errors import ParameterError
from adhere.files import replaced, sweep, unfinished, writing
from adhere.guides.stored import SUFFIX
from adhere.pipelines.studio.request import Picture

SETTINGS = "adhere"
"""The PNG text chunk with a picture's request and what made it, as JSON."""
PARAMETERS = "parameters"
"""The PNG text chunk that other programs for pictures read: prompt, negative prompt, settings."""


@dataclass(frozen=True)
class Settings:
    """What a picture says of itself.

    Attributes:
        request: as `Request.from_json` takes it; None where only other programs' text is there.
        made: the model, versions, precision, steps, scales and sampler; empty in old pictures.
        text: what other programs read.
    """

    request: dict[str, Any] | None
    made: dict[str, Any]
    text: str


def writable(out: Path, option: str = "--out") -> Path:
    """The folder that an option names, made if it is missing, without what killed programs left.

    Raises:
        ParameterError: nothing can be written there. Said before a model is loaded.
    """
    probe = unfinished(out / "probe")
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ParameterError(
            f"{option} {str(out)!r} is no folder that can be written to ({error.strerror}); "
            "give another one"
        ) from error
    sweep(out)
    return out


def writable_file(path: Path, option: str = "--out") -> Path:
    """The file that an option names, whose folder is made if it is missing; of a link, where it
    leads.

    Raises:
        ParameterError: it cannot be written there, or what is there is no file. Said before a model
            is loaded.
    """
    try:
        if path.is_dir():  # which looks at the name, too: it may be too long
            raise ParameterError(
                f"{option} {str(path)!r} is a folder; give the name of a file in it"
            )
        writable(path.parent, option)
        leads = replaced(path)
    except OSError as error:
        raise ParameterError(
            f"{option} {str(path)!r} cannot be written ({error.strerror}); give another name"
        ) from error
    if path.is_symlink():
        writable(leads.parent, option)
    return path


def named(path: Path, kind: str) -> None:
    """Refuse a name under which a file of tensors would not be found to be one.

    Raises:
        ParameterError: it does not end as such files do.
    """
    if path.suffix != SUFFIX:
        raise ParameterError(f"--out {str(path)!r} is no name of a {kind}; let it end in {SUFFIX}")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Data as JSON; halves of characters, which some refused texts have, as JSON's escapes."""
    write_text(path, _whole(json.dumps(data, indent=2, ensure_ascii=False) + "\n"))


def _whole(text: str) -> str:
    """A text that can be written: halves of characters, as in odd names of files, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_image(path: Path, image: Image.Image, texts: Mapping[str, str] | None = None) -> None:
    """A PNG with text chunks, whole or not at all. The bytes depend on nothing else."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_itxt(key, _whole(text))
    with writing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)


def write_picture(path: Path, picture: Picture) -> None:
    """A picture with its settings inside."""
    settings = {"request": picture.request.to_json(), "made": picture.made}
    text = json.dumps(settings, ensure_ascii=False, sort_keys=True)
    write_image(path, picture.image, {SETTINGS: text, PARAMETERS: as_parameters(settings)})


def as_parameters(settings: Mapping[str, Any]) -> str:
    """Settings in the form that web interfaces write: prompt, negative prompt, a line of values."""
    request, made = settings["request"], settings["made"]
    # Of several, the one that was chosen: with its own seed it is made again.
    chosen = made.get("chosen", {})
    values = {
        "Steps": made.get("steps"),
        "Sampler": made.get("scheduler"),
        "CFG scale": made.get("guidance_scale"),
        "Seed": chosen.get("seed", request["seed"]),
        "Size": f"{made['width']}x{made['height']}" if "width" in made else None,
        "Model": made.get("model"),
        "Model hash": made.get("weights"),
        "Version": f"adhere {made['adhere']}" if "adhere" in made else None,
        "Plugins": chosen.get("attempt")
        or "+".join(one["plugin"] for one in request["plugins"])
        or None,
        "Score": chosen.get("score"),
    }
    lines = [_one_line(request["prompt"])]
    if request["negative_prompt"]:
        lines.append(f"Negative prompt: {_one_line(request['negative_prompt'])}")
    lines.append(", ".join(f"{key}: {value}" for key, value in values.items() if value is not None))
    return "\n".join(lines)


def read_settings(path: Path) -> Settings | None:
    """What a picture says of how it was made; None where it says nothing.

    Raises:
        ParameterError: there is no such picture, or its settings are damaged.
    """
    try:
        with Image.open(path) as image:
            raw, text = image.info.get(SETTINGS), str(image.info.get(PARAMETERS, ""))
    except FileNotFoundError as error:
        raise ParameterError(f"there is no picture {str(path)!r}") from error
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ParameterError(f"{str(path)!r} cannot be read as a picture: {error}") from error
    if raw is None:
        return Settings(None, {}, text) if text else None
    try:
        data: dict[str, Any] = json.loads(raw)
        # Before 0.2 the chunk was the request alone.
        request, made = (data["request"], data["made"]) if "made" in data else (data, {})
        return Settings(dict(request), dict(made), text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ParameterError(f"the settings in {str(path)!r} are damaged: {error}") from error


def slug(text: str, length: int = 40) -> str:
    """A prompt as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or "empty"


def _one_line(text: str) -> str:
    return " ".join(text.split())
