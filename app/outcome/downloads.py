"""Files to take along: pictures at their own size with their settings inside, and layouts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adhere.app.jobs import uploads
from adhere.app.jobs.copies import LAYOUT_FILE, PLAN_FILE
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.result import Result, Shot
from adhere.app.jobs.setup import Setup
from adhere.errors import ParameterError
from adhere.layout.layout import Layout
from adhere.pipelines.search.plan import Plan
from adhere.pipelines.studio.output import SETTINGS, slug, write_json, write_picture

KEPT = 3600.0
"""Seconds for which a prepared file can be downloaded."""
LOOKS = 4
"""Prepared files of one kind that a visitor has at a time, where each look prepares another."""

_clearing = threading.Lock()


def folder() -> Path:
    """A new folder inside the app's own; those older than an hour are removed."""
    base = Path(os.environ["GRADIO_TEMP_DIR"]) / "downloads"
    base.mkdir(exist_ok=True)
    # Two at a time would look at what the other one has just removed.
    with _clearing:
        for old in base.iterdir():
            if time.time() - old.stat().st_mtime > KEPT:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=base))


def own_folder(key: str | None) -> Path:
    """A new folder among a visitor's latest few: for files that every look at something makes."""
    base = Path(os.environ["GRADIO_TEMP_DIR"]) / "looks"
    home = base / hashlib.sha256((key or "").encode()).hexdigest()[:32]
    home.mkdir(parents=True, exist_ok=True)
    with _clearing:
        made = Path(tempfile.mkdtemp(dir=home))
        latest = sorted(home.iterdir(), key=lambda one: one.stat().st_mtime_ns, reverse=True)
        for old in latest[LOOKS:]:
            shutil.rmtree(old, ignore_errors=True)
    return made


def picture(shot: Shot, where: Path | None = None) -> Path:
    """One picture as a PNG of its own size that carries what makes it again."""
    request = shot.picture.request
    stack = "-".join(plugin.name for plugin in request.plugins)
    stack = stack or ("auto" if request.auto else "plain")
    name = f"{slug(request.prompt)}-{request.seed}-{stack[:60]}.png"
    path = (where or folder()) / name
    write_picture(path, shot.picture)
    return path


def for_command(setup: Setup, where: Path | None = None) -> dict[str, str]:
    """The files that the command line reads, by name: the layout, the edited plan; if any."""
    request = setup.request
    parts: dict[str, Layout | Plan | None] = {LAYOUT_FILE: request.layout}
    parts[PLAN_FILE] = request.auto if isinstance(request.auto, Plan) else None
    written = {}
    for name, part in parts.items():
        if part is not None:
            path = (where or folder()) / name
            write_json(path, part.to_json())
            written[name] = str(path)
    return written


def everything(result: Result) -> Path:
    """All pictures of a result, its settings, its layout and its plan in one archive."""
    where = folder()
    setup = result.setup
    for one in result.comparisons:
        for shot in filter(None, (one.before, one.after)):
            picture(shot, where)
    write_json(where / "settings.json", setup.to_json())
    for_command(setup, where)
    path = folder() / f"{slug(setup.request.prompt)}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(where.iterdir()):
            archive.write(file, file.name)
    return path


def settings_of(path: str, models: Sequence[str], limits: Limits = LIMITS) -> dict[str, Any]:
    """The settings of a file that this app made: a PNG, or `settings.json`.

    A picture names the model that made it; one that the app does not offer is left out.

    Raises:
        ParameterError: it carries none.
        LayoutError: it is no picture, or too large a file.
    """
    data = uploads.read_bytes(path, limits)
    text: Any = uploads.text_of(data)
    if text is None:
        text = uploads.decode(data, limits).info.get(SETTINGS)
    try:
        short = isinstance(text, str) and len(text) <= limits.setup_bytes
        found = json.loads(str(text)) if short else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ParameterError(
            "this file carries no settings: send a PNG that this app or `adhere generate` wrote, "
            "or settings.json"
        )
    if "made" in found:  # a picture's, since 0.2
        model = found["made"].get("model")
        found = dict(found["request"]) | ({"model": model} if model in models else {})
    if "seed" in found:
        found["seeds"] = [found.pop("seed")]
    return found
