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
from pathlib import Path
from typing import Any

import yaml

from adhere.eval import files
from adhere.eval.errors import EvaluationError
from adhere.eval.report.listing import pictures
from adhere.eval.report.results import Results
from adhere.eval.report.wording import number, spread
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import DONE, SUM_LENGTH, Ledger

SPLIT = "test"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_LARGEST = "1M<n<10M"


@dataclass(frozen=True)
class Written:
    """How much was written."""

    rows: int
    left_out: int
    size: int


def export(folder: Folder, results: Results, to: Path) -> Written:
    """Write a run's pictures with their scores to a new folder.

    Raises:
        EvaluationError: the folder has files already, no picture was made, or one was changed.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise EvaluationError(f"{to} is there already; give a folder that is new or empty")
    left_out, size, rows, known = 0, 0, 0, folder.ledger()
    (to / SPLIT).mkdir(parents=True, exist_ok=True)
    with (to / SPLIT / "metadata.jsonl").open("w", encoding="utf-8") as stream:
        for row in _rows(folder, results):
            if row.pop("status") != DONE:
                left_out += 1
                continue
            size += _copy(folder, known, row["file_name"], to / SPLIT)
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            rows += 1
    if not rows:
        raise EvaluationError(f"{folder.path} has no pictures yet: `adhere eval run` makes them")
    written = Written(rows, left_out, size)
    files.write_atomic(to / "results.json", files.canonical(results.to_json()).encode())
    files.write_atomic(to / "README.md", card(results, written).encode())
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


def _copy(folder: Folder, known: Ledger, name: str, to: Path) -> int:
    """Copy a picture if it is not there yet; the bytes that this added."""
    place = to / name
    if place.exists():
        return 0
    (row,) = known.find([place.stem])
    data = folder.place.read(name)
    if files.digest(data, SUM_LENGTH) != known.checksum(int(row)):
        raise EvaluationError(
            f"{name} is not the file that was written; `adhere eval validate {folder.path}` lists "
            "what is damaged"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return len(data)


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
