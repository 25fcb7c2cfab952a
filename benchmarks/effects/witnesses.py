"""A study that goes on where it was stopped: what each witness says is kept as it is said.

The rows lie beside the results until the study is whole. Those of another commit, or of another
question, are of no use and make room.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adhere.eval import files
from benchmarks import record

Found = dict[str, dict[str, dict[tuple[str, int], float]]]
"""Of each question, each arm's scores by witness and noise."""
Row = tuple[str, str, int, float | None]
"""A question, an arm, a noise and the score; None where the picture has none."""
Witness = tuple[str, Callable[[], Iterable[Row]]]
"""Its name, and how it is asked: a prompt, or a picture, with all that is made of it."""


def heard(path: Path, how: Mapping[str, Any], witnesses: Iterable[Witness]) -> Iterator[Found]:
    """After each witness what all so far have said; those whose rows are there are not asked again.

    Args:
        path: the file that the results are to be in.
        how: all that the rows depend on, beside the code.
        witnesses: in an order that is always the same.
    """
    head = json.loads(json.dumps({**how, "commit": record.about(how["device"])["commit"]}))
    rows = _rows(path)
    lines = list(files.rows(rows.read_bytes())) if rows.is_file() else []
    if lines[:1] != [head]:
        rows.unlink(missing_ok=True)
        lines = []
    said = {line["witness"]: line["rows"] for line in lines[1:]}
    found = Found()
    with files.Log(rows) as log:
        if not lines:
            log.append(head)
        for name, ask in witnesses:
            if name not in said:
                said[name] = list(ask())
                log.append({"witness": name, "rows": said[name]})
            for question, arm, noise, score in said[name]:
                scores = found.setdefault(question, {}).setdefault(arm, {})
                if score is not None:
                    scores[name, noise] = float(score)
            print(f"{path.stem}: {name} is done", flush=True)
            yield found


def whole(path: Path) -> None:
    """The results are written: their rows may go."""
    _rows(path).unlink(missing_ok=True)


def _rows(path: Path) -> Path:
    return path.with_suffix(".rows.jsonl")
