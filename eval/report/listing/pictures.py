"""Every picture with all its scores, as a table: CSV always, Parquet where it is asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from adhere.errors import ExtraMissing
from adhere.eval.report.results import Results
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import DONE
from adhere.eval.run.manifest import batched

HEAD = ("suite", "item", "variant", "seed", "prompt", "tags", "status", "image")
_TOGETHER = 4096


def table(folder: Folder, results: Results) -> Iterator[list[Any]]:
    """A row a picture: what was asked, what became of it, its scores (None where it has none)."""
    scored, names = results.values.scored, list(results.columns)
    for number, entry in enumerate(folder.manifest.entries()):
        scores = results.values.row(number)
        status = str(scored.status[number])
        yield [
            entry.suite, entry.item.id, entry.variant, entry.seed, entry.item.prompt,
            ";".join(entry.item.tags), status, folder.image(entry.job) if status == DONE else "",
            *(scores.get(name) for name in names),
        ]  # fmt: skip


def csv_lines(folder: Folder, results: Results) -> Iterator[bytes]:
    """The table as CSV, a piece at a time."""
    rows = table(folder, results)
    yield _csv([[*HEAD, *results.columns]])
    for some in batched(rows, _TOGETHER):
        yield _csv(some)


def _csv(rows: Any) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def write_parquet(folder: Folder, results: Results, name: str = "pictures.parquet") -> None:
    """The table as Parquet beside the report.

    Raises:
        ExtraMissing: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ExtraMissing("--parquet", "parquet") from error
    text, number = pyarrow.string(), pyarrow.float64()
    kinds = [pyarrow.int64() if head == "seed" else text for head in HEAD]
    fields = zip([*HEAD, *results.columns], [*kinds, *[number] * len(results.columns)], strict=True)
    schema = pyarrow.schema(list(fields))
    stream = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for some in batched(table(folder, results), _TOGETHER):
            columns = zip(zip(*some, strict=True), schema, strict=True)
            arrays = [pyarrow.array(column, kind.type) for column, kind in columns]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
    folder.place.write(name, stream.getvalue())
