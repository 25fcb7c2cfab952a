"""`adhere noise`: libraries of starting noises, and what to find in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adhere.cli.options import PIXELS, STEPS, ClipFolder, Loading, in_groups
from adhere.cli.speaking import if_stopped
from adhere.errors import ParameterError

if TYPE_CHECKING:  # commands import what they need when they run
    from adhere.pipelines.tools.noise_library import Maker

_GOES_ON = "parts of 64 seeds that were finished are kept, and the same command goes on from them"
_NO_CLIP = (
    "note: {} has no CLIP of its own, so the library has statistics and no features of pictures; "
    "--clip FOLDER names one"
)

noise_app = typer.Typer(
    name="noise",
    no_args_is_help=True,
    help="Libraries of starting noises: what a model draws from each seed when it is told nothing.",
    rich_markup_mode="markdown",
    add_completion=False,  # that is `adhere --install-completion`
)


@noise_app.command()
@in_groups
def library(
    loading: Loading,
    size: Annotated[int, typer.Option(min=1, help="Seeds, from 0 on.")] = 1000,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")] = Path(
        "library.safetensors"
    ),
    clip: ClipFolder = None,
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help=STEPS)] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Sampler; the model's own if left out.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=16, max=4096, help=PIXELS)] = None,
    height: Annotated[int | None, typer.Option(min=16, max=4096, help=PIXELS)] = None,
    shard: Annotated[
        str, typer.Option(help="This process's part of the work, such as 2/4.")
    ] = "1/1",
) -> None:
    """Make a library: a picture of each seed without a prompt, and what it looks like.

    A thousand seeds of the toybox, and a picture that begins with one of the ten brightest:

        adhere noise library --size 1000

        adhere generate "a cat" -p noise-query:library=library.safetensors,target=brightness

    Two processes; each goes on where it was stopped, and the last one writes the file:

        adhere noise library -m ./my-model --clip ./my-clip --shard 1/2

        adhere noise library -m ./my-model --clip ./my-clip --shard 2/2

    A library that is there already grows to a larger --size.
    """
    if_stopped(_GOES_ON)
    from adhere.cli.making import studio
    from adhere.pipelines.studio.output import named, writable_file
    from adhere.pipelines.studio.progress import progress
    from adhere.pipelines.tools.clip import clip_of
    from adhere.pipelines.tools.noise_library import Maker, Plan, Shard
    from adhere.plugins.mathematics.noise_library import LIBRARY

    part = Shard.read(shard)
    named(out, LIBRARY)
    writable_file(out)
    found = clip_of(loading.model, clip)
    plan = Plan(size, steps, scheduler, width, height)
    maker = Maker(studio(loading), found, plan, out, loading.batch_size)
    if maker.whole():
        typer.echo(f"{out} is there already, with {maker.seeds()} seeds{_more(maker)}")
        return
    missing = maker.missing(part)
    with progress("seeds", sum(map(len, missing))) as tick:
        for seeds in missing:
            maker.make(seeds, tick)
    if maker.finish():
        typer.echo(f"wrote {out}: {size} seeds")
    else:
        typer.echo(f"part {shard} is done; {out} is written when all parts are")
    if found is None:
        typer.echo(_NO_CLIP.format(loading.model))


def _more(maker: Maker) -> str:
    """What a library that is there has been given beside its seeds."""
    return "; it has learnt to compare texts" if maker.reworded() else ""


MAKE_WITH_CLIP = "make one: adhere noise library --clip FOLDER"


@noise_app.command()
def pick(
    path: Annotated[Path, typer.Argument(metavar="LIBRARY", help="A noise library.")],
    target: Annotated[str, typer.Argument(help="A text, or a statistic such as brightness.")],
    top: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    level: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the library below the statistic: 1 the highest."),
    ] = 1.0,
    clip: ClipFolder = None,
) -> None:
    """Say which seeds suit a text or a statistic best; no picture is made.

    adhere noise pick library.safetensors "a red cat"

    adhere noise pick library.safetensors brightness --level 0
    """
    from adhere.pipelines.tools.clip import clip_of
    from adhere.plugins.mathematics import noise_library as table

    library = table.NoiseLibrary.read(path)
    about = library.stored.about
    values = library.statistic(target)
    if values is None:
        found = clip_of(about["model"], clip)
        if found is None or library.features is None or found.weights != about.get("clip"):
            needs = "give the CLIP it was made with: --clip FOLDER"
            raise ParameterError(
                f"{target!r} is no statistic of {str(path)!r} ({', '.join(library.names)}), and "
                f"texts need {'a library with a CLIP' if library.features is None else 'its CLIP'}"
                f"; {MAKE_WITH_CLIP if library.features is None else needs}"
            )
        scores = values = table.likest(library.features, found.texts([target])[0])
    else:
        scores, _ = table.nearest_level(values, level)
    places = table.best(scores, top)
    for place in places:
        typer.echo(f"seed {int(library.seeds[place]):>6}  {float(values[place]):.4f}")
    seeds = ",".join(str(int(library.seeds[place])) for place in places)
    typer.echo(f"in single precision: adhere generate PROMPT -m {about['model']} --seeds {seeds}")
