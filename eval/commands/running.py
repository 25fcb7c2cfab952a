"""The commands that make and score pictures: plan, generate, score, report, and run for all."""

from __future__ import annotations

from typing import Annotated

import typer

from adhere.eval.commands.options import (
    Asked,
    Batch,
    Config,
    Controls,
    Device,
    Include,
    Making,
    Metrics,
    Out,
    Part,
    Plugins,
    ReportOptions,
    Seeds,
    Suites,
    options,
    spoken,
)


@options
def plan(out: Out, asked: Asked, batch: Batch = None, metric: Metrics = None) -> None:
    """Write the manifest: every picture of suites x variants x seeds.

    adhere eval plan out/pairs -s toybox-pairs -p syngen --seeds 4

    adhere eval plan out/mine -c mine.yaml
    """
    with spoken():
        from adhere.eval.commands import steps

        steps.plan(steps.experiment(asked, batch, metric), out, asked.include)


def grow(
    out: Out,
    config: Config = None,
    suite: Suites = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    controls: Controls = None,
    metric: Metrics = None,
    include: Include = None,
) -> None:
    """Add seeds, variants, prompts or scores to a run; what is there stays, nothing is made twice.

    With `-c` that is what an edited experiment has and the run lacks. Then generate, score and
    report as before.

        adhere eval grow out/pairs --seeds 8 -p initno

        adhere eval grow out/mine -c mine.yaml
    """
    with spoken():
        from adhere.eval.commands import steps

        steps.grow(out, config, suite or (), plugin or (), seeds, controls, metric, include)


def import_pictures(
    out: Out,
    pictures: Annotated[
        list[str], typer.Argument(help="FOLDER, or VARIANT=FOLDER; the first is the baseline")
    ],
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", help="the suite that they are pictures of")
    ] = None,
    include: Include = None,
) -> None:
    """Make a run of pictures that somebody else made; then score and report it as any.

    adhere eval import out/theirs plain=FOLDER ours=FOLDER2 -s geneval:FILE
    """
    with spoken():
        from adhere.eval.commands import steps

        steps.import_pictures(out, pictures, suite, include)


@options
def generate(
    out: Out, part: Part, making: Making, batch: Batch = None, device: Device = None
) -> None:
    """Make the pictures that are not made yet; safe to kill and to start again.

    The second of four parts, which may run at the same time:

        adhere eval generate out/pairs --shard 2/4
    """
    with spoken():
        from adhere.eval.commands import steps

        made = steps.generate(out, steps.shard(out, part), making, batch, device)
    raise typer.Exit(1 if made.failed else 0)


@options
def score(out: Out, part: Part, metric: Metrics = None, device: Device = None) -> None:
    """Score the pictures that are there; features are kept, so scores can be had again without.

    adhere eval score out/pairs

    adhere eval score out/pairs -m judge -m clip-score
    """
    with spoken():
        from adhere.eval.commands import steps

        summary = steps.score(out, metric, steps.shard(out, part), device)
    raise typer.Exit(1 if summary.left_out or summary.damaged else 0)


@options
def report(out: Out, shown: ReportOptions, metric: Metrics = None) -> None:
    """Write report.md, .csv, .json and .html: means, intervals, paired differences, pictures.

    adhere eval report out/pairs

    adhere eval report out/pairs --baseline syngen --keep mine.json
    """
    with spoken():
        from adhere.eval.commands import steps

        steps.report(out, metric, shown)


def export(
    out: Out,
    to: Annotated[str, typer.Argument(help="a new folder, or s3://bucket/folder")],
    metric: Metrics = None,
) -> None:
    """Write the pictures and their scores as a data set in the hub's form.

    adhere eval export out/pairs data
    """
    with spoken():
        from adhere.eval.commands import steps

        steps.export(out, to, metric)


@options
def run(
    out: Out,
    asked: Asked,
    part: Part,
    making: Making,
    shown: ReportOptions,
    batch: Batch = None,
    metric: Metrics = None,
    device: Device = None,
) -> None:
    """Plan, generate, score and report in one go; given again, it goes on where it stopped.

    Of several shards each makes its part; then whoever finds all pictures made scores what nobody
    else is at, and the last one reports.

        adhere eval run out/pairs -s toybox-pairs -p syngen -p attend-and-excite+syngen --seeds 4

        adhere eval run out/mine -c mine.yaml
    """
    with spoken():
        from adhere.eval.commands import steps
        from adhere.eval.report import gathering

        steps.check(part, making, shown)
        planned = steps.plan(steps.experiment(asked, batch, metric), out, asked.include)
        if shown.baseline:
            gathering.check_baseline(shown.baseline, planned.manifest)
        mine = steps.shard(out, part)
        made = steps.generate(out, mine, making, batch, device)
        known = planned.ledger()
        if not planned.settled(known):
            typer.echo("other shards are still at work; the last one scores and reports")
            raise typer.Exit(1 if made.failed else 0)
        summary = steps.score(out, metric, mine, device, known)
        if summary.busy:
            typer.echo("other shards are still scoring; the last one reports")
        else:
            steps.report(out, metric, shown)
    raise typer.Exit(1 if made.failed or summary.left_out or summary.damaged else 0)
