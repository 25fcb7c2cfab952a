"""Pictures that somebody else made, as a run: planned from what is there, then scored like any.

A folder of pictures is a variant. Which prompt a picture is of is told by

- GenEval's form: `00000/metadata.jsonl` with `00000/samples/0000.png`...;
- a table in the folder (CSV, TSV, or JSON lines as the hub's data sets have them) with a column of
  prompts and one of file names;
- its name, in a suite that is given: the item's id or its prompt, then perhaps `_` and a number;
- its name alone: the prompt, then perhaps `_` and a number (T2I-CompBench's form).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.sets.references import IMAGES
from adhere.eval.files import digest
from adhere.eval.run import ledger, manifest, provenance
from adhere.eval.run.experiment import Experiment, Variant, check_name
from adhere.eval.run.folder import Folder, png
from adhere.eval.run.ledger import DONE, FAILED
from adhere.eval.run.manifest import IMPORTED, Entry, Group, Known, Manifest
from adhere.eval.run.requests import Requests
from adhere.eval.suites.formats import content, geneval, json_prompts
from adhere.eval.suites.formats.prompt_tables import column
from adhere.eval.suites.items import Item, Overall, Suite
from adhere.frames import warn_of_more
from adhere.pipelines.tools.pictures import UNREADABLE, counted

MODEL = "pictures made elsewhere"
_FILES = ("image", "file", "file_name", "filename", "path", "image_path", "picture")
_TABLES = (".csv", ".tsv", ".jsonl")
_LABEL = "imported"


@dataclass(frozen=True)
class Given:
    """A picture, the item that it is of, and which of the item's pictures it is."""

    path: Path
    item: Item
    number: int


@dataclass(frozen=True)
class Imported:
    """A run of pictures that were there, and those of the folders that are of no prompt."""

    run: Folder
    left_out: tuple[Path, ...]


def plan(out: Path | str, folders: Mapping[str, Path], suite: Suite | None, name: str) -> Imported:
    """A run of the pictures in some folders, each folder a variant.

    Raises:
        EvaluationError: a folder without pictures, a picture of no prompt, a variant that cannot be
            called so, or another run there.
    """
    for variant in folders:
        check_name(variant)
    found = {variant: pictures(folder, suite) for variant, folder in folders.items()}
    items = _items(found)
    whole = suite or _suite_of(name, folders, tuple(items.values()))
    experiment = Experiment(
        name=name, model=MODEL, suites=(whole.name,), variants=tuple(map(Variant, folders))
    )
    identity: dict[str, Any] = {
        "model": MODEL, "weights": IMPORTED, "dtype": "none", "code": manifest.code_of(experiment),
    }  # fmt: skip
    requests = Requests(identity, experiment)
    groups: list[Group] = []
    sources: dict[str, tuple[Path, Entry]] = {}
    known = Known()
    for variant, some in found.items():
        for item_, of_item in _by_item(some):
            group = known.sharing(_group(requests, whole.name, variant, item_, of_item))
            groups.append(group)
            for entry, one in zip(group.entries(requests), of_item, strict=True):
                sources[entry.job] = one.path, entry
    folder = Folder(out)
    header = manifest.header(experiment, identity, [whole])
    folder.plan(Manifest(header, (manifest.counted(lambda: groups),)))
    _copy(folder, sources)
    taken = {one.path for some in found.values() for one in some}
    there = (path for one in folders.values() for path in _images(one))
    return Imported(folder, tuple(path for path in there if path not in taken))


def _items(found: Mapping[str, Sequence[Given]]) -> dict[str, Item]:
    """The items by id; folders that mean two prompts by one id would be compared wrongly."""
    items: dict[str, Item] = {}
    for variant, some in found.items():
        for one in some:
            other = items.setdefault(one.item.id, one.item)
            if other.prompt != one.item.prompt:
                raise EvaluationError(
                    f"item {one.item.id!r} is {one.item.prompt!r} in the folder of {variant!r} and "
                    f"{other.prompt!r} in another; give the suite that both are of (--suite)"
                )
    return items


def _by_item(some: Sequence[Given]) -> Iterator[tuple[Item, list[Given]]]:
    found: dict[str, list[Given]] = defaultdict(list)
    for one in some:
        found[one.item.id].append(one)
    for given in found.values():
        yield given[0].item, given


def _group(
    requests: Requests, suite: str, variant: str, item: Item, given: Sequence[Given]
) -> Group:
    """All pictures of an item in a folder; a picture's checksum is all that is known of it."""
    pictures = tuple(hashlib.sha256(one.path.read_bytes()).hexdigest() for one in given)
    name = requests.name(requests.request(suite, item, variant))
    seeds = tuple(one.number for one in given)
    return Group(suite, item, variant, name, seeds, pictures=pictures)


def _suite_of(name: str, folders: Mapping[str, Path], items: tuple[Item, ...]) -> Suite:
    """A suite of what the pictures say; GenEval's pictures are summed as GenEval sums."""
    overall: Overall = "tags" if all(map(_is_geneval, folders.values())) else "items"
    source = f"pictures in {', '.join(folders)}"
    return Suite(name, "1", source, "see source", items, overall=overall)


def _copy(folder: Folder, sources: Mapping[str, tuple[Path, Entry]]) -> None:
    """Put the pictures in their places, pixel for pixel."""
    done, counts = folder.done(), dict[str, int]()
    with folder.log(_LABEL) as journal:
        for job, (path, entry) in sources.items():
            if job in done:
                continue
            try:
                image, counts[str(path)] = counted(path)
            except UNREADABLE as error:
                why = f"{path.name} cannot be read: {error}"
                journal.append(ledger.row(job, FAILED, permanent=True, error=why))
                continue
            data = png(image, job, entry.request)
            folder.write_image(job, data, _LABEL)
            settings = {"width": image.width, "height": image.height}
            made = {**provenance.made_now(), "imported": path.name}
            row = ledger.row(
                job, DONE, sha256=digest(data), bytes=len(data), settings=settings, made=made
            )
            journal.append(row)
    warn_of_more(counts)


def pictures(folder: Path, suite: Suite | None) -> list[Given]:
    """The pictures of a folder with their items.

    Raises:
        EvaluationError: there are none, or one that is of no prompt.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is not a folder of pictures")
    found = _geneval(folder, suite) or _table(folder, suite) or _named(folder, suite)
    if not found:
        raise EvaluationError(f"{folder} has no pictures ({', '.join(IMAGES)})")
    seen: dict[tuple[str, int], Path] = {}
    for one in found:
        if not one.item.prompt.strip():
            raise EvaluationError(f"{one.path} has an empty prompt; say what it is a picture of")
        other = seen.setdefault((one.item.id, one.number), one.path)
        if other != one.path:
            raise EvaluationError(f"{other} and {one.path} are both picture {one.number} of item "
                                  f"{one.item.id!r}")  # fmt: skip
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)


def _is_geneval(folder: Path) -> bool:
    return geneval.is_geneval(content.read(folder))


def _geneval(folder: Path, suite: Suite | None) -> list[Given]:
    if not _is_geneval(folder):
        return []
    by_id = {item.id: item for item in suite.items} if suite else {}
    by_prompt = {item.prompt: item for item in suite.items} if suite else {}
    found = []
    for listed in geneval.geneval(content.read(folder)).items:
        item = by_id.get(listed.id)
        if item is None or item.prompt != listed.prompt:
            item = by_prompt.get(listed.prompt)
        if suite and item is None:
            raise EvaluationError(f"{folder / listed.id}: {listed.prompt!r} is not in the suite")
        for number, path in enumerate(_images(folder / listed.id / "samples")):
            seed = int(path.stem) if path.stem.isdigit() else number
            found.append(Given(path, item or listed, seed))
    return found


def _table(folder: Path, suite: Suite | None) -> list[Given]:
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _TABLES]
    if not tables:
        return []
    read = content.read(tables[0])
    if json_prompts.is_entries(read):
        read = json_prompts.as_table(read)
    known = {item.prompt: item for item in suite.items} if suite else {}
    counts: dict[str, int] = defaultdict(int)
    found = []
    for number, row in enumerate(read.rows(), 1):
        name, prompt = column(row, _FILES), column(row, content.PROMPTS)
        path = folder / name
        if not name or not path.is_file():
            raise EvaluationError(
                f"{tables[0]}, row {number}: {name or 'no file'!r} is not in {folder} "
                f"(columns for it: {', '.join(_FILES)})"
            )
        if known and prompt not in known:
            raise EvaluationError(f"{tables[0]}, row {number}: {prompt!r} is not in the suite")
        item = known.get(prompt) or Item(digest(prompt, 12), prompt)
        seed = row.get("seed", "")
        found.append(Given(path, item, int(seed) if seed.isdigit() else counts[prompt]))
        counts[prompt] += 1
    return found


def _named(folder: Path, suite: Suite | None) -> list[Given]:
    items = _by_name(suite.items) if suite else None
    counts: dict[str, int] = defaultdict(int)
    found = []
    for path in _images(folder):
        match = re.fullmatch(r"(.+?)_(\d+)", path.stem)
        if items is None:
            prompt = match[1] if match else path.stem
            item = Item(digest(prompt, 12), prompt)
            number = counts[prompt]
        else:
            exact = items.get(_plain(path.stem))
            near = items.get(_plain(match[1])) if match else None
            fits = exact or near
            if fits is None:
                raise EvaluationError(
                    f"{path} is named after neither an id nor a prompt of the suite"
                )
            item = fits
            number = counts[item.id] if exact or not match else int(match[2])
        counts[item.prompt if items is None else item.id] += 1
        found.append(Given(path, item, number))
    return found


def _by_name(items: Sequence[Item]) -> dict[str, Item]:
    return {_plain(name): item for item in items for name in (item.prompt, item.id)}


def _plain(text: str) -> str:
    """Without what file names cannot have, or have instead of blanks."""
    return re.sub(r"[^0-9a-z]+", " ", text.lower()).strip()
