"""The manifest as a file: JSON lines, each checked by the hash at the end.

A header, a line for each item, a line for each item and variant with all its seeds, and the hash of
all before it. What only the seed tells apart is written and read once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest
from adhere.eval.run.manifest import FORMAT, Entry, Manifest, job_id
from adhere.eval.suites.items import Item
from adhere.eval.suites.reading import item_from_json
from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.studio.request import Request
from adhere.plugins import plugin

Place = tuple[str, str]
"""A suite and an item."""


def to_text(manifest: Manifest) -> str:
    """The manifest file; the same plan always gives the same bytes."""
    text = "\n".join(_lines(manifest)) + "\n"
    return text + canonical({"sha256": digest(text)}) + "\n"


def _lines(manifest: Manifest) -> Iterator[str]:
    yield canonical(manifest.header)
    seen: set[Place] = set()
    for entry in manifest.entries:
        place = (entry.suite, entry.item.id)
        if place not in seen:
            seen.add(place)
            yield canonical({"suite": entry.suite, "item": entry.item.to_json()})
    for _, group in groupby(manifest.entries, key=_but_the_seed):
        yield _line(list(group))


def _but_the_seed(entry: Entry) -> tuple[str, str, str]:
    # A plan's requests of one place differ in nothing but the seed.
    return entry.suite, entry.item.id, entry.variant


def _line(group: Sequence[Entry]) -> str:
    first = group[0]
    request = first.request.to_json()
    del request["seed"]
    if request["layout"] is not None:
        # Masks are large; the item has them, and the job's hash covers them.
        request["layout"] = "item"
    pictures = [
        [one.seed, one.request.seed, one.job, *([one.picture] if one.picture else [])]
        for one in group
    ]
    return canonical(
        {
            "entry": [first.suite, first.item.id, first.variant],
            "request": request,
            "pictures": pictures,
        }
    )


def from_text(text: str, where: str) -> Manifest:
    """Read a manifest and check that it is whole and unchanged.

    Raises:
        EvaluationError: another format, a torn file, or a line that was edited by hand.
    """
    try:
        # By line feeds alone: a prompt may hold other things that Python takes for line ends.
        lines = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    except ValueError as error:
        raise EvaluationError(
            f"{where} is damaged: {error}; plan again into a new folder"
        ) from error
    header = _checked_header(lines, where)
    _check_whole(text, lines[-1], where)
    try:
        return _from_lines(header, lines[1:-1], where)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, GuidanceError):
            raise
        raise EvaluationError(f"{where} does not read: {error!r}") from error


def _checked_header(lines: Sequence[Any], where: str) -> dict[str, Any]:
    header = lines[0] if lines else None
    if not isinstance(header, dict) or "adhere_manifest" not in header:
        raise EvaluationError(f"{where} is not a manifest: its first line is not a manifest header")
    if header["adhere_manifest"] != FORMAT:
        raise EvaluationError(
            f"{where} has manifest format {header['adhere_manifest']}; this version of adhere "
            f"reads format {FORMAT}. Plan again into a new folder, or use the version that made it"
        )
    return header


def _check_whole(text: str, last: Any, where: str) -> None:
    body, _, _ = text.rstrip("\n").rpartition("\n")
    told = last.get("sha256") if isinstance(last, dict) else None
    if told is None:
        raise EvaluationError(f"{where} has no last line: it is torn; plan again")
    if told != digest(body + "\n"):
        raise EvaluationError(
            f"{where} was changed since it was written; a manifest is never edited: plan again "
            "into a new folder"
        )


def _from_lines(header: dict[str, Any], lines: Sequence[dict[str, Any]], where: str) -> Manifest:
    items: dict[Place, Item] = {}
    reader = _Requests(items)
    entries: list[Entry] = []
    for line in lines:
        if "item" in line:
            item = item_from_json(line["item"], where)
            items[line["suite"], item.id] = item
            continue
        suite, name, variant = line["entry"]
        request = reader.read(line["request"], (suite, name))
        made = [
            Entry(suite, items[suite, name], variant, seed, job, request.with_seed(noise), *picture)
            for seed, noise, job, *picture in line["pictures"]
        ]
        # The hash at the end answers for the file; this for reading it as it was meant.
        if job_id(header["identity"], made[0].request, made[0].picture) != made[0].job:
            raise EvaluationError(
                f"{where}: this version of adhere reads the request of job {made[0].job} "
                f"({request.prompt[:60]!r}) otherwise; plan again into a new folder"
            )
        entries += made
    if len(entries) != header["entries"]:
        raise EvaluationError(
            f"{where} has {len(entries)} of {header['entries']} entries: it is torn; plan again"
        )
    return Manifest(header, tuple(entries))


class _Requests:
    """Requests from their JSON; layouts and stacks of plugins are made once."""

    def __init__(self, items: dict[Place, Item]) -> None:
        self.items = items
        self.layouts: dict[Place, Layout] = {}
        self.stacks: dict[str, tuple[Plugin, ...]] = {}

    def read(self, data: dict[str, Any], place: Place) -> Request:
        """A request without its seed."""
        told = dict(data)
        shared = told.pop("layout") == "item"
        stack = self._stack(told.pop("plugins"))
        request = replace(Request.from_json(told), plugins=stack)
        return replace(request, layout=self._layout(place)) if shared else request

    def _stack(self, specs: list[Any]) -> tuple[Plugin, ...]:
        key = canonical(specs)
        if key not in self.stacks:
            # Every look at the table of plugins asks all installed packages: once is enough.
            self.stacks[key] = tuple(plugin(spec) for spec in specs)
        return self.stacks[key]

    def _layout(self, place: Place) -> Layout:
        if place not in self.layouts:
            self.layouts[place] = Layout.from_json(dict(self.items[place].layout or {}))
        return self.layouts[place]
