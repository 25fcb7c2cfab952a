"""From the options of `generate` and `compare` to a plan, a model, and the loop over both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from adhere import assets, verifiers
from adhere.cli.flying import pilot, said, told
from adhere.cli.options import Content, Drawing, Loading
from adhere.cli.speaking import GOES_ON, complain, if_stopped
from adhere.errors import GuidanceError, LayoutError, ParameterError, PromptError
from adhere.layout.composing import composed
from adhere.layout.layout import Layout
from adhere.pipelines.engine.memory import Memory
from adhere.pipelines.folders.ip_adapters import IPAdapter
from adhere.pipelines.search.plan import Plan as Flown
from adhere.pipelines.search.search import Search
from adhere.pipelines.studio import prompts
from adhere.pipelines.studio.loading import Lora
from adhere.pipelines.studio.output import writable
from adhere.pipelines.studio.plan import Plan, Variant
from adhere.pipelines.studio.record import Record
from adhere.pipelines.studio.request import Request, seeds_of
from adhere.pipelines.studio.running import run
from adhere.pipelines.studio.samplers import check_scheduler
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.studio.summary import summary

MOST_TOLD = 3
"""Prompts whose plans are said beforehand; each stands in its picture's report."""
AUTO = Path("auto")
"""The `--layout` that is made from each prompt's own words."""


def seeds_from(seed: int | None, seeds: str | None, default: str) -> tuple[int, ...]:
    """The seeds of `--seed` or `--seeds`.

    Raises:
        ParameterError: both are given, or they do not read.
    """
    if seed is not None and seeds is not None:
        raise ParameterError(f"--seed {seed} and --seeds {seeds}: give one of them")
    return seeds_of(seeds or default) if seed is None else (seed,)


def plan(
    content: Content, drawing: Drawing, variants: Sequence[Variant], seeds: tuple[int, ...]
) -> tuple[Plan, list[str]]:
    """What is to be made, and what should be known of it."""
    check_scheduler(drawing.scheduler)
    by_words = content.layout == AUTO and not AUTO.exists()
    named = content.layout if content.layout and not by_words else None
    layout = Layout.read(_layout_file(named)) if named else None
    shared = Request(
        prompt="",
        negative_prompt=content.negative,
        subjects=tuple(content.subjects.split("|")) if content.subjects else None,
        layout=layout,
        steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        true_cfg_scale=drawing.true_cfg,
        width=drawing.width,
        height=drawing.height,
        scheduler=drawing.scheduler,
        search=_search(drawing),
        auto=pilot(drawing, content, any(variant.plugins for variant in variants)),
    )
    flown = shared.auto.prompt if isinstance(shared.auto, Flown) else None
    found = _prompts(replace(content, prompt=flown) if flown else content, layout)
    if by_words:
        found = replace(found, lines=tuple(map(_laid_out, found.lines)))
    made = Plan(found.lines, tuple(variants), seeds, shared)
    unread = ", ".join(map(repr, found.unread))
    return made, [f"note: not read from the prompt file: {unread}"] if unread else []


def _search(drawing: Drawing) -> Search | None:
    """What `--best-of` and its companions say."""
    if drawing.best_of is None:
        chosen = drawing.auto or drawing.plan
        _refuse_alone(
            drawing, "--best-of", ("drop_by", *(() if chosen else ("verifier", "look_at")))
        )
        _refuse_alone(drawing, "--auto", (() if chosen else ("budget", "enough")))
        return None
    _refuse_alone(drawing, "--auto", ("budget", "enough"))
    found = Search(drawing.best_of, **said(drawing, "verifier", "look_at", "drop_by"))
    verifiers.verifier(found.verifier)  # what does not read is said before a model is loaded
    return found


def _refuse_alone(drawing: Drawing, option: str, companions: Sequence[str]) -> None:
    for name in said(drawing, *companions):
        raise ParameterError(
            f"--{name.replace('_', '-')} says how {option} chooses; give {option}, too"
        )


def _laid_out(line: prompts.PromptLine) -> prompts.PromptLine:
    """A prompt with the layout that its own words ask for, where it has none."""
    if line.fault is not None or line.own.get("layout") is not None:
        return line
    try:
        return replace(line, own={**line.own, "layout": composed(line.prompt)})
    except LayoutError as error:
        return replace(line, fault=error)


def _layout_file(path: Path) -> Path:
    """A layout's file; the name of one that comes with adhere stands for it."""
    if path.is_dir():
        raise LayoutError(f"--layout {str(path)!r} is a folder; give the layout file itself")
    if path.exists():
        return path
    bundled = {one.stem: one for one in sorted((assets.FOLDER / "layouts").glob("*.json"))}
    if str(path) in bundled:
        return bundled[str(path)]
    raise LayoutError(
        f"there is no layout file {path}; give one, or one that comes with adhere: "
        f"{', '.join(bundled)}"
    )


def _prompts(content: Content, layout: Layout | None) -> prompts.PromptFile:
    """The prompt, or a file's, or the one that a layout file brings."""
    if content.prompts is not None and content.prompt is not None:
        raise PromptError("give a prompt or --prompts FILE, not both")
    if content.prompts is not None:
        return prompts.read(content.prompts)
    prompt = layout.prompt if layout and content.prompt is None else content.prompt
    if prompt is None:
        raise PromptError('give a prompt, for example: adhere generate "a red cat and a blue car"')
    return prompts.PromptFile((prompts.checked(prompts.PromptLine(prompt)),))


def _flight(wanted: Plan) -> list[str]:
    """What the autopilot will try, said before it does where there are not too many prompts."""
    how, lines = wanted.shared.auto, [one for one in wanted.lines if one.fault is None]
    if how is None or len(lines) > MOST_TOLD:
        return []
    found = []
    for one in lines:
        try:
            found += told(how, one.prompt, one.own.get("layout") or wanted.shared.layout)
        except GuidanceError:
            if len(wanted.lines) == 1:
                raise
            # It is told with its place in the file, when the others are made.
    return found


def studio(loading: Loading) -> Studio:
    """The model as the options want it."""
    return Studio(
        loading.model,
        loading.device,
        loading.dtype,
        loading.attention_backend,
        Memory(checkpointing=loading.checkpointing, sub_batch=loading.sub_batch),
        variant=loading.variant,
        revision=loading.revision,
        offload=loading.offload,
        loras=[Lora.read(text) for text in loading.lora or ()],
        together=loading.batch_size,
        previews=loading.previews,
        adapter=_adapter(loading),
    )


def _adapter(loading: Loading) -> IPAdapter | None:
    """What `--ip-adapter` and `--picture` say."""
    shown = [str(path) for path in loading.adapter_pictures or ()]
    if loading.ip_adapter is not None:
        return IPAdapter.read(loading.ip_adapter, shown)
    if shown:
        raise ParameterError(
            f"--picture {shown[0]} is shown by an IP-Adapter; give one, too: --ip-adapter FILE"
        )
    return None


def make(
    content: Content,
    drawing: Drawing,
    loading: Loading,
    variants: Sequence[Variant],
    seeds: tuple[int, ...],
    out: Path,
    maps: bool,
) -> None:
    """Make the pictures, and say what became of them.

    Raises:
        GuidanceError: nothing could be made as asked.
        typer.Exit: some of it could not: code 1.
    """
    wanted, notes = plan(content, drawing, variants, seeds)
    writable(out)
    if_stopped(GOES_ON)
    for line in _flight(wanted):
        typer.echo(line)
    model = studio(loading)
    record = Record(out, wanted, model.about, model.judge(), maps)
    run(model, record, loading.batch_size)
    if record.faults and not record.rows:
        place, error = record.faults[0]
        raise type(error)(f"{place}: {error}" if place else str(error))
    for line in (*summary(record), *notes):
        typer.echo(line)
    for place, error in record.faults:
        complain(f"error: {place}: {error}" if place else f"error: {error}")
    if record.faults:
        raise typer.Exit(1)
