"""Visitors' results in a folder of the operator's: they outlive the app.

    <folder>/<hash of the visitor's key>/<number of the result>/result.json, 0-after.png, ...

Each picture carries its settings, as every downloaded one does.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import Limits
from adhere.app.jobs.result import Comparison, Result, Shot
from adhere.errors import GuidanceError
from adhere.pipelines.studio.output import write_json, write_picture
from adhere.pipelines.studio.request import Picture, Request

log = logging.getLogger("adhere.app")

ABOUT = "result.json"


class Gallery:
    """Results on disk. Verdicts and attention are not kept: both can be had again.

    Args:
        folder: one that can be written to.
        models: names that the app offers; results of others are left where they are.
    """

    def __init__(self, folder: Path, models: Sequence[str], limits: Limits) -> None:
        self.folder, self.models, self.limits = folder, tuple(models), limits

    def save(self, key: str, number: int, tab: str, result: Result) -> None:
        """Write a result; the visitor's oldest and the visitors longest away make room."""
        home = self._home(key)
        where = home / f"{number:06d}"
        pictures = []
        for index, one in enumerate(result.comparisons):
            sides = {"before": one.before, "after": one.after}
            for side, shot in sides.items():
                if shot is not None:
                    write_picture(where / f"{index}-{side}.png", shot.picture)
            entry = {side: _about(shot) for side, shot in sides.items()}
            pictures.append({"seed": one.seed, **entry})
        about: dict[str, Any] = {"tab": tab, "setup": result.setup.to_json(), "pictures": pictures}
        about |= {"toybox": result.toybox, "stopped": result.stopped}
        write_json(where / ABOUT, about)  # last: a result without it is not whole
        _keep_newest(home, self.limits.kept, by_name=True)
        _keep_newest(self.folder, self.limits.galleries, by_name=False)

    def load(self, key: str) -> list[tuple[int, str, Result]]:
        """A visitor's results with their numbers and tabs, the newest first."""
        found = []
        for where in sorted(self._home(key).glob("[0-9]*"), reverse=True):
            try:
                found.append((int(where.name), *self._read(where)))
            except (OSError, ValueError, KeyError, TypeError, GuidanceError) as wrong:
                # Of a model or method that is no longer here, or cut off: for the operator to see.
                log.warning("the gallery's %s is left out: %s", where, wrong)
        return found

    def _read(self, where: Path) -> tuple[str, Result]:
        about = json.loads((where / ABOUT).read_text("utf-8"))
        setup = setups.from_json(about["setup"], self.models, self.limits)
        comparisons = []
        for index, entry in enumerate(about["pictures"]):
            request = setup.request.with_seed(entry["seed"])
            before = entry["before"] and _shot(
                where / f"{index}-before.png", request.plain(), entry["before"]
            )
            after = _shot(where / f"{index}-after.png", request, entry["after"])
            comparisons.append(Comparison(entry["seed"], before, after))
        stopped = bool(about["stopped"])
        result = Result(setup, bool(about["toybox"]), comparisons, not stopped, stopped)
        return str(about["tab"]), result

    def _home(self, key: str) -> Path:
        # The key is the visitor's secret: whoever can read the folder does not learn it.
        return self.folder / hashlib.sha256(key.encode()).hexdigest()[:32]


def _about(shot: Shot | None) -> dict[str, Any] | None:
    if shot is None:
        return None
    picture = shot.picture
    return {"seconds": picture.seconds, "report": picture.report, "made": picture.made}


def _shot(path: Path, request: Request, about: Mapping[str, Any]) -> Shot:
    with Image.open(path, formats=("PNG",)) as image:
        image.load()
        picture = Picture(
            image.convert("RGB"), request, dict(about["report"]), float(about["seconds"]),
            made=dict(about["made"]),
        )  # fmt: skip
    return Shot(picture)


def _keep_newest(folder: Path, most: int, *, by_name: bool) -> None:
    """Remove the oldest folders in a folder: by their number, or by when they were written to."""
    inside = [one for one in folder.iterdir() if one.is_dir()]
    inside.sort(key=lambda one: one.name if by_name else one.stat().st_mtime, reverse=True)
    for old in inside[most:]:
        shutil.rmtree(old, ignore_errors=True)
