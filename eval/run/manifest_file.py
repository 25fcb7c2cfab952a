"""The manifest as a file: JSON lines, read a line at a time, checked by the hash at the end.

    {"adhere_manifest": 4, "identity": ..., "experiment": ..., "suites": ...}
    {"suite": "pairs", "item": {...}, "groups": [["plain", "<name>", 0], ...]}      an item a line
    {"entries": 800, "jobs": 800, "sha256": "..."}

A group is its variant, its name, its first noise and, where they are not the header's, its seeds;
then what else there is to know of it (`shared`, `pictures`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical
from adhere.eval.places import Place
from adhere.eval.run.manifest import FORMAT, Group, Manifest, Part
from adhere.eval.suites.items import Item
from adhere.eval.suites.reading import item_from_json


def pieces(header: Mapping[str, Any], groups: Iterable[Group]) -> Iterator[bytes]:
    """A manifest file, line by line; the same plan always gives the same bytes."""
    seen = hashlib.sha256()
    entries = jobs = 0
    seeds = tuple(header["experiment"]["seeds"])
    for line in _lines(header, groups, seeds):
        data = (canonical(line) + "\n").encode()
        seen.update(data)
        for group in line.get("groups", ()):
            rest = group[3] if len(group) > 3 else {}
            count = len(rest.get("seeds", seeds))
            entries, jobs = entries + count, jobs + count - len(rest.get("shared", ()))
        yield data
    last = {"entries": entries, "jobs": jobs, "sha256": seen.hexdigest()}
    yield (canonical(last) + "\n").encode()


def _lines(
    header: Mapping[str, Any], groups: Iterable[Group], seeds: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    yield dict(header)
    for (suite, _), some in groupby(groups, key=lambda one: (one.suite, one.item.id)):
        of_item = list(some)
        rows = [_group_row(group, seeds) for group in of_item]
        yield {"suite": suite, "item": of_item[0].item.to_json(), "groups": rows}


def _group_row(group: Group, seeds: tuple[int, ...]) -> list[Any]:
    more: dict[str, Any] = {}
    if group.seeds != seeds:
        more["seeds"] = list(group.seeds)
    if group.shared:
        more["shared"] = sorted(group.shared)
    if group.pictures:
        more["pictures"] = list(group.pictures)
    return [group.variant, group.name, group.first, *([more] if more else [])]


def read(place: Place, name: str) -> tuple[dict[str, Any], Part]:
    """The header of a manifest file, and its groups, which are read when they are asked for.

    Raises:
        EvaluationError: another format, a torn file, or a line that was edited by hand.
    """
    where = f"{place}/{name}"
    header, held, seen = None, b"", hashlib.sha256()
    for block in place.blocks(name):
        if header is None:
            header = _header(block.partition(b"\n")[0], where)
        # All but the last line is what the hash is of.
        cut = block.rstrip(b"\n").rfind(b"\n") + 1
        seen.update(held + block[:cut])
        held = block[cut:]
    if header is None:
        raise EvaluationError(f"{where} is not a manifest: it is empty")
    end = _end(held, where)
    if end["sha256"] != seen.hexdigest():
        raise EvaluationError(
            f"{where} was changed since it was written; a manifest is never edited: plan again "
            "into a new folder"
        )
    seeds = tuple(header["experiment"]["seeds"])
    return header, Part(lambda: _groups(place, name, seeds), end["entries"], end["jobs"])


def _header(line: bytes, where: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise EvaluationError(
            f"{where} is damaged: {error}; plan again into a new folder"
        ) from error
    if not isinstance(header, dict) or "adhere_manifest" not in header:
        raise EvaluationError(f"{where} is not a manifest: its first line is not a manifest header")
    if header["adhere_manifest"] != FORMAT:
        raise EvaluationError(
            f"{where} has manifest format {header['adhere_manifest']}; this version of adhere "
            f"reads format {FORMAT}. Plan again into a new folder, or use the version that made it"
        )
    return header


def _end(line: bytes, where: str) -> dict[str, Any]:
    try:
        end = json.loads(line)
    except ValueError:
        end = None
    if not isinstance(end, dict) or "sha256" not in end:
        raise EvaluationError(f"{where} is torn: it has no last line; plan again into a new folder")
    return end


def _groups(place: Place, name: str, seeds: tuple[int, ...]) -> Iterator[Group]:
    where = f"{place}/{name}"
    for block in place.blocks(name):
        # By line feeds alone: a prompt may hold other things that Python takes for line ends.
        for line in block.split(b"\n"):
            if line.startswith(b'{"groups"'):
                try:
                    yield from _of_line(json.loads(line), seeds, where)
                except (KeyError, TypeError, ValueError, IndexError) as error:
                    if isinstance(error, GuidanceError):
                        raise
                    raise EvaluationError(f"{where} does not read: {error!r}") from error


def _of_line(line: dict[str, Any], seeds: tuple[int, ...], where: str) -> Iterator[Group]:
    item: Item = item_from_json(line["item"], where)
    for variant, name, first, *more in line["groups"]:
        rest = more[0] if more else {}
        yield Group(
            line["suite"], item, variant, name, tuple(rest.get("seeds", seeds)), first,
            frozenset(rest.get("shared", ())), tuple(rest.get("pictures", ())),
        )  # fmt: skip


def manifest(place: Place, names: Iterable[str]) -> Manifest:
    """The manifest of all its files, in their order; the last one's header tells of the whole."""
    read_ = [read(place, name) for name in names]
    return Manifest(read_[-1][0], tuple(part for _, part in read_))
