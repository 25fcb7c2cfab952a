"""`adhere toybox`: train the bundled model, measure it, look at its world, check a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adhere.pipelines.toybox.errors import ToyboxError

toybox_app = typer.Typer(
    name="toybox",
    help="The bundled miniature text-to-image model: train, measure, look at, check.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,  # that is `adhere --install-completion`
)


def _stages(stage: str, samples: int | None) -> tuple[str, ...]:
    """The stages that are asked for."""
    from adhere.pipelines.toybox.training.stages import ALL, STAGES

    if stage != "all" and stage not in STAGES:
        raise ToyboxError(f"no stage {stage!r}; there are {', '.join(STAGES)} and all")
    if samples is not None and stage == "all":
        raise ToyboxError("--samples belongs to one stage; name it with --stage")
    return ALL if stage == "all" else (stage,)


Rates = Annotated[
    list[str] | None,
    typer.Option(
        help="how often the captions are wrong, as left_out=0.4; repeatable "
        "(left_out, swapped, typical, rare, counted, memorised)"
    ),
]
Compiled = Annotated[
    bool, typer.Option("--compile/--no-compile", help="compile the denoiser; needs a C++ compiler")
]
Pool = Annotated[int, typer.Option(min=1, help="pictures that a denoiser's batches come from")]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0.01, help="a denoiser's, at the most; its last steps are small; no limit if left out"
    ),
]
Init = Annotated[
    Path | None, typer.Option(help="start a denoiser from this .state.pt or pipeline folder")
]
Parts = Annotated[
    Path | None, typer.Option(help="take the VAE and CLIP of this pipeline folder over")
]


_TRAIN = """Train the toybox, stage by stage. A killed run goes on with --resume.

A whole toybox; then only its denoiser for longer, from where it stands:

    adhere toybox train --out runs/mine --export mine

    adhere toybox train --out runs/longer --stage unet --init mine --parts mine --export longer
"""


@toybox_app.command(help=_TRAIN)
def train(
    stage: Annotated[
        str, typer.Option(help="vae, clip, unet, judge, all of these; transformer, of toybox-sd3")
    ] = "all",
    out: Annotated[Path, typer.Option(help="run folder: checkpoints, logs, finished parts")] = Path(
        "runs/toybox"
    ),
    device: Annotated[str, typer.Option(help="cpu, or a CUDA device such as cuda:0")] = "cpu",
    samples: Annotated[
        int | None, typer.Option(min=1, help="training pictures of this stage (its default if out)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes that train a denoiser (one a core if out)")
    ] = None,
    resume: Annotated[bool, typer.Option(help="go on from the last checkpoint")] = False,
    compiled: Compiled = True,
    seed: Annotated[int, typer.Option(help="seed of all randomness")] = 0,
    rate: Rates = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="pictures of a denoiser's update; its own if left out")
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=0, help="a denoiser's, at its peak")] = 1e-3,
    pool: Pool = 60_000,
    minutes: Minutes = None,
    init: Init = None,
    parts: Parts = None,
    export: Annotated[
        Path | None, typer.Option(help="when done, write the pipeline folder here")
    ] = None,
) -> None:
    """Train the toybox, stage by stage. A killed run goes on with --resume."""
    from adhere.pipelines.toybox.training.assembly import assemble
    from adhere.pipelines.toybox.training.parallel import default_workers
    from adhere.pipelines.toybox.training.plan import Plan
    from adhere.pipelines.toybox.training.stages import STAGES
    from adhere.pipelines.toybox.world.faults import faults

    plan = Plan(
        out,
        seed,
        device,
        resume,
        faults=faults(rate or ()),
        batch=batch,
        pool=pool,
        learning_rate=learning_rate,
        compile=compiled,
        workers=workers or default_workers(device),
        minutes=minutes,
        init=init,
        parts=parts,
    )
    for name in _stages(stage, samples):
        chosen = plan if samples is None else plan.with_samples(name, samples)
        typer.echo(f"{name}: done, {STAGES[name](chosen)}")
    if export is not None:
        assemble(out, export, "toybox-sd3" if stage == "transformer" else "toybox")
        typer.echo(f"wrote {export}")


@toybox_app.command()
def export(
    out: Annotated[Path, typer.Option(help="run folder")] = Path("runs/toybox"),
    folder: Annotated[
        Path | None, typer.Option(help="pipeline folder to write (the bundled one if out)")
    ] = None,
    model: Annotated[str, typer.Option(help="toybox, or toybox-sd3 for the transformer")] = (
        "toybox"
    ),
) -> None:
    """Write a run's newest weights, finished or not, as a pipeline folder.

    adhere toybox export --out runs/mine --folder mine
    """
    from adhere.pipelines.toybox import toybox_folder
    from adhere.pipelines.toybox.training.assembly import assemble

    bundled = toybox_folder(model)
    target = folder or bundled
    assemble(out, target, model)
    typer.echo(f"wrote {target}")


@toybox_app.command()
def card(
    folder: Annotated[
        Path | None, typer.Argument(help="pipeline folder (the bundled one if out)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="run folder whose training logs the card tells")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="pictures of each kind of prompt")] = 200,
    seed: Annotated[int, typer.Option(help="seed of prompts and pictures")] = 0,
    device: Annotated[str, typer.Option(help="where the pictures are made")] = "cpu",
) -> None:
    """Measure the unguided model; write card.json, README.md and a sheet of unselected samples.

    adhere toybox card mine --out runs/mine
    """
    from adhere.pipelines.toybox.card.card import write_card
    from adhere.pipelines.toybox.model.folder import toybox_folder

    target = folder or toybox_folder()
    write_card(target, out, prompts, seed, device)
    typer.echo(f"wrote {target / 'card.json'} and {target / 'README.md'}")


@toybox_app.command()
def sheet(
    path: Annotated[Path, typer.Argument(help="PNG to write")] = Path("toybox-world.png"),
    seed: Annotated[int, typer.Option(help="which scenes")] = 0,
) -> None:
    """Draw a contact sheet of the world the model was trained on.

    adhere toybox sheet world.png
    """
    from adhere.pipelines.toybox.card.sheets import save_image, world_sheet

    save_image(world_sheet(seed), path)
    typer.echo(f"wrote {path}")


@toybox_app.command()
def check(
    folder: Annotated[
        Path | None, typer.Argument(help="pipeline folder (the bundled one if out)")
    ] = None,
) -> None:
    """Say whether a folder is a whole toybox; exit code 1 if not.

    adhere toybox check mine
    """
    from adhere.pipelines.toybox.model.folder import check_folder, toybox_folder

    target = folder or toybox_folder()
    wrong = check_folder(target)
    for line in wrong:
        typer.secho(line, fg="red", err=True)
    if wrong:
        raise typer.Exit(1)
    typer.echo(f"{target} is whole")
