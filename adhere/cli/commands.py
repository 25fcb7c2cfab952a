"""The commands: `generate`, `compare`, `plan`, `explain`, `plugins`, `show`, `invert`, `edit`..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from adhere import __version__
from adhere.cli.options import (
    LAST_SEED,
    ClipFolder,
    Content,
    Drawing,
    Loading,
    Out,
    Plugins,
    Seed,
    Seeds,
    in_groups,
)
from adhere.cli.speaking import GOES_ON, KEPT, NOTHING, if_stopped
from adhere.errors import ParameterError

app = typer.Typer(
    name="adhere",
    help="Make a diffusion model do what the prompt says, without training anything.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@in_groups
def generate(
    content: Content,
    drawing: Drawing,
    loading: Loading,
    plugin: Plugins = None,
    seed: Seed = None,
    seeds: Seeds = None,
    out: Out = Path("out"),
    maps: Annotated[bool, typer.Option("--maps", help="Also draw attention maps.")] = False,
) -> None:
    """Make pictures. The same command again makes only what is missing.

    Two plugins together, four seeds:

        adhere generate "a red cat and a blue car" -p attend-and-excite+syngen --seeds 4

    A plugin with its parameters, on a model of your own:

        adhere generate "a cat and a frog" -m ./my-model -p attend-and-excite:step_size=10

    Many prompts, from a file or from another program:

        adhere generate --prompts prompts.csv --out pictures

        echo "a red cat" | adhere generate --prompts -

    A layout, FLUX with a negative prompt:

        adhere generate --layout scene.json -p zestguide

        adhere generate "a cat" -m owner/flux --negative "a dog" --true-cfg 4
    """
    from adhere.cli.making import make, seeds_from
    from adhere.pipelines.studio.plan import Variant
    from adhere.plugins import stack

    if plugin and len(plugin) > 1:
        raise ParameterError(
            f"-p is given {len(plugin)} times; plugins that work together are joined by +: "
            f'-p "{"+".join(plugin)}" (adhere compare sets several variants side by side)'
        )
    variant = Variant(stack(plugin[0]) if plugin else ())
    noises = seeds_from(seed, seeds, default="0-0")
    make(content, drawing, loading, [variant], noises, out, maps)
    if seeds and seeds.strip().isdecimal():
        typer.echo(
            f"note: --seeds {seeds} counts them from 0; seed {seeds} alone is --seed {seeds}"
        )


@app.command()
@in_groups
def compare(
    content: Content,
    drawing: Drawing,
    loading: Loading,
    plugin: Plugins = None,
    stack: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    seed: Seed = None,
    seeds: Seeds = None,
    out: Out = Path("out"),
    maps: Annotated[bool, typer.Option("--maps", help="Also draw attention maps.")] = False,
) -> None:
    """Set the unguided picture beside each `-p`, at the same seeds.

    Two plugins, and both together:

        adhere compare "a cat and a frog" -p syngen -p initno -p syngen+initno

    One plugin with two settings, and what each word attended to:

        adhere compare "a cat and a frog" -p syngen -p syngen:step_size=60 --maps
    """
    from adhere.cli.making import make, seeds_from
    from adhere.pipelines.studio.plan import Variant
    from adhere.plugins import stack as read

    if stack:
        joined = "+".join(part.strip() for part in stack[0].split(";"))
        raise ParameterError(f'--stack is spelled -p now, with +: -p "{joined}"')
    variants = [Variant(), *(Variant(read(one)) for one in plugin or ())]
    make(content, drawing, loading, variants, seeds_from(seed, seeds, "0-2"), out, maps)


@app.command()
def plan(
    prompt: Annotated[str, typer.Argument(help="The prompt.")],
    budget: Annotated[
        float, typer.Option(min=1, max=10_000, help="Passes, in those of one plain picture.")
    ] = 8.0,
    verifier: Annotated[str, typer.Option(help="What judges pictures.")] = "clip-score",
    enough: Annotated[
        float | None,
        typer.Option(help="The score with which a picture is taken; without, the budget is spent."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A JSON file for it, to be edited.")
    ] = None,
) -> None:
    """Say what the autopilot would try for a prompt, without making anything.

    In words; then as a file that can be edited, and flown:

        adhere plan "a red cat left of a blue car without a hat"

        adhere plan "a red cat left of a blue car" --enough 0.8 -o plan.json

        adhere generate --plan plan.json
    """
    from adhere.cli import flying

    settings = {"budget": budget, "verifier": verifier, "enough": enough}
    for line in flying.plan(prompt, settings, out):
        typer.echo(line)


@app.command()
@in_groups
def explain(
    prompt: Annotated[str, typer.Argument(help="The prompt.")],
    drawing: Drawing,
    loading: Loading,
    words: Annotated[
        str | None, typer.Option(help="Words to compare, as in `queen|crown`; else the nouns.")
    ] = None,
    context: Annotated[
        bool, typer.Option("--context", help="Hear a word beside the rest of the prompt.")
    ] = False,
    levels: Annotated[int, typer.Option(min=1, max=1000, help="Levels of noise.")] = 20,
    draws: Annotated[int, typer.Option(min=1, max=1000, help="Noises at each level.")] = 1,
    plugin: Plugins = None,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="The seed.")] = 0,
    out: Out = Path("out"),
) -> None:
    """Say what each word of a prompt is to its picture: alone, and two by two.

    What is unique to a word, what two say alike, what they say only together:

        adhere explain "a queen with a crown" --words "queen|crown"

    Words beside the rest of the prompt, with a method at work:

        adhere explain "a red cat and a blue car" --context -p syngen --out why
    """
    if_stopped(NOTHING)
    from adhere.cli import explaining
    from adhere.pipelines.explaining.reader import Reader

    if plugin and len(plugin) > 1:
        raise ParameterError(f'one picture is explained; join plugins: -p "{"+".join(plugin)}"')
    phrases = None if words is None else tuple(words.split("|"))
    reader = Reader(phrases, context, levels, draws)
    explaining.explain(prompt, plugin[0] if plugin else None, seed, reader, drawing, loading, out)


@app.command()
def plugins(
    name: Annotated[str | None, typer.Argument(help="Show one plugin's parameters.")] = None,
) -> None:
    """List the plugins, or one plugin's parameters.

    adhere plugins

    adhere plugins syngen
    """
    from adhere.cli import listing

    typer.echo(listing.one(name) if name else listing.everything())


@app.command()
def show(
    picture: Annotated[Path, typer.Argument(help="A picture that adhere made.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Read back how a picture was made: prompt, seed, plugins, model, versions.

    adhere show out/000-a-red-cat-plain-0-1a2b3c4d.png
    """
    from adhere.cli import showing

    typer.echo(showing.show(picture, as_json))


@app.command()
def invert(
    pictures: Annotated[list[Path], typer.Argument(help="One picture, or several of one kind.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Whose CLIP: `toybox`, or a model folder.")
    ] = "toybox",
    clip: ClipFolder = None,
    length: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps.")] = 500,
    seed: Annotated[
        int, typer.Option(min=0, max=LAST_SEED, help="Of the tokens that it begins with.")
    ] = 0,
    any_token: Annotated[
        bool, typer.Option("--any-token", help="Also parts of words and punctuation.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Find a prompt of real words for a picture, by its CLIP (PEZ). Ctrl-C says the best so far.

    A picture of the toybox; then one prompt for three pictures in a style:

        adhere invert out/000-a-red-cat-plain-0-1a2b3c4d.png

        adhere invert one.png two.png three.png --length 16 --steps 3000

    For a model of your own, with the CLIP whose text encoder it has:

        adhere invert picture.png --model ./my-model --clip ./clip-vit-large-patch14
    """
    if_stopped(NOTHING)
    from adhere.cli import inverting
    from adhere.pipelines.tools.hard_prompt import Search

    how = Search(length, steps, whole_words=not any_token, seed=seed)
    inverting.invert(pictures, model, clip, how, as_json)


@app.command()
@in_groups
def edit(
    picture: Annotated[Path, typer.Argument(help="A picture of a size that the model draws.")],
    loading: Loading,
    concept: Annotated[str, typer.Option(help="What there is to be more or less of: `a crown`.")],
    scale: Annotated[
        float, typer.Option(min=0, max=100, help="Above 1 enhances, below 1 suppresses, 0 removes.")
    ] = 0.0,
    steps: Annotated[int, typer.Option(min=2, max=1000, help="Of the inversion and back.")] = 50,
    decay: Annotated[
        float, typer.Option(min=0, max=100, help="How soon the scale falls towards 0.")
    ] = 3.0,
    keep: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps held near the picture.")
    ] = 0.4,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A PNG file; named after picture and concept."),
    ] = None,
) -> None:
    """Take a concept out of a picture, or strengthen it (ScalingConcept).

    The picture is inverted while the model is told the concept, and drawn again with the concept
    scaled; U-Net models only.

        adhere edit picture.png --concept "a red cat"

        adhere edit picture.png --concept "a crown" --scale 3 --model ./my-model
    """
    if_stopped(NOTHING)
    from adhere.cli import editing
    from adhere.cli.making import studio
    from adhere.pipelines.tools.scaling_concept import Scaling

    editing.edit(picture, studio(loading), Scaling(concept, scale, steps, decay, keep), out)


@app.command()
def demo(out: Out = Path("demo"), seeds: Seeds = "4") -> None:
    """Show what guidance does, on the bundled toybox: one picture, one table.

    adhere demo --seeds 8 --out demo
    """
    from adhere.pipelines.studio import demo as comparison
    from adhere.pipelines.studio.output import writable
    from adhere.pipelines.studio.request import seeds_of
    from adhere.pipelines.studio.studio import Studio

    numbers, folder = seeds_of(seeds or "4"), writable(out)
    comparison.demo(Studio("toybox"), folder, numbers, say=typer.echo)


def _mounted(
    name: str,
    module: str,
    attribute: str,
    help: str,
    stopped: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Mount a room's own commands without importing the room until it is called.

    `stopped` is what an interrupt leaves, by command: no room below knows of the command line.
    """

    def forward(context: typer.Context) -> None:
        from importlib import import_module

        inner = getattr(import_module(module), attribute)
        if context.args and context.args[0] in stopped:
            if_stopped(stopped[context.args[0]])
        code = inner(args=context.args, prog_name=f"adhere {name}", standalone_mode=False)
        if isinstance(code, int) and code:  # how a command says that it failed, or was interrupted
            raise typer.Exit(code)

    settings: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=help, context_settings=settings, add_help_option=False)(forward)


_mounted("app", "adhere.app.serving.cli", "app_app", "Open the web app.")
_mounted("noise", "adhere.cli.noise", "noise_app", "Make and ask libraries of starting noises.")
_mounted("train", "adhere.cli.training", "train_app", "Train small files that some methods read.")
_mounted(
    "eval", "adhere.eval.cli", "eval_app", "Measure plugins over suites of prompts.",
    dict.fromkeys(("generate", "score", "run"), GOES_ON),
)  # fmt: skip
_mounted(
    "toybox", "adhere.pipelines.toybox.cli", "toybox_app", "The bundled miniature model.",
    {"train": f"{KEPT}, and the same command with --resume goes on from the last checkpoint"},
)  # fmt: skip
