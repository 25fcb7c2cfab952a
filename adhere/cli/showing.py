"""`adhere show`: what a picture says of how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from adhere.cli.speaking import json_of
from adhere.errors import ParameterError
from adhere.pipelines.studio.output import Settings, read_settings
from adhere.pipelines.studio.request import Request


def show(picture: Path, as_json: bool) -> str:
    """The settings of a picture, as lines or as JSON.

    Raises:
        ParameterError: there is no such picture, or it says nothing.
    """
    found = read_settings(picture)
    if found is None:
        raise ParameterError(
            f"{str(picture)!r} holds no settings: it was not made by adhere, or was saved again by "
            "a program that drops them"
        )
    if as_json:
        data = {"request": found.request, "made": found.made, "parameters": found.text}
        return json_of(data)
    return found.text if found.request is None else "\n".join(_lines(found))


def _lines(found: Settings) -> Iterator[str]:
    settings = {**(found.request or {}), **found.made}
    plugins = settings.pop("plugins", [])
    order = [field.name for field in fields(Request)]
    for key in sorted(settings, key=lambda key: (order.index(key) if key in order else 99, key)):
        if settings[key] not in (None, "", []):
            yield f"{key}: {_short(settings[key])}"
    yield f"plugins: {'+'.join(one['plugin'] for one in plugins) or 'none'}"
    for plugin in plugins:
        values = (f"{k}={_short(v)}" for k, v in plugin.items() if k != "plugin" and v is not None)
        yield f"  {plugin['plugin']}: {', '.join(values)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."
