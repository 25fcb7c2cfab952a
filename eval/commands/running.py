"""The commands that make and score pictures: plan, generate, score, report, and run for all."""

from __future__ import annotations

from typing import Annotated

import typer

from adhere.eval.commands.options import (
    Address,
    Baseline,
    Batch,
    Config,
    Controls,
    Device,
    Dtype,
    Engine,
    Include,
    Keep,
    Limit,
    Metrics,
    Model,
    Out,
    Pairs,
    Parquet,
    Plugins,
    Primary,
    Retries,
    RetryFailed,
    Scale,
    Seeds,
    ShardCount,
    ShardOption,
    Steps,
    Suites,
    Workers,
    told,
)


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
    primary: Primary = None,
    controls: Controls = None,
    metric: Metrics = None,
    include: Include = None,
) -> None:
    """Write the manifest: every picture of suites x variants x seeds."""
    with told():
        from adhere.eval.commands import steps as work

        experiment = work.experiment(
            config, suite=suite, plugin=plugin, seeds=seeds, model=model, steps=steps,
            guidance_scale=guidance_scale, dtype=dtype, limit=limit, batch=batch, primary=primary,
            metric=metric, controls=controls,
        )  # fmt: skip
        work.plan(experiment, out, include)


def grow(
    out: Out,
    suite: Suites = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    controls: Controls = None,
    metric: Metrics = None,
    include: Include = None,
) -> None:
    """Add seeds, variants, prompts or scores to a run; what is there stays, nothing is made twice.

    Then generate, score and report as before.
    """
    with told():
        from adhere.eval.commands import steps as work

        work.grow(out, suite or (), plugin or (), seeds, controls, metric, include)


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
    """Make a run of pictures that somebody else made; then score and report it as any."""
    with told():
        from adhere.eval.commands import steps as work

        work.import_pictures(out, pictures, suite, include)


def generate(
    out: Out,
    shard: ShardOption = None,
    shards: ShardCount = None,
    batch: Batch = None,
    device: Device = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    retries: Retries = 2,
    retry_failed: RetryFailed = False,
) -> None:
    """Make the pictures that are not made yet; safe to kill and to start again."""
    with told():
        from adhere.eval.commands import steps as work

        making = work.Making(batch, device, engine, workers, address, retries, retry_failed)
        work.generate(out, work.shard(out, shard, shards), making)


def score(
    out: Out,
    metric: Metrics = None,
    shard: ShardOption = None,
    shards: ShardCount = None,
    device: Device = None,
) -> None:
    """Score the pictures that are there; features are kept, so scores can be had again without."""
    with told():
        from adhere.eval.commands import steps as work

        summary = work.score(out, metric, work.shard(out, shard, shards), device)
    raise typer.Exit(1 if summary.left_out else 0)


def report(
    out: Out,
    metric: Metrics = None,
    pairs: Pairs = 200,
    keep: Keep = None,
    baseline: Baseline = None,
    parquet: Parquet = False,
) -> None:
    """Write report.md, .csv, .json and .html: means, intervals, paired differences, pictures."""
    with told():
        from adhere.eval.commands import steps as work

        work.report(out, metric, pairs, keep, baseline, parquet)


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
    primary: Primary = None,
    controls: Controls = None,
    metric: Metrics = None,
    include: Include = None,
    shard: ShardOption = None,
    shards: ShardCount = None,
    device: Device = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    retries: Retries = 2,
    retry_failed: RetryFailed = False,
    pairs: Pairs = 200,
    keep: Keep = None,
    baseline: Baseline = None,
) -> None:
    """Plan, generate, score and report in one go; given again, it goes on where it stopped.

    Of several shards each makes its part; then whoever finds all pictures made scores what nobody
    else is at, and the last one reports.
    """
    with told():
        from adhere.eval.commands import steps as work

        experiment = work.experiment(
            config, suite=suite, plugin=plugin, seeds=seeds, model=model, steps=steps,
            guidance_scale=guidance_scale, dtype=dtype, limit=limit, batch=batch, primary=primary,
            metric=metric, controls=controls,
        )  # fmt: skip
        folder = work.plan(experiment, out, include)
        mine = work.shard(out, shard, shards)
        making = work.Making(batch, device, engine, workers, address, retries, retry_failed)
        made = work.generate(out, mine, making)
        known = folder.ledger()
        if not folder.settled(known):
            typer.echo("other shards are still at work; the last one scores and reports")
            raise typer.Exit(1 if made.failed else 0)
        summary = work.score(out, metric, mine, device, known)
        if summary.busy:
            typer.echo("other shards are still scoring; the last one reports")
        else:
            work.report(out, metric, pairs, keep, baseline)
    raise typer.Exit(1 if made.failed or summary.left_out else 0)
