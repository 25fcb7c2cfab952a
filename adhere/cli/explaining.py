"""`adhere explain`: make a picture, and say what the words of its prompt are to it."""

from __future__ import annotations

from pathlib import Path

import typer

from adhere.cli.making import studio
from adhere.cli.options import Drawing, Loading
from adhere.cli.speaking import KEPT, if_stopped
from adhere.guides.run import Prompt
from adhere.pipelines.explaining.explain import explained
from adhere.pipelines.explaining.explanation import Explanation
from adhere.pipelines.explaining.reader import Reader, chosen
from adhere.pipelines.studio.output import writable
from adhere.pipelines.studio.progress import progress
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.samplers import check_scheduler
from adhere.plugins import stack


def explain(
    prompt: str, plugin: str | None, seed: int, reader: Reader, drawing: Drawing, loading: Loading,
    out: Path,
) -> None:  # fmt: skip
    """Make the picture, write its explanation into a folder, and say the numbers.

    Raises:
        GuidanceError: it cannot be made or explained as asked; before a model is loaded where that
            can be known.
    """
    check_scheduler(drawing.scheduler)
    request = Request(
        prompt,
        seed,
        plugins=(*(stack(plugin) if plugin else ()), reader),
        steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        true_cfg_scale=drawing.true_cfg,
        width=drawing.width,
        height=drawing.height,
        scheduler=drawing.scheduler,
    )
    chosen(Prompt(prompt), reader.phrases)
    writable(out)
    model = studio(loading)
    total = (drawing.steps or model.steps) + reader.levels * reader.draws
    with progress("steps and levels", total) as tick:
        reader.tick = tick
        (picture,) = model.generate([request], on_step=lambda _: tick(1))
    explanation = explained(reader, picture.image)
    typer.echo(table(explanation))
    for note in picture.report["notes"]:
        typer.echo(f"note: {note}")
    if_stopped(KEPT)
    typer.echo(", ".join(map(str, explanation.save(out))))


def table(explanation: Explanation) -> str:
    """What each two words say of the whole picture, in nats, as lines."""
    lines = []
    for pair in explanation.pairs:
        said = (f"{name} {float(value):.4g}" for name, value in pair.named(pair.totals).items())
        lines.append(f"{' + '.join(pair.words)}: {', '.join(said)}")
    return "\n".join(lines)
