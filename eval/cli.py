"""`adhere eval`: plan, generate, score, report; run does all four; ls and validate look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from adhere.errors import GuidanceError

eval_app = typer.Typer(
    no_args_is_help=True,
    help="Make pictures of prompts x plugins x seeds, score them, and report paired differences.",
)

Out = Annotated[Path, typer.Argument(help="output folder of the run")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML experiment")]
Include = Annotated[
    list[Path] | None, typer.Option("--include", help="more suites: a file or folder; repeatable")
]
Suites = Annotated[
    list[str] | None, typer.Option("--suite", "-s", help="suite name or file; repeatable")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", "-p", help="a plugin or a stack a+b, each a variant; repeatable"),
]
Seeds = Annotated[str | None, typer.Option(help="4 is 0 to 3; also 2-5 or 0,5,9")]
Model = Annotated[str | None, typer.Option(help="toybox, a hub id or a folder")]
Steps = Annotated[int | None, typer.Option(min=1, help="denoising steps")]
Scale = Annotated[float | None, typer.Option(help="classifier-free guidance scale")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="first N prompts of each suite: a smoke run")
]
ShardOption = Annotated[
    str | None, typer.Option("--shard", help="i/n, from 1/n; else torchrun's or SLURM's variables")
]
Batch = Annotated[int | None, typer.Option(min=1, help="pictures made together")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1...")]
Engine = Annotated[str, typer.Option(help="local, or ray for many GPUs and machines")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="ray: workers; one for each GPU if left out")
]
Address = Annotated[str | None, typer.Option(help="ray: address of a running cluster, or auto")]
Retries = Annotated[int, typer.Option(min=0, help="new tries for a picture that failed")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="also what failed for good")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="evaluator, name:key=value,...; repeatable"),
]
Pairs = Annotated[int, typer.Option(min=0, help="before/after pairs on the page, at the most")]
Keep = Annotated[Path | None, typer.Option(help="also write the results JSON here")]


@contextmanager
def _told() -> Iterator[None]:
    """Errors made on purpose are one red line, not a traceback."""
    try:
        yield
    except GuidanceError as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(2)


def _experiment(config: Path | None, **flags: Any) -> Any:
    from adhere.eval.run import experiment

    flags["suites"] = flags.pop("suite") or None
    flags["variants"] = flags.pop("plugin") or None
    flags["evaluators"] = flags.pop("metric", None) or None
    return experiment.read(config, flags)


def _plan(experiment: Any, out: Path, include: list[Path] | None) -> Any:
    from adhere.eval import files
    from adhere.eval.evaluators import table as evaluators
    from adhere.eval.run import manifest, models
    from adhere.eval.run.folder import Folder

    recipes = [evaluators.evaluator(spec) for spec in experiment.evaluators]
    plan = manifest.plan(experiment, models.fingerprint(experiment.model), include or ())
    folder = Folder(out)
    new = folder.plan(plan)
    chosen = {"batch": experiment.batch, "evaluators": [evaluators.to_json(r) for r in recipes]}
    if new or not (out / "defaults.json").is_file():
        files.write_atomic(out / "defaults.json", files.canonical(chosen).encode())
    state = "planned" if new else "already planned, the same"
    typer.echo(
        f"{state}: {plan.header['entries']} pictures to count, {plan.header['jobs']} to make, "
        f"in {out}"
    )
    return folder


def _defaults(out: Path) -> dict[str, Any]:
    import json

    try:
        found: dict[str, Any] = json.loads((out / "defaults.json").read_text("utf-8"))
        return found
    except (OSError, ValueError):
        return {"batch": 4, "evaluators": ["judge", "clip-score", "cost"]}


def _recipes(out: Path, metric: list[str] | None) -> list[Any]:
    from adhere.eval.evaluators import table as evaluators

    return [evaluators.evaluator(spec) for spec in metric or _defaults(out)["evaluators"]]


def _shard(text: str | None) -> Any:
    from adhere.eval.run import shards

    return shards.Shard.parse(text) if text else shards.from_environment()


@eval_app.command()
def plan(
    out: Out,
    config: Config = None,
    suite: Suites = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    model: Model = None,
    steps: Steps = None,
    guidance_scale: Scale = None,
    dtype: Dtype = None,
    limit: Limit = None,
    batch: Batch = None,
    metric: Metrics = None,
    include: Include = None,
) -> None:
    """Write the manifest: every picture of suites x variants x seeds."""
    with _told():
        experiment = _experiment(
            config, suite=suite, plugin=plugin, seeds=seeds, model=model, steps=steps,
            guidance_scale=guidance_scale, dtype=dtype, limit=limit, batch=batch, metric=metric,
        )  # fmt: skip
        _plan(experiment, out, include)


@eval_app.command()
def generate(
    out: Out,
    shard: ShardOption = None,
    batch: Batch = None,
    device: Device = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    retries: Retries = 2,
    retry_failed: RetryFailed = False,
) -> None:
    """Make the pictures that are not made yet; safe to kill and to start again."""
    with _told():
        _generate(out, shard, batch, device, engine, workers, address, retries, retry_failed)


def _generate(
    out: Path,
    shard: str | None,
    batch: int | None,
    device: str | None,
    engine: str,
    workers: int | None,
    address: str | None,
    retries: int,
    retry_failed: bool,
) -> int:
    from adhere.eval.progress import progress
    from adhere.eval.run import generate as local
    from adhere.eval.run import ray_engine, shards
    from adhere.eval.run.folder import Folder

    if engine not in ("local", "ray"):
        _stop(f"engine {engine!r}; use local or ray")
    folder = Folder(out)
    options = local.Options(
        batch=batch or int(_defaults(out)["batch"]),
        device=device or shards.local_device(),
        retries=retries,
        retry_failed=retry_failed,
    )
    mine = shards.Shard() if engine == "ray" else _shard(shard)
    work = mine.of(local.batches(folder.manifest.jobs, options.batch))
    left, _ = local.pending(folder, work, retry_failed)
    with progress(f"generate {mine}", sum(len(wanted) for _, wanted in left)) as told:
        if engine == "ray":
            pool = ray_engine.Pool(workers=workers, address=address)
            summary = ray_engine.generate(folder, pool, options, on_done=told)
        else:
            summary = local.generate(folder, mine, options, on_done=told)
    typer.echo(
        f"made {summary.made} in {summary.seconds:.1f} s, {summary.skipped} were there, "
        f"{len(summary.failed)} failed"
    )
    for job, error in list(summary.failed.items())[:10]:
        typer.secho(f"failed {job}: {error}", fg="yellow", err=True)
    return len(summary.failed)


@eval_app.command()
def score(
    out: Out, metric: Metrics = None, shard: ShardOption = None, device: Device = None
) -> None:
    """Score the pictures that are there; features are kept, so scores can be had again without."""
    with _told():
        left_out = _score(out, metric, shard, device)
    raise typer.Exit(1 if left_out else 0)


def _score(
    out: Path, metric: list[str] | None, shard: str | None, device: str | None
) -> dict[str, str]:
    from adhere.eval.progress import progress
    from adhere.eval.run import scoring, shards
    from adhere.eval.run.folder import Folder

    folder, mine = Folder(out), _shard(shard)
    recipes = _recipes(out, metric)
    total = sum(len(jobs) for _, jobs in mine.of(scoring.chunks(list(folder.manifest.jobs))))
    where = device or shards.local_device() or "cpu"
    with progress(f"score {mine}", total) as told:
        summary = scoring.score(folder, recipes, mine, where, told)
    typer.echo(
        f"scored {summary.scored} in {summary.seconds:.1f} s, {summary.skipped} were scored, "
        f"{len(summary.bad)} pictures missing or damaged, {summary.errors} scores failed"
    )
    for name, why in summary.left_out.items():
        typer.secho(f"left out {name}: {why}", fg="yellow", err=True)
    return summary.left_out


@eval_app.command()
def report(out: Out, metric: Metrics = None, pairs: Pairs = 200, keep: Keep = None) -> None:
    """Write report.md, .csv, .json and .html: means, intervals, paired differences, pictures."""
    with _told():
        _report(out, metric, pairs, keep)


def _report(out: Path, metric: list[str] | None, pairs: int, keep: Path | None) -> None:
    from adhere.eval.report import report as reports
    from adhere.eval.run import scoring
    from adhere.eval.run.folder import Folder

    folder = Folder(out)
    left_out = scoring.left_out(folder)
    results = reports.report(folder, _recipes(out, metric), left_out, pairs=pairs)
    if keep is not None:
        reports.keep(results, keep)
    for warning in results.warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    typer.echo(f"{out / 'report.html'}: {len(results.scores)} scores")


@eval_app.command()
def run(
    out: Out,
    config: Config = None,
    suite: Suites = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    model: Model = None,
    steps: Steps = None,
    guidance_scale: Scale = None,
    dtype: Dtype = None,
    limit: Limit = None,
    batch: Batch = None,
    metric: Metrics = None,
    include: Include = None,
    shard: ShardOption = None,
    device: Device = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    retries: Retries = 2,
    retry_failed: RetryFailed = False,
    pairs: Pairs = 200,
    keep: Keep = None,
) -> None:
    """Plan, generate, score and report in one go; given again, it goes on where it stopped."""
    with _told():
        experiment = _experiment(
            config, suite=suite, plugin=plugin, seeds=seeds, model=model, steps=steps,
            guidance_scale=guidance_scale, dtype=dtype, limit=limit, batch=batch, metric=metric,
        )  # fmt: skip
        folder = _plan(experiment, out, include)
        failed = _generate(
            out, shard, batch, device, engine, workers, address, retries, retry_failed
        )
        if len(folder.records()) < len(folder.manifest.jobs):
            typer.echo("other shards are still at work; the last one scores and reports")
            raise typer.Exit(1 if failed else 0)
        # All pictures are there, so whoever comes last scores them all: its own part would not do.
        left_out = _score(out, metric, "1/1", device)
        _report(out, metric, pairs, keep)
    raise typer.Exit(1 if failed or left_out else 0)


@eval_app.command("ls")
def list_all(
    what: Annotated[str, typer.Argument(help="suites, evaluators, plugins or all")] = "all",
    include: Include = None,
) -> None:
    """What there is: suites, evaluators, plugins."""
    makers = {"suites": _suites, "evaluators": _evaluators, "plugins": _plugins}
    if what not in (*makers, "all"):
        _stop(f"{what!r}; use {', '.join(makers)} or all")
    with _told():
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


@eval_app.command()
def validate(
    path: Annotated[Path, typer.Argument(help="a suite file, a manifest, or an output folder")],
) -> None:
    """Check a suite, a manifest or a run; exit code 1 when something is wrong with the run."""
    from adhere.eval.run import manifest
    from adhere.eval.run.folder import Folder
    from adhere.eval.suites import suites

    with _told():
        if path.is_dir():
            raise typer.Exit(_print_all(Folder(path).problems, path))
        if path.name.endswith(".jsonl"):
            found = manifest.from_text(path.read_text("utf-8"), str(path))
            typer.echo(f"{path}: {len(found.entries)} entries, {len(found.jobs)} jobs, whole")
        elif path.is_file():
            suite = suites.read(path)
            typer.echo(f"{path}: suite {suite.name} {suite.version}, {len(suite.items)} prompts")
        else:
            _stop(f"{path}: no such file or folder")


def _print_all(problems: Callable[[], Iterator[str]], path: Path) -> int:
    count = 0
    for count, problem in enumerate(problems(), 1):
        if count <= 50:
            typer.echo(problem)
    typer.echo(f"{path}: {count} problems" if count else f"{path}: whole")
    return 1 if count else 0
