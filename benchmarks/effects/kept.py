"""A study that outlives its machine: runs without their pictures, in `benchmarks/results/runs/`.

A run's plan, logs and scores are text, a hundredth of its pictures. What is scored is never opened
again, so a run that comes back needs its pictures only by name and size: files with nothing inside
stand for them. Made again are they by the same command from the same plan, bit for bit on the same
processor.
"""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import DONE

KEPT = Path(__file__).resolve().parents[1] / "results" / "runs"
_ENDING = ".tar.xz"
_LEFT_OUT = frozenset({"images", "writing", "at_work"})


def keep(run: Path, kept: Path = KEPT) -> Path:
    """Write a run without its pictures; the same run gives the same bytes."""
    kept.mkdir(parents=True, exist_ok=True)
    to = kept / f"{run.name}{_ENDING}"
    with lzma.open(to, "wb", preset=9) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for path in _texts(run):
            entry = archive.gettarinfo(path, str(path.relative_to(run)))
            entry.mtime = entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with path.open("rb") as data:
                archive.addfile(entry, data)
    return to


def _texts(run: Path) -> Iterator[Path]:
    for path in sorted(run.rglob("*")):
        if path.is_file() and not _LEFT_OUT & set(path.relative_to(run).parts):
            yield path


def restore(runs: Path, kept: Path = KEPT) -> list[str]:
    """Lay the kept runs where they are not yet; the names of those that came."""
    came = []
    for archive in sorted(kept.glob(f"*{_ENDING}")):
        run = runs / archive.name.removesuffix(_ENDING)
        if run.exists():
            continue
        with tarfile.open(archive) as packed:
            packed.extractall(run, filter="data")
        _stand_in(Folder(run), run)
        came.append(run.name)
    return came


def _stand_in(folder: Folder, run: Path) -> None:
    """An empty file of the right size for every picture that was made."""
    for row in folder.ledger().records():
        if row["status"] == DONE:
            picture = run / folder.image(row["job"])
            picture.parent.mkdir(parents=True, exist_ok=True)
            with picture.open("wb") as stream:
                stream.truncate(row["bytes"])
