"""One HTML page: tables, plots, and a before/after grid to browse.

Some pairs of pictures travel with the page, so that it needs nothing else; all others (up to a
hundred thousand pairs) are shown from where they lie beside it, a screenful at a time. Everything
that users or models wrote reaches the page as text: escaped in the tables, as JSON in a data block
that cannot end its script, and set with `textContent` by the page's own script.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TypeVar

import numpy as np

from adhere.eval.report import plots
from adhere.eval.report.page_template import PAGE
from adhere.eval.report.results import Results, Score, verdict
from adhere.eval.report.wording import change, how_to_read, number, spread
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import DONE, Ledger
from adhere.eval.scores.scored import Scored
from adhere.eval.scores.scoring import open_picture

LISTED = 100_000
"""Pairs on a page at the most."""

_LARGEST = 256
T = TypeVar("T")


def page(folder: Folder, results: Results, pairs: int) -> str:
    """The page; the pictures of `pairs` pairs are in it, spread evenly over suites and variants."""
    scored, known = results.values.scored, folder.ledger()
    listed = spread_evenly(_pairs(scored, str(results.about["baseline"])), LISTED)
    jobs = {number: scored.jobs[number].decode() for pair in listed for number in pair}
    inside = {jobs[number] for pair in spread_evenly(listed, pairs) for number in pair}
    whole = known.made(list(jobs.values()), folder.image)
    there = {job for job, made in zip(jobs.values(), whole, strict=True) if made}
    images = {job: _data(folder, known, job) for job in sorted(inside & there)}
    shown = there - {job for job, data in images.items() if not data}
    listed = [pair for pair in listed if all(jobs[number] in shown for number in pair)]
    data = {
        "images": {job: data for job, data in images.items() if data},
        "pairs": _columns(results, listed, jobs),
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
        notes=_notes(results, len(set(jobs.values()) - shown)),
        tables="".join(_suite(results, suite) for suite in results.about["suites"]),
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _filled(**parts: str) -> str:
    text = PAGE
    # One pass over the template: what is filled in is never looked at again.
    pieces = text.split("@@")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def _pairs(scored: Scored, baseline: str) -> list[tuple[int, int]]:
    """The entries that are compared and whose pictures are there: of the baseline, and another."""
    done = scored.status == DONE
    found = [
        pair
        for suite, variant in scored.places
        if variant != baseline
        for pair in scored.pairs((suite, variant), (suite, baseline))
        if done[pair[0]] and done[pair[1]]
    ]
    # Nothing to compare: the pictures alone still deserve to be seen.
    return found or [(number, number) for number in np.flatnonzero(done).tolist()]


def spread_evenly(found: Sequence[T], most: int) -> Sequence[T]:
    """At most so many of them, from everywhere."""
    if len(found) <= most:
        return found
    return [found[int(number * len(found) / most)] for number in range(most)]


def _data(folder: Folder, known: Ledger, job: str) -> str:
    """A picture as a data address, empty where it is not the one that was written.

    Large ones are reduced, for the page only.
    """
    (row,) = known.find([job])
    image = open_picture(folder.place, folder.image(job), known.record(int(row)))
    if isinstance(image, str):
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


def _columns(
    results: Results, listed: Sequence[tuple[int, int]], jobs: Mapping[int, str]
) -> dict[str, Any]:
    """The pairs in columns: texts are named once, pairs by number."""
    scored, values = results.values.scored, results.values.columns
    names = list(scored.places)
    place = np.zeros(len(scored), "i4")
    for at, some in enumerate(scored.places.values()):
        place[some] = at
    texts: dict[str, int] = {}

    def text(word: str) -> int:
        return texts.setdefault(word, len(texts))

    pairs = {
        "suite": [text(names[place[after]][0]) for _, after in listed],
        "variant": [text(names[place[after]][1]) for _, after in listed],
        "prompt": [text(scored.prompts[scored.item[after]]) for _, after in listed],
        "seed": [int(scored.seed[after]) for _, after in listed],
        "before": [jobs[before] for before, _ in listed],
        "after": [jobs[after] for _, after in listed],
        "scores": {
            name: [[_short(values[name][pair[side]]) for pair in listed] for side in (0, 1)]
            for name in results.columns
            if name in values
        },
    }
    return {"texts": list(texts), **pairs}


def _short(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")


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


def _notes(results: Results, lost: int) -> str:
    notes = [*results.warnings]
    if lost:
        notes.append(
            f"{lost} pictures are missing or are not the files that were written, and are not "
            "shown; `adhere eval validate` names them"
        )
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
