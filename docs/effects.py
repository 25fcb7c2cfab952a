"""Which plugins make a toybox's pictures better, by the committed effect studies."""

from __future__ import annotations

import functools
import json
import re

from adhere.plugins import PLUGINS
from docs.figures import RESULTS

COLUMNS = {"toybox": "toybox", "toybox, SD3": "toybox-sd3"}
"""The model that a study names, by the column of the table of families."""
WANTED = {"all_present": 1, "binding": 1, "fully_right": 1, "miou": 1, "unsafe": -1, "copied": -1}
"""Columns of a study that say what pictures are worth, and which way is better."""


@functools.cache
def improving(column: str) -> frozenset[str]:
    """Plugins that made a toybox's pictures better, intervals clear of zero.

    Settings of a plugin are variants of their own, named after it.
    """
    found = set()
    told = [json.loads(path.read_text("utf-8")) for path in RESULTS.glob("effect_*.json")]
    for each in (one for study in told for one in study["experiments"].values()):
        if each["model"]["model"] != COLUMNS[column]:
            continue
        for score in each["scores"]:
            change = score.get("difference")
            way = WANTED.get(score["column"], 0)
            if change and way and min(way * change["low"], way * change["high"]) > 0:
                found.add(score["variant"])
    return frozenset(
        plugin
        for plugin in PLUGINS
        if any(f"{name}-".startswith(f"{plugin}-") and "+" not in name for name in found)
    )


def cell(column: str, plugin: str, outcome: str) -> str:
    """What the table says: `effect` where a plugin that acts has been measured to help."""
    if column not in COLUMNS or outcome not in ("yes", "effect"):
        return outcome
    return "effect" if plugin in improving(column) else "yes"


def marked(head: str, row: str) -> str:
    """A row of the table with its effects as the studies have them now."""
    names, cells = ([cell.strip() for cell in line.strip("| ").split("|")] for line in (head, row))
    plugin = re.sub("`", "", cells[0])
    found = [cell(name, plugin, told) for name, told in zip(names[1:], cells[1:], strict=True)]
    return f"| {' | '.join([cells[0], *found])} |"
