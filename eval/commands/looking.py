"""The commands that only look: ls and validate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from adhere.errors import GuidanceError
from adhere.eval.commands.options import Include, Metrics, spoken, stop

_SHOWN = 50


def list_all(
    what: Annotated[
        str, typer.Argument(help="suites, formats, evaluators, plugins or all")
    ] = "all",
    include: Include = None,
    formats: Annotated[bool, typer.Option("--formats", help="only the formats of suites")] = False,
) -> None:
    """What there is: suites, formats that suites are read in, evaluators, plugins.

    adhere eval ls

    adhere eval ls evaluators
    """
    makers = {
        "suites": _suites, "formats": _formats, "evaluators": _evaluators, "plugins": _plugins,
    }  # fmt: skip
    what = "formats" if formats else what
    if what not in (*makers, "all"):
        stop(f"{what!r}; use {', '.join(makers)} or all")
    with spoken():
        for name, lines in makers.items():
            if what in (name, "all"):
                typer.secho(name, bold=True)
                for line in lines(include or []):
                    typer.echo(f"  {line}")


def _suites(include: list[Path]) -> Iterator[str]:
    from adhere.eval.suites import suites

    for name, path in sorted(suites.available(include).items()):
        try:
            suite = suites.read(path)
        except GuidanceError as error:
            yield f"{name:28s} cannot be used: {error}"
            continue
        yield f"{name:28s} {suite.version:8s} {len(suite.items):5d} prompts  {suite.description}"


def _formats(include: list[Path]) -> Iterator[str]:
    from adhere.eval.suites.formats import table

    for name, form in table.FORMATS.items():
        yield f"{name:28s} {form.about}"


def _evaluators(include: list[Path]) -> Iterator[str]:
    from adhere.eval.evaluators import table as evaluators
    from adhere.guides import parameters

    for name, kind in evaluators.available().items():
        yield f"{name:20s} {_first_line(kind)}"
        for parameter in parameters.parameters(kind):
            yield f"{'':20s}   {parameter.name}={parameter.default!r}: {parameter.help}"


def _plugins(include: list[Path]) -> Iterator[str]:
    from adhere import plugins

    for name, kind in sorted(plugins.available().items()):
        yield f"{name:28s} {_first_line(kind)}"


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n")[0]


def validate(
    path: Annotated[
        str, typer.Argument(help="a suite (file, folder or FORMAT:PATH), a manifest, or a run")
    ],
) -> None:
    """Check a suite, a manifest or a run; exit code 1 when something is wrong with the run.

    adhere eval validate mine.json

    adhere eval validate out/pairs
    """
    from adhere.eval import places
    from adhere.eval.run import manifest_file
    from adhere.eval.run.folder import Folder
    from adhere.eval.suites import suites

    with spoken():
        if places.at(path).sizes(["manifest.jsonl"])[0]:
            raise typer.Exit(_print_all(Folder(path).problems, path))
        place = places.local(path)
        if place is None:
            stop(f"{path} holds no run: there is no manifest.jsonl")
        if _is_manifest(place):
            found = manifest_file.manifest(places.at(place.parent), [place.name])
            typer.echo(f"{path}: {found.count} entries, {found.job_count} jobs, whole")
            return
        if not place.exists() and ":" not in path and path not in suites.available():
            stop(f"{path}: no such file or folder")
        suite = suites.find(path) if not place.exists() else suites.read(place)
        tags = {tag for item in suite.items for tag in item.tags}
        told_tags = f", {len(tags)} categories" if tags else ""
        about = f"; {suite.description}" if suite.description else ""
        typer.echo(
            f"{path}: suite {suite.name} {suite.version}, {len(suite.items)} prompts"
            f"{told_tags}{about}"
        )


def compare(
    before: Annotated[str, typer.Argument(help="a run that was scored")],
    after: Annotated[str, typer.Argument(help="another, or the same")],
    variant: Annotated[str, typer.Option(help="variant of the second run")] = "plain",
    against: Annotated[str, typer.Option(help="variant of the first run")] = "plain",
    metric: Metrics = None,
) -> None:
    """Paired differences between two runs, on the prompts and seeds that both have.

    adhere eval compare out/pairs out/later

    adhere eval compare out/pairs out/pairs --variant syngen --against plain
    """
    with spoken():
        from adhere.eval.commands import steps as work

        work.compare(before, after, metric, variant, against)


def check(
    name: Annotated[str, typer.Argument(help="an experiment with published figures, or its file")],
    out: Annotated[str, typer.Argument(help="a run of it that was reported")],
) -> None:
    """Published figures beside ours; exit code 1 where one that can be compared differs.

    adhere eval check published-toybox out/published
    """
    with spoken():
        from adhere.eval.commands import checking
        from adhere.eval.report import tables
        from adhere.eval.run.folder import Folder

        there = checking.published(name)
        try:
            text = Folder(out).place.read("report.json")
        except OSError:
            stop(f"{out} has no report yet: `adhere eval run {out} -c {name}` makes one")
        results = tables.parsed(text, f"{out}/report.json")
        lines = checking.check(there, results)
        typer.echo(f"{there.source}; {there.model}")
        for line in checking.table(lines):
            typer.echo(line)
    raise typer.Exit(1 if any(line.said == "differs" for line in lines) else 0)


def leaderboard(
    results: Annotated[list[str], typer.Argument(help="files that `report --keep` wrote")],
    score: Annotated[str | None, typer.Option(help="ranked by; their primary if left out")] = None,
) -> None:
    """A page of Markdown: of every suite and model all variants, the best first.

    adhere eval leaderboard one.json two.json --score fully_right
    """
    with spoken():
        from adhere.eval.report import tables

        for line in tables.leaderboard([tables.read(path) for path in results], score):
            typer.echo(line)


def _is_manifest(path: Path) -> bool:
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open("rb") as stream:
        return b'"adhere_manifest"' in stream.readline()


def _print_all(problems: Callable[[], Iterator[str]], path: str) -> int:
    count = 0
    for count, problem in enumerate(problems(), 1):
        if count <= _SHOWN:
            typer.echo(problem)
    if count > _SHOWN:
        typer.echo(f"and {count - _SHOWN} more")
    typer.echo(f"{path}: {count} problems" if count else f"{path}: whole")
    return 1 if count else 0
