"""The command line: `adhere generate`, `compare`, `plugins`, `demo`, and the rooms' own commands.

This is the top of the house: it may import everything, and does so only when a command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adhere import __version__
from adhere.errors import GuidanceError

app = typer.Typer(
    name="adhere",
    help="Make a diffusion model do what the prompt says, without training anything.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="`toybox`, `toybox-sd3` (its transformer), a diffusers model folder, or a hub id.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        "-p",
        help="A plugin, with parameters as `name:key=value,key=value`; may be repeated. "
        "`adhere plugins` lists them.",
    ),
]
Seeds = Annotated[str, typer.Option(help="Seeds: `7`, `0-3`, or `1,5,8-9`.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and report.")]
Layout = Annotated[
    Path | None, typer.Option(help="A layout file (JSON, or a label PNG with its legend).")
]
Subjects = Annotated[
    str | None, typer.Option(help="Phrases that must appear, separated by `|`: `cat|frog`.")
]
Steps = Annotated[int | None, typer.Option(min=1, max=1000, help="Denoising steps.")]
Scale = Annotated[float | None, typer.Option(min=0, max=100, help="Classifier-free guidance.")]
Side = Annotated[int | None, typer.Option(min=16, max=4096, help="In pixels.")]
Negative = Annotated[str, typer.Option(help="What the picture should not show.")]
Scheduler = Annotated[
    str | None, typer.Option(help="ddim, pndm, euler, euler-a, dpm++, unipc or heun.")
]
Batch = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Pictures made at once.")]
Device = Annotated[str | None, typer.Option(help="cuda, cpu, mps; the best there is if left out.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
Backend = Annotated[
    str | None,
    typer.Option("--attention-backend", help="For unguided passes: native, xformers, flash, sage."),
]
SubBatch = Annotated[
    int | None, typer.Option(min=1, help="Pictures that go through a gradient pass at once.")
]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Trade time for memory in gradient passes.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The prompt; markup as in `[red|cat] and [blue|car]` is understood."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A text file with one prompt a line, instead.")
    ] = None,
    plugin: Plugins = None,
    seeds: Seeds = "0",
    out: Out = Path("out"),
    model: Model = "toybox",
    subjects: Subjects = None,
    layout: Layout = None,
    negative: Negative = "",
    steps: Steps = None,
    guidance_scale: Scale = None,
    width: Side = None,
    height: Side = None,
    scheduler: Scheduler = None,
    batch_size: Batch = 4,
    device: Device = None,
    dtype: Dtype = None,
    attention_backend: Backend = None,
    sub_batch: SubBatch = None,
    checkpointing: Checkpointing = False,
) -> None:
    """Make pictures.

    All plugins given work together on every picture:

        adhere generate "a red cat and a blue car" -p attend-and-excite -p syngen --seeds 0-3
    """
    from adhere.pipelines.studio import making

    wanted = making.wanted(
        prompt,
        prompts,
        layout,
        columns=(making.column(plugin or []),),
        seeds=seeds,
        subjects=subjects,
        negative_prompt=negative,
        steps=steps,
        guidance_scale=guidance_scale,
        width=width,
        height=height,
        scheduler=scheduler,
    )
    making.writable(out)
    studio = making.open_studio(
        model, device, dtype, attention_backend, sub_batch=sub_batch, checkpointing=checkpointing
    )
    making.make(studio, wanted, out, batch_size, say=typer.echo)


@app.command()
def compare(
    prompt: Annotated[str | None, typer.Argument(help="The prompt.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A text file with one prompt a line, instead.")
    ] = None,
    plugin: Plugins = None,
    stack: Annotated[
        list[str] | None,
        typer.Option(help="Plugins that work together, separated by `;`; may be repeated."),
    ] = None,
    seeds: Seeds = "0-2",
    out: Out = Path("out"),
    model: Model = "toybox",
    subjects: Subjects = None,
    layout: Layout = None,
    maps: Annotated[bool, typer.Option("--maps", help="Also draw attention maps.")] = False,
    negative: Negative = "",
    steps: Steps = None,
    guidance_scale: Scale = None,
    width: Side = None,
    height: Side = None,
    scheduler: Scheduler = None,
    batch_size: Batch = 4,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Set the unguided picture beside each plugin and stack, at the same seeds.

    adhere compare "a cat and a frog" -p attend-and-excite -p syngen --stack "initno; syngen"
    """
    from adhere.pipelines.studio import making

    columns = [making.column([]), *(making.column([one]) for one in plugin or [])]
    columns += [making.column(one.split(";")) for one in stack or []]
    wanted = making.wanted(
        prompt,
        prompts,
        layout,
        columns=columns,
        seeds=seeds,
        subjects=subjects,
        negative_prompt=negative,
        steps=steps,
        guidance_scale=guidance_scale,
        width=width,
        height=height,
        scheduler=scheduler,
    )
    making.writable(out)
    studio = making.open_studio(model, device, dtype)
    making.make(studio, wanted, out, batch_size, say=typer.echo, maps=maps)


@app.command()
def plugins(
    name: Annotated[str | None, typer.Argument(help="Show one plugin's parameters.")] = None,
) -> None:
    """List the plugins, or one plugin's parameters."""
    from adhere.pipelines.studio import listing

    typer.echo(listing.one(name) if name else listing.everything())


@app.command()
def demo(
    out: Out = Path("demo"),
    seeds: Seeds = "0-3",
) -> None:
    """Show what guidance does, on the bundled toybox: one picture, one table."""
    from adhere.pipelines.studio import showing

    showing.demo(out, seeds, say=typer.echo)


@app.command(name="app")
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Models visitors may choose from; may be repeated."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.")] = 7860,
    auth: Annotated[
        list[str] | None, typer.Option(help="`user:password`; may be repeated.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Also serve MCP clients.")] = False,
) -> None:
    """Open the web app."""
    from adhere.app.serving.server import serve as open_app

    pairs = []
    for one in auth or []:
        user, colon, password = one.partition(":")
        if not (user and colon and password):
            raise typer.BadParameter(f"{one!r} is not user:password", param_hint="--auth")
        pairs.append((user, password))
    open_app(model or ["toybox"], host, port, pairs, device, dtype, mcp, say=typer.echo)


def _mounted(name: str, module: str, attribute: str, help: str) -> None:
    """Mount a room's own commands without importing the room until it is called."""

    def forward(context: typer.Context) -> None:
        from importlib import import_module

        inner = getattr(import_module(module), attribute)
        code = inner(args=context.args, prog_name=f"adhere {name}", standalone_mode=False)
        if isinstance(code, int) and code:  # how a command says that it failed, or was interrupted
            raise typer.Exit(code)

    settings: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=help, context_settings=settings, add_help_option=False)(forward)


_mounted("eval", "adhere.eval.cli", "eval_app", "Measure plugins over suites of prompts.")
_mounted("toybox", "adhere.pipelines.toybox.cli", "toybox_app", "The bundled miniature model.")


INTERRUPTED = 130
"""The exit code of a command stopped by Ctrl-C, by convention 128 + SIGINT."""


def main(run: Callable[..., Any] = app) -> None:
    """Entry point: errors are one sentence, an interrupt is not an error of the program's."""
    # At every import it regrets that torchvision, which nothing here needs, is missing.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        # Typer hands back the exit code here, also that of an interrupt.
        code = run(standalone_mode=False)
    except GuidanceError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        code = 2
    except OSError as error:  # a full disk, a folder that went away
        typer.secho(f"error: {error}", fg="red", err=True)
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()  # a usage error, for example an unknown option
        code = error.exit_code
    if code == INTERRUPTED:
        typer.secho("interrupted; what was finished is kept", fg="yellow", err=True)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
