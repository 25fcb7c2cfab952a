"""The options that `generate` and `compare` share, in groups, and how a command takes a group."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from adhere.cli import completion

STEPS = "Denoising steps; the pipeline's own if left out."
PIXELS = "In pixels; the model's own if left out."
_HOW, _MODEL, _MACHINE = "How it is drawn", "The model", "The machine"

Seeds = Annotated[
    str | None,
    typer.Option(
        help="Several seeds: `4` are seeds 0 to 3; also `2-5`, or `1,5,8-9`. Without any, "
        "`generate` takes seed 0 and `compare` 0 to 2."
    ),
]
LAST_SEED = 2**63 - 1
"""The largest that torch's generators take on every device."""
Seed = Annotated[int | None, typer.Option(min=0, max=LAST_SEED, help="The one seed, such as 42.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and report.")]
Device = Annotated[
    str | None,
    typer.Option(help="cuda, mps or cpu; the best there is if left out.", rich_help_panel=_MACHINE),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 or float16; half precision on CUDA if left out.",
        rich_help_panel=_MACHINE,
    ),
]
ClipFolder = Annotated[
    str | None,
    typer.Option(
        "--clip",
        help="`toybox`, or a folder with a CLIP (CLIPModel, tokenizer, image processor); the "
        "model's own if left out, in a folder `clip` beside its parts.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        "-p",
        help="Plugins, those that work together joined by `+`, with parameters as "
        "`name:key=value,key=value`. `adhere plugins` lists them.",
        autocompletion=completion.plugin_names,
    ),
]


@dataclass(frozen=True)
class Content:
    """What is drawn."""

    prompt: Annotated[
        str | None,
        typer.Argument(help="The prompt; markup as in `[red|cat] and [blue|car]` is understood."),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="A file of prompts instead: text (one a line), CSV, TSV, JSONL or JSON with "
            "prompt, seed, negative_prompt, subjects, layout...; `-` is standard input."
        ),
    ] = None
    subjects: Annotated[
        str | None,
        typer.Option(
            help="Phrases that must appear, separated by `|`: `cat|frog`; the prompt's nouns if "
            "left out."
        ),
    ] = None
    layout: Annotated[
        Path | None,
        typer.Option(
            help="A layout file (JSON, or a label PNG with its legend); `auto` makes one of the "
            "prompt's own words, as in `a cat to the left of a dog`."
        ),
    ] = None
    negative: Annotated[str, typer.Option(help="What the picture should not show.")] = ""


@dataclass(frozen=True)
class Drawing:
    """How it is drawn; what is left out is the model's own."""

    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help=STEPS,
            rich_help_panel=_HOW,
        ),
    ] = None
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Classifier-free guidance; FLUX and its kin are told it as a number. The "
            "pipeline's own if left out.",
            rich_help_panel=_HOW,
        ),
    ] = None
    true_cfg: Annotated[
        float | None,
        typer.Option(
            "--true-cfg",
            min=0,
            max=100,
            help="Classifier-free guidance of models that have both (FLUX, Qwen-Image): above 1 "
            "they read --negative. The pipeline's own if left out.",
            rich_help_panel=_HOW,
        ),
    ] = None
    width: Annotated[
        int | None, typer.Option(min=16, max=4096, help=PIXELS, rich_help_panel=_HOW)
    ] = None
    height: Annotated[
        int | None, typer.Option(min=16, max=4096, help=PIXELS, rich_help_panel=_HOW)
    ] = None
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Let the autopilot choose methods and noises, and guide only what fails. It says "
            "its plan before (`adhere plan` writes it); how it went is in the report.",
            rich_help_panel=_HOW,
        ),
    ] = False
    plan: Annotated[
        Path | None,
        typer.Option(
            help="Fly this plan: what `adhere plan` wrote, edited as you like.",
            rich_help_panel=_HOW,
        ),
    ] = None
    budget: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=10_000,
            help="With --auto: passes that may be made, in those of one plain picture (8).",
            rich_help_panel=_HOW,
        ),
    ] = None
    enough: Annotated[
        float | None,
        typer.Option(
            help="With --auto: the score with which a picture is taken; without, the budget is "
            "spent.",
            rich_help_panel=_HOW,
        ),
    ] = None
    best_of: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Begin so many pictures for each, and keep the one that --verifier likes best. "
            "--batch-size of them are made at once; the finished are in memory until then.",
            rich_help_panel=_HOW,
        ),
    ] = None
    verifier: Annotated[
        str | None,
        typer.Option(
            help="With --best-of or --auto: what judges pictures, such as `clip-score`, "
            "`judge` (toybox), "
            "`0.7*clip-score + 0.3*judge.binding`, or `clip-score(model=HUB-ID)`; `clip-score` "
            "if left out.",
            rich_help_panel=_HOW,
        ),
    ] = None
    look_at: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="With --best-of or --auto: share of the run at which pictures are foreseen "
            "(0.36); with --best-of, 1 finishes them all.",
            rich_help_panel=_HOW,
        ),
    ] = None
    drop_by: Annotated[
        str | None,
        typer.Option(
            help="With --best-of: who says which pictures are not finished: `verifier` (if left "
            "out), `attention` (to the nouns and their modifiers) or `both`.",
            rich_help_panel=_HOW,
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="ddim, pndm, euler, euler-a, dpm++, unipc or heun, as far as the model is made "
            "for it; the model's own if left out.",
            autocompletion=completion.schedulers,
            rich_help_panel=_HOW,
        ),
    ] = None


@dataclass(frozen=True)
class Loading:
    """Which model, and how it is held."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="`toybox`, `toybox-sd3` (its transformer), a diffusers model folder, a hub id, or "
            "a .safetensors file.",
            autocompletion=completion.models,
            rich_help_panel=_MODEL,
        ),
    ] = "toybox"
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="LoRA weights, a file, folder or hub id, with a strength as in "
            "`style.safetensors:0.8`; may be repeated.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    ip_adapter: Annotated[
        str | None,
        typer.Option(
            help="An IP-Adapter's .safetensors file, or its place on the hub, with a strength as "
            "in `OWNER/NAME/FOLDER/FILE:0.6`; it shows each --picture.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    adapter_pictures: Annotated[  # `picture` is the argument of some commands
        list[Path] | None,
        typer.Option(
            "--picture",
            help="A picture that the IP-Adapter shows to the model; may be repeated, in the order "
            "of the subjects of `subject-guidance`.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    variant: Annotated[
        str | None,
        typer.Option(help="Variant of the weight files, such as fp16.", rich_help_panel=_MODEL),
    ] = None
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a hub id.", rich_help_panel=_MODEL),
    ] = None
    previews: Annotated[
        str | None,
        typer.Option(
            help="A small autoencoder for what is looked at on the way, such as "
            "`madebyollin/taesd`; the model's own decoder if left out.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    device: Device = None
    dtype: Dtype = None
    offload: Annotated[
        str | None,
        typer.Option(
            help="Keep parts in main memory until needed: model, or sequential (least memory).",
            rich_help_panel=_MACHINE,
        ),
    ] = None
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", "-b", min=1, help="Pictures made at once.", rich_help_panel=_MACHINE
        ),
    ] = 4
    attention_backend: Annotated[
        str | None,
        typer.Option(
            help="For unguided passes: native, xformers, flash, sage; the pipeline's own if left "
            "out.",
            rich_help_panel=_MACHINE,
        ),
    ] = None
    sub_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pictures that go through a gradient pass at once; all of a batch if left out.",
            rich_help_panel=_MACHINE,
        ),
    ] = None
    checkpointing: Annotated[
        bool,
        typer.Option(
            "--checkpointing",
            help="Trade time for memory in gradient passes.",
            rich_help_panel=_MACHINE,
        ),
    ] = False


def in_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command for Typer, each of whose dataclass parameters is offered as its fields."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    @wraps(command)
    def taken_apart(**values: Any) -> None:
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})  # type: ignore[operator]
            for name, kind in groups.items()
        }
        command(**made, **values)

    offered: dict[str, inspect.Parameter] = {}
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        found = (
            [parameter.replace(annotation=hints[parameter.name])]
            if group is None
            else list(_parameters(group))
        )
        if twice := offered.keys() & {one.name for one in found}:
            raise TypeError(f"{command.__name__} and its groups both have {', '.join(twice)}")
        offered.update({one.name: one.replace(kind=one.KEYWORD_ONLY) for one in found})
    taken_apart.__signature__ = inspect.Signature(list(offered.values()))  # type: ignore[attr-defined]
    taken_apart.__annotations__ = {name: one.annotation for name, one in offered.items()}
    return taken_apart


def _parameters(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
