"""The four steps behind the commands: plan, generate, score, report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from adhere.errors import GuidanceError
from adhere.eval import files, places
from adhere.eval.commands import trackers
from adhere.eval.commands.options import Asked, Making, Part, ReportOptions, stop, warn
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Evaluator
from adhere.eval.progress import progress
from adhere.eval.report import comparing, gathering
from adhere.eval.report import report as reports
from adhere.eval.report.listing import hub_dataset, pictures
from adhere.eval.run import experiment as experiments
from adhere.eval.run import generate as local
from adhere.eval.run import growing, imported, manifest, models, ray_engine, shards
from adhere.eval.run.experiment import BASELINE, DEFAULT_EVALUATORS, Experiment
from adhere.eval.run.folder import Folder
from adhere.eval.run.ledger import DONE, Ledger
from adhere.eval.run.shards import Shard
from adhere.eval.scores import scoring, stored
from adhere.eval.suites import suites

_SHOWN = 10
# Of what is asked, what is no field of an experiment.
_NO_FIELDS = ("config", "include")


def experiment(asked: Asked, batch: int | None, metric: Sequence[str] | None) -> Experiment:
    """The experiment of a file, with what flags override."""
    flags = {name: value for name, value in vars(asked).items() if name not in _NO_FIELDS}
    flags["suites"], flags["variants"] = flags.pop("suite") or None, flags.pop("plugin") or None
    return experiments.read(asked.config, {**flags, "batch": batch, "evaluators": metric or None})


def check(part: Part, making: Making, shown: ReportOptions) -> None:
    """Refuse, before anything is written, what one of the four steps would come upon later."""
    if part.shard:
        Shard.parse(part.shard)
    _check_engine(making.engine)
    if shown.log:
        trackers.tracker(shown.log)
    if shown.keep:
        places.file(shown.keep)


def _check_engine(name: str) -> None:
    if name not in ("local", "ray"):
        stop(f"engine {name!r}; use local or ray")


def plan(asked: Experiment, out: str, include: Sequence[Path] | None) -> Folder:
    """Write the manifest, or find the same one there."""
    recipes = [evaluators.evaluator(spec) for spec in asked.evaluators]
    known = evaluators.columns(recipes)
    if asked.primary is not None and asked.primary not in known:
        raise EvaluationError(
            f"primary: no evaluator of the experiment gives {asked.primary!r}; they give "
            f"{', '.join(known)}"
        )
    made = manifest.plan(asked, models.fingerprint(asked.model), include or ())
    folder = Folder(out)
    new = folder.plan(made)
    state = "planned" if new else "already planned, the same"
    typer.echo(f"{state}: {made.count} pictures to count, {made.job_count} to make, in {out}")
    chosen = {"batch": asked.batch, "evaluators": [evaluators.to_json(r) for r in recipes]}
    if not new and folder.place.sizes(["defaults.json"])[0]:
        chosen = _chosen_anew(out, chosen)
    if chosen:
        folder.place.write("defaults.json", files.canonical(chosen).encode())
    return folder


def _chosen_anew(out: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Batch size and evaluators of a run that is planned already, with what is asked for now; empty
    where nothing changes. They are no part of a plan, so nobody refuses others: that they are taken
    is said, and that they are not, where the defaults may just have been left out.
    """
    try:
        there = defaults(out)
        there["evaluators"] = [*map(evaluators.to_json, recipes(out, there["evaluators"]))]
    except GuidanceError:  # whoever needs them says so
        return {}
    unsaid = Experiment(suites=("none",))
    left_out = {
        "batch": unsaid.batch,
        "evaluators": [evaluators.to_json(evaluators.evaluator(one)) for one in unsaid.evaluators],
    }
    taken = dict(there)
    for key, now in asked.items():
        if now == there[key]:
            continue
        then = _listed(there[key])
        if now == left_out[key]:
            typer.echo(f"{key}: {then}, as it was planned")
        else:
            taken[key] = now
            typer.echo(f"{key}: {_listed(now)} from now on, and {then} before")
    return {} if taken == there else taken


def _listed(value: Any) -> str:
    return ", ".join(map(_spec, value)) if isinstance(value, list) else str(value)


def _spec(data: Mapping[str, Any]) -> str:
    """An evaluator as it would be asked for, `name:key=value,...`."""
    recipe: Any = evaluators.evaluator(data)
    own = {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.init}
    usual = {field.name: field.default for field in fields(recipe)}
    told = ",".join(f"{key}={value}" for key, value in own.items() if value != usual[key])
    return f"{recipe.name}:{told}" if told else str(recipe.name)


def grow(
    out: str, config: str | None, suite: Sequence[str], plugin: Sequence[str], seeds: str | None,
    controls: str | None, metric: Sequence[str] | None, include: Sequence[Path] | None,
) -> None:  # fmt: skip
    """Add seeds, variants, prompts or scores to a run, those of an experiment or one by one."""
    folder = Folder(out)
    experiment = experiments.read(config, {}) if config else None
    asked = growing.asked(folder, experiment, include or ()) if experiment else growing.More()
    variants = asked.variants + (experiments.variants_from(plugin) if plugin else ())
    variants += experiments.controls_from(controls) if controls else ()
    more = growing.More(
        asked.seeds + (experiments.seeds_from(seeds) if seeds else ()),
        tuple(one for one in variants if one.name != BASELINE),
        asked.suites + tuple(suites.find(name, include or ()) for name in suite),
    )
    part = growing.grow(folder, more)
    specs: list[str | Mapping[str, Any]] = [*(metric or ())]
    if experiment and experiment.evaluators != DEFAULT_EVALUATORS:
        specs = [*experiment.evaluators, *specs]
    if specs:
        chosen = defaults(out)
        added = [evaluators.to_json(evaluators.evaluator(one)) for one in specs]
        listed = [*map(evaluators.to_json, recipes(out, chosen["evaluators"])), *added]
        folder.place.write(
            "defaults.json",
            files.canonical({**chosen, "evaluators": _each_once(listed)}).encode(),
        )
    typer.echo(f"added {part.entries} pictures to count, {part.jobs} to make, to {out}")


def _each_once(listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({files.canonical(one): one for one in listed}.values())


def import_pictures(
    out: str, given: Sequence[str], suite: str | None, include: Sequence[Path] | None
) -> None:
    """A run of pictures that somebody else made, each folder a variant."""
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, place = text.partition("=")
        variant, folder = (name, place) if equals else (BASELINE, text)
        if variant in folders:
            raise EvaluationError(f"two folders are variant {variant!r}; name them: a=FOLDER")
        folders[variant] = places.here(folder, "pictures")
    known = suites.find(suite, include or ()) if suite else None
    name = out.rstrip("/").rpartition("/")[2] if "://" in out else Path(out).resolve().name
    made = imported.plan(out, folders, known, name)
    run = made.run
    failed = sum(row["status"] != DONE for row in run.ledger().records())
    typer.echo(f"{run.manifest.count} pictures in {out}, {failed} of them unreadable")
    if made.left_out:
        some = ", ".join(map(str, made.left_out[:_SHOWN]))
        rest = len(made.left_out) - _SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        warn(f"{len(made.left_out)} pictures are of no prompt and were left out: {some}{more}")


def defaults(out: str) -> dict[str, Any]:
    """Batch size and evaluators that the plan was made with.

    Raises:
        EvaluationError: the file is damaged; scoring by others than were planned is no way out.
    """
    try:
        found = json.loads(Folder(out).place.read("defaults.json"))
        batch, chosen = found["batch"], found["evaluators"]
        if type(batch) is not int or batch < 1 or not isinstance(chosen, list) or not chosen:
            raise TypeError(f"batch {batch!r}, evaluators {chosen!r}")
    except FileNotFoundError:
        return {"batch": 4, "evaluators": list(DEFAULT_EVALUATORS)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{out}/defaults.json, which says how the run is made and scored, does not read "
            f"({error!r}); give the plan again after removing it, or say --batch and --metric"
        ) from error
    return {"batch": batch, "evaluators": chosen}


def recipes(out: str, metric: Sequence[str] | None) -> list[Evaluator]:
    """The evaluators that are asked for, or those of the plan."""
    return [evaluators.evaluator(spec) for spec in metric or defaults(out)["evaluators"]]


def shard(out: str, asked: Part) -> Shard:
    """The part that is asked for, or the one that the launcher gave this process."""
    if asked.shard:
        return Shard.parse(asked.shard)
    found = shards.from_environment(shards=asked.shards, claims=Folder(out).place)
    tasks = shards.alone_of()
    if found.count == 1 and tasks:
        warn(
            f"SLURM gave this job {tasks} tasks, but this process was not started by srun: it "
            "does everything alone. Put srun before the command to use them"
        )
    return found


def generate(
    out: str, mine: Shard, making: Making, batch: int | None, device: str | None
) -> local.GenerateSummary:
    """Make this shard's pictures, or with Ray all of them."""
    _check_engine(making.engine)
    folder = Folder(out)
    options = local.Options(
        batch=batch or int(defaults(out)["batch"]),
        device=device or shards.local_device(),
        retries=making.retries,
        retry_failed=making.retry_failed,
    )
    if making.engine == "ray":
        pool = ray_engine.Pool(workers=making.workers, address=making.address)
        summary = ray_engine.generate(folder, pool, options, watch=progress)
    else:
        summary = local.generate(folder, mine, options, watch=progress)
    _tell_generated(summary)
    return summary


def _tell_generated(summary: local.GenerateSummary) -> None:
    idle = f", {len(summary.not_applicable)} not applicable" if summary.not_applicable else ""
    typer.echo(
        f"made {summary.made} in {summary.seconds:.1f} s, {summary.skipped} were there, "
        f"{len(summary.failed)} failed{idle}"
    )
    for job, error in list(summary.failed.items())[:_SHOWN]:
        warn(f"failed {job}: {error}")
    for job, error in list(summary.not_applicable.items())[:_SHOWN]:
        warn(f"not applicable {job}: {error}")


def score(
    out: str,
    metric: Sequence[str] | None,
    mine: Shard,
    device: str | None,
    known: Ledger | None = None,
) -> scoring.ScoreSummary:
    """Score this shard's pictures; where all are `known`, then also what nobody else is at."""
    where = device or shards.local_device() or "cpu"
    rest = known is not None
    summary = scoring.score(
        Folder(out), recipes(out, metric), mine, where, progress, rest=rest, known=known
    )
    typer.echo(
        f"scored {summary.scored} in {summary.seconds:.1f} s, {summary.skipped} were scored, "
        f"{len(summary.bad) - summary.not_applicable} pictures missing or damaged, "
        f"{summary.errors} scores failed"
    )
    for name, why in summary.left_out.items():
        warn(f"left out {name}: {why}")
    if summary.damaged:
        warn(
            f"{summary.damaged} pictures are missing or damaged and have no score: "
            f"`adhere eval validate {out}` lists them, `adhere eval generate {out}` makes those "
            "again that are missing"
        )
    return summary


def report(out: str, metric: Sequence[str] | None, wanted: ReportOptions) -> None:
    """Write the report's files; without a baseline it is `plain`, or the first variant there is."""
    folder = Folder(out)
    track = trackers.tracker(wanted.log) if wanted.log else None
    baseline = wanted.baseline or first_variant(folder)
    results = reports.report(
        folder, recipes(out, metric), stored.left_out(folder), pairs=wanted.pairs, baseline=baseline
    )
    if wanted.parquet:
        pictures.write_parquet(folder, results)
    if wanted.keep is not None:
        reports.keep(results, wanted.keep)
    for warning in results.warnings:
        warn(f"warning: {warning}")
    typer.echo(f"{out}/report.html: {len(results.scores)} scores")
    if track is not None:
        track(results, out)


def export(out: str, to: str, metric: Sequence[str] | None) -> None:
    """Write a run's pictures and scores in the form of the hub's data sets."""
    folder = Folder(out)
    results = gathering.gather(
        folder, recipes(out, metric), stored.left_out(folder), first_variant(folder)
    )
    written = hub_dataset.export(folder, results, to)
    rest = f"; {written.left_out} that are not made are left out" if written.left_out else ""
    typer.echo(f"{to}: {written.rows} pictures, {written.size / 2**20:.1f} MiB{rest}")


def compare(
    before: str, after: str, metric: Sequence[str] | None, variant: str, against: str
) -> None:
    """Print the paired differences of two runs."""
    one, two = (
        gathering.gather(Folder(place), recipes(place, metric), {}, first_variant(Folder(place)))
        for place in (before, after)
    )
    compared = comparing.compare(one, two, variant, against)
    for warning in compared.warnings:
        warn(f"note: {warning}")
    for line in compared.lines():
        typer.echo(line)


def first_variant(folder: Folder) -> str:
    """The baseline when none is named: `plain`, or the first variant there is."""
    variants = list(folder.manifest.requests.variants)
    return BASELINE if BASELINE in variants else variants[0]
