"""Suites by name, by path, or from another data set's published files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adhere import assets
from adhere.eval import places
from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats import table as formats
from adhere.eval.suites.items import Suite
from adhere.eval.suites.reading import check
from adhere.files import at_home

_SUFFIXES = (".json", ".yaml", ".yml", ".txt", ".jsonl", ".csv", ".tsv")


def bundled_folder() -> Path:
    """Where the suites that come with the project are."""
    return assets.FOLDER / "suites"


def available(include: Iterable[Path] = ()) -> dict[str, Path]:
    """Names of all suite files, the bundled ones and those in the folders or files of `include`."""
    found: dict[str, Path] = {}
    for place in (bundled_folder(), *include):
        if not place.exists():
            raise EvaluationError(f"--include {place}: no such file or folder")
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for path in files:
            if path.suffix.lower() in _SUFFIXES:
                found[path.stem] = path
    return found


def read(path: Path, name: str | None = None) -> Suite:
    """A suite file or folder in any known format, named `name` or as its file is.

    Raises:
        EvaluationError: no format fits, or the one that does is broken.
    """
    suite = formats.read(path, name)
    check(suite, str(path))
    return suite


def find(spec: str, include: Iterable[Path] = ()) -> Suite:
    """A suite by name, by path, or as `FORMAT:PATH,option=value` (`adhere eval ls formats`).

    Raises:
        EvaluationError: there is none, or it is wrong.
    """
    include = list(include)
    kind, colon, rest = spec.partition(":")
    if colon and kind in formats.FORMATS:
        suite = formats.read_as(kind, rest)
        check(suite, spec)
        return suite
    table = available(include)
    if spec in table:
        return read(table[spec])
    path = at_home(places.here(spec, "suites"))
    if path.exists() and (path.suffix or "/" in spec or path.is_dir()):
        return read(path)
    if spec in formats.FORMATS:
        return _published(spec, include)
    raise EvaluationError(
        f"no suite is called {spec!r}; there are: {', '.join(sorted(table)) or 'none'}; "
        f"or give a file or folder, or {', '.join(f'{name}:PATH' for name in formats.FORMATS)}"
    )


def _published(kind: str, include: Iterable[Path]) -> Suite:
    """The one file among those included that is in the format of this name."""
    fits = [path for place in include for path in _within(place) if formats.fits(kind, path)]
    if len(fits) != 1:
        known = f"{len(fits)} files of --include are" if fits else "no file of --include is"
        raise EvaluationError(
            f"suite {kind!r} is read from its published files and {known} in that format; give "
            f"{kind}:PATH ({formats.FORMATS[kind].about})"
        )
    suite = formats.read_as(kind, str(fits[0]))
    check(suite, str(fits[0]))
    return suite


def _within(place: Path) -> list[Path]:
    return [place] if place.is_file() else [place, *sorted(place.iterdir())]
