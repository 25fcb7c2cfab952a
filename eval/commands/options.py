"""Options that several commands share, and errors as one line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import typer

from adhere.errors import GuidanceError

_OR = "the experiment's, or {}, if left out"
_PIPELINES = _OR.format("the pipeline's own")

Out = Annotated[str, typer.Argument(help="output folder of the run, or s3://bucket/run")]
Config = Annotated[str | None, typer.Option("--config", "-c", help="YAML experiment")]
Include = Annotated[
    list[Path] | None, typer.Option("--include", help="more suites: a file or folder; repeatable")
]
Suites = Annotated[
    list[str] | None,
    typer.Option("--suite", "-s", help="suite name, file or FORMAT:PATH; repeatable"),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", "-p", help="a plugin or a stack a+b, each a variant; repeatable"),
]
Seeds = Annotated[
    str | None, typer.Option(help="4 is 0 to 3; also 2-5 or 0,5,9; " + _OR.format("0"))
]
Model = Annotated[
    str | None, typer.Option(help="toybox, a hub id or a folder; " + _OR.format("toybox"))
]
Steps = Annotated[int | None, typer.Option(min=1, help="denoising steps; " + _PIPELINES)]
Scale = Annotated[float | None, typer.Option(help="classifier-free guidance scale; " + _PIPELINES)]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, float16 or bfloat16; " + _OR.format("half precision on CUDA")),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="first N prompts of each suite: a smoke run; " + _OR.format("all")),
]
Primary = Annotated[
    str | None,
    typer.Option(
        help="the score that decides, named before any picture is made; " + _OR.format("none")
    ),
]
Controls = Annotated[
    str | None,
    typer.Option(
        help="scales=3|7.5|12,best_of=4: plain at other scales, best of N noises; "
        + _OR.format("none")
    ),
]
ShardOption = Annotated[
    str | None, typer.Option("--shard", help="i/n, from 1/n; else what the launcher says")
]
ShardCount = Annotated[
    int | None,
    typer.Option(
        "--shards",
        min=1,
        help="how many, where a launcher (PBS, Kubernetes) is silent; 1 if left out",
    ),
]
Batch = Annotated[
    int | None, typer.Option(min=1, help="pictures made together; the plan's, or 4, if left out")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1...; the best there is if left out")
]
Engine = Annotated[str, typer.Option(help="local, or ray for many GPUs and machines")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="ray: workers; one for each GPU if left out")
]
Address = Annotated[
    str | None,
    typer.Option(help="ray: address of a running cluster, or auto; one of its own if left out"),
]
Retries = Annotated[int, typer.Option(min=0, help="new tries for a picture that failed")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="also what failed for good")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="evaluator, name:key=value,...; repeatable"),
]
Pairs = Annotated[int, typer.Option(min=0, help="pairs whose pictures are inside the page")]
Keep = Annotated[str | None, typer.Option(help="also write the results JSON here")]
Log = Annotated[str | None, typer.Option("--log", help="figures to wandb, mlflow, tensorboard too")]
Parquet = Annotated[bool, typer.Option("--parquet", help="also pictures.parquet")]
Baseline = Annotated[
    str | None,
    typer.Option(help="the variant that the others are compared with; plain if left out"),
]


@dataclass(frozen=True)
class Asked:
    """What is to be made, beside or instead of what a file says."""

    config: Config = None
    suite: Suites = None
    plugin: Plugins = None
    seeds: Seeds = None
    model: Model = None
    steps: Steps = None
    guidance_scale: Scale = None
    dtype: Dtype = None
    limit: Limit = None
    primary: Primary = None
    controls: Controls = None
    include: Include = None


@dataclass(frozen=True)
class Part:
    """Which part of the work a process does."""

    shard: ShardOption = None
    shards: ShardCount = None


@dataclass(frozen=True)
class Making:
    """How pictures are made; nothing here changes them."""

    engine: Engine = "local"
    workers: Workers = None
    address: Address = None
    retries: Retries = 2
    retry_failed: RetryFailed = False


@dataclass(frozen=True)
class ReportOptions:
    """What is reported."""

    pairs: Pairs = 200
    keep: Keep = None
    baseline: Baseline = None
    parquet: Parquet = False
    log: Log = None


def options(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters may be whole groups of options: dataclasses of this module.

    To Typer every field of a group is an option of its own.
    """
    hints = get_type_hints(function, include_extras=True)
    shown: dict[str, inspect.Parameter] = {}
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if not is_dataclass(hints[name]):
            shown[name] = parameter.replace(annotation=hints[name])
            continue
        groups[name] = hints[name]
        of_group = get_type_hints(hints[name], include_extras=True)
        for field in fields(groups[name]):
            shown[field.name] = inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY,
                default=field.default, annotation=of_group[field.name],
            )  # fmt: skip

    @functools.wraps(function)
    def command(**given: Any) -> None:
        for name, group in groups.items():
            taken = {field.name: given.pop(field.name) for field in fields(group)}
            given[name] = group(**taken)
        function(**given)

    ordered = sorted(shown.values(), key=lambda one: one.kind)
    signature = inspect.Signature(ordered)
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in shown.items()}
    return command


@contextmanager
def spoken() -> Iterator[None]:
    """Errors made on purpose are one red line, not a traceback."""
    try:
        yield
    except GuidanceError as error:
        stop(str(error))


def stop(message: str) -> NoReturn:
    """End with a red line and exit code 2."""
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(2)


def warn(message: str) -> None:
    """A yellow line that goes on."""
    typer.secho(message, fg="yellow", err=True)
