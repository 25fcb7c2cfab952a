"""A run as a data set in the hub's form: pictures, `metadata.jsonl`, and a card.

    FOLDER/README.md             the card: features, splits, how the run was made, its means
    FOLDER/test/metadata.jsonl   a row for each picture that was made: prompt, item, scores...
    FOLDER/test/images/abc/...   the pictures; one that two variants share is there once
    FOLDER/results.json          the report's figures

`datasets.load_dataset(FOLDER)` reads it, `hf upload --repo-type dataset` puts it on
the hub. The card is written last: without one the data set is not whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from adhere.eval import files, places
from adhere.eval.errors import EvaluationError
from adhere.eval.places import Place
from adhere.eval.report.listing import pictures
from adhere.eval.report.results import Results
from adhere.eval.report.wording import number, spread
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import DONE, SUM_LENGTH

SPLIT = "test"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_LARGEST = "1M<n<10M"


@dataclass(frozen=True)
class Written:
    """How much was written."""

    rows: int
    left_out: int
    size: int


def export(folder: Folder, results: Results, to: Path | str) -> Written:
    """Write a run's pictures with their scores to a new folder, here or in a store.

    Raises:
        EvaluationError: the folder has files already, no picture was made, or one was changed.
    """
    place = places.at(to, alone=True)
    is_file = place.local is not None and place.local.is_file()
    if is_file or place.names("") or place.folders(""):
        raise EvaluationError(f"{to} is there already; give a folder that is new or empty")
    copied = _Copied(folder, place)
    place.write(f"{SPLIT}/metadata.jsonl", copied.lines(results))
    written = Written(copied.rows, copied.left_out, copied.size)
    place.write("results.json", files.canonical(results.to_json()).encode())
    place.write("README.md", card(results, written).encode())
    return written


def scores(results: Results) -> list[str]:
    """The names of the scores that single pictures have."""
    return [name for name in results.columns if name in results.values.columns]


def _rows(folder: Folder, results: Results) -> Iterator[dict[str, Any]]:
    names = scores(results)
    for values in pictures.table(folder, results):
        row = dict(zip((*pictures.HEAD, *results.columns), values, strict=True))
        yield {
            "file_name": row["image"],
            **{name: row[name] for name in ("suite", "item", "variant", "seed", "prompt")},
            "tags": row["tags"],
            "status": row["status"],
            **{name: row[name] for name in names},
        }


class _Copied:
    """What is written so far: a row for each picture, and the picture before its row."""

    def __init__(self, folder: Folder, to: Place) -> None:
        self._folder, self._to, self._known = folder, to, folder.ledger()
        self._there: set[str] = set()
        self.rows = self.left_out = self.size = 0

    def lines(self, results: Results) -> Iterator[bytes]:
        """The lines of `metadata.jsonl`."""
        for row in _rows(self._folder, results):
            if row.pop("status") != DONE:
                self.left_out += 1
                continue
            self._copy(row["file_name"])
            self.rows += 1
            yield f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n".encode()
        if not self.rows:
            raise EvaluationError(
                f"{self._folder.path} has no pictures yet: `adhere eval run` makes them"
            )

    def _copy(self, name: str) -> None:
        """Copy a picture if it is not there yet."""
        if name in self._there:
            return
        (row,) = self._known.find([PurePosixPath(name).stem])
        data = self._folder.place.read(name)
        if files.digest(data, SUM_LENGTH) != self._known.checksum(int(row)):
            raise EvaluationError(
                f"{name} is not the file that was written; `adhere eval validate "
                f"{self._folder.path}` lists what is damaged"
            )
        self._to.write(f"{SPLIT}/{name}", data)
        self._there.add(name)
        self.size += len(data)


def card(results: Results, written: Written) -> str:
    """The data set's card: what programs read of it, then what people do."""
    head = yaml.safe_dump(_head(results, written), sort_keys=False, allow_unicode=True)
    about = results.about
    settings = {
        key: one for key, one in about["experiment"].items() if one not in (None, "", [], {})
    }
    lines = [
        f"# {about['name']}",
        "",
        f"{written.rows} pictures with their scores, made and judged by Adhere. A row is a picture "
        "of one prompt, variant and seed. State the licence of the model and of the prompts here.",
        "",
        f"- model: `{about['model']['model']}`",
        *(f"- {key}: `{files.canonical(one)}`" for key, one in settings.items()),
        "",
        *_means(results),
    ]
    return f"---\n{head}---\n\n" + "\n".join(lines) + "\n"


def _head(results: Results, written: Written) -> dict[str, Any]:
    text = ("suite", "item", "variant", "seed", "prompt", "tags")
    kinds = {name: "int64" if name == "seed" else "string" for name in text}
    kinds |= dict.fromkeys(scores(results), "float64")
    features = [{"name": name, "dtype": kind} for name, kind in {"image": "image", **kinds}.items()]
    split = {"name": SPLIT, "num_bytes": written.size, "num_examples": written.rows}
    size = next((label for most, label in _SIZES if written.rows < most), _LARGEST)
    return {
        "pretty_name": results.about["name"],
        "task_categories": ["text-to-image"],
        "tags": ["adhere", "evaluation", "diffusers"],
        "size_categories": [size],
        "configs": [
            {"config_name": "default", "data_files": [{"split": SPLIT, "path": f"{SPLIT}/**"}]}
        ],
        "dataset_info": {
            "features": features,
            "splits": [split],
            "download_size": written.size,
            "dataset_size": written.size,
        },
    }


def _means(results: Results) -> Iterator[str]:
    yield "| suite | variant | score | mean | 95 % | n |"
    yield "|---|---|---|---|---|---|"
    for one in results.scores:
        if one.tag is None:
            column = results.columns[one.column]
            shown = (number(one.mean, column), spread(one, column), one.n)
            cells = (one.suite, one.variant, one.column, *shown)
            yield f"| {' | '.join(map(str, cells))} |"
