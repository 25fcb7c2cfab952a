"""One self-contained HTML page: tables, plots, and a before/after grid to browse.

Everything that users or models wrote reaches the page as text: escaped in the tables, as JSON in a
data block that cannot end its script, and set with `textContent` by the page's own script.
"""

from __future__ import annotations

import base64
import io
import json
from html import escape
from typing import Any

from PIL import Image

from adhere.eval.report import plots
from adhere.eval.report.page_template import PAGE
from adhere.eval.report.report import change, how_to_read, number, spread
from adhere.eval.report.results import Results, Score, verdict
from adhere.eval.run.experiment import BASELINE
from adhere.eval.run.folder import Folder
from adhere.eval.run.manifest import Entry

_LARGEST = 256


def page(folder: Folder, results: Results, pairs: int) -> str:
    """The page; `pairs` before/after pairs at the most, spread evenly over suites and variants."""
    shown = _pairs(folder, pairs, str(results.about["baseline"]))
    images: dict[str, str] = {}
    listed = []
    for before, after in shown:
        for entry in (before, after):
            if entry.job not in images:
                images[entry.job] = _data(folder, entry)
        listed.append(_pair(results, before, after))
    data = {
        "images": images,
        "pairs": listed,
        "columns": {
            name: {"help": column.help, "better": column.better, "kind": column.kind}
            for name, column in results.columns.items()
        },
    }
    return _filled(
        title=escape(str(results.about["name"])),
        head=_head(results),
        how=escape(how_to_read(results).replace("`", "")).replace("bold", "coloured"),
        baseline=escape(str(results.about["baseline"])),
        notes=_notes(results),
        tables="".join(_suite(results, suite) for suite in results.about["suites"]),
        data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
    )


def _filled(**parts: str) -> str:
    text = PAGE
    # One pass over the template: what is filled in is never looked at again.
    pieces = text.split("@@")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def _pairs(folder: Folder, most: int, baseline: str = BASELINE) -> list[tuple[Entry, Entry]]:
    entries = folder.manifest.entries
    plain = {
        (entry.suite, entry.item.id, entry.seed): entry
        for entry in entries
        if entry.variant == baseline
    }
    found = [
        (plain[entry.suite, entry.item.id, entry.seed], entry)
        for entry in entries
        if entry.variant != baseline and (entry.suite, entry.item.id, entry.seed) in plain
    ]
    there = [pair for pair in found if all(folder.image(one.job).is_file() for one in pair)]
    if not there:
        # Nothing to compare: the unguided pictures alone still deserve to be seen.
        there = [(one, one) for one in plain.values() if folder.image(one.job).is_file()]
    if len(there) <= most:
        return there
    step = len(there) / most
    return [there[int(number * step)] for number in range(most)]


def _data(folder: Folder, entry: Entry) -> str:
    """A picture as a data address; large ones are reduced, for the page only."""
    try:
        with Image.open(folder.image(entry.job)) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError):
        return ""
    stream = io.BytesIO()
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST))
        image.save(stream, "JPEG", quality=88)
        kind = "jpeg"
    else:
        image.save(stream, "PNG")
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _pair(results: Results, before: Entry, after: Entry) -> dict[str, Any]:
    return {
        "suite": after.suite,
        "item": after.item.id,
        "prompt": after.item.prompt,
        "variant": after.variant,
        "seed": after.seed,
        "before": before.job,
        "after": after.job,
        "scores": [results.values.get(before.key, {}), results.values.get(after.key, {})],
    }


def _head(results: Results) -> str:
    about = results.about
    facts = {
        "model": f"{about['model']['model']} (weights {about['model']['weights']})",
        "pictures": f"{about['pictures']['done']} of {about['pictures']['jobs']}",
        "device": ", ".join(about["devices"]) or "unknown",
        "commit": about["commit"] or "unknown",
        "settings": ", ".join(
            f"{name} {' or '.join(map(str, values))}" for name, values in about["settings"].items()
        ),
        "versions": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    }
    return "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )


def _notes(results: Results) -> str:
    notes = [*results.warnings]
    notes += [f"{name} was left out: {why}" for name, why in results.left_out.items()]
    notes += [f"not made: {one['prompt'][:80]!r}: {one['error']}" for one in results.failures]
    return "".join(f"<li>{escape(note)}</li>" for note in notes)


def _suite(results: Results, suite: str) -> str:
    facts = results.about["suites"][suite]
    scores = [score for score in results.scores if score.suite == suite and score.tag is None]
    names = list(dict.fromkeys(score.column for score in scores))
    variants = list(dict.fromkeys(score.variant for score in scores))
    by_place = {(score.variant, score.column): score for score in scores}
    head = "".join(
        f'<th scope="col" title="{escape(results.columns[name].help)}">{escape(name)}</th>'
        for name in names
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(variant)}</th>'
        + "".join(_cell(results, by_place.get((variant, name))) for name in names)
        + "</tr>"
        for variant in variants
    )
    return (
        f"<section><h2>{escape(suite)}</h2><p>version {escape(facts['version'])}, "
        f"{facts['items']} prompts. {escape(facts['source'])}</p>"
        f'<div class="wide"><table><thead><tr><th scope="col">variant</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_plots(results, scores, names)}</section>"
    )


def _cell(results: Results, score: Score | None) -> str:
    if score is None:
        return "<td></td>"
    column = results.columns[score.column]
    kind = verdict(score, column)
    moved = escape(change(score, column).replace("**", ""))
    return (
        f'<td class="{kind}"><b>{escape(number(score.mean, column))}</b> '
        f"<small>{escape(spread(score, column))} n={score.n}</small>"
        f"<br><small>{moved}</small></td>"
    )


def _plots(results: Results, scores: list[Score], names: list[str]) -> str:
    figures = []
    for name in names:
        column = results.columns[name]
        of_column = [s for s in scores if s.column == name and s.difference is not None]
        if of_column and column.better != "neither":
            figures.append(
                f"<figure><figcaption>{escape(name)}: difference to "
                f"{escape(str(results.about['baseline']))} "
                f"({escape(column.better)} is better)</figcaption>"
                f"{plots.forest(of_column, column)}</figure>"
            )
    return f'<div class="plots">{"".join(figures)}</div>'
