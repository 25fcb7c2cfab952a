"""The table of `docs/families.md`: every family with every plugin, tried out.

python -m tests.families.table          # print it
python -m tests.families.table --write  # put it into the page
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import GuidanceError
from adhere.guides import parameters
from adhere.guides.guide import Guide
from adhere.layout.layout import Layout, Region
from adhere.pipelines.toybox import load_toybox
from adhere.plugins import PLUGINS
from docs import effects
from tests import stored, tiny
from tests.families.cases import CASES
from tests.probes import Probe
from tests.verifying import NEEDED

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
BEGIN, END = "<!-- table -->", "<!-- /table -->"
PROMPT = "a red cat and a blue dog"
LAYOUT = Layout(
    (Region("red cat", box=(0.0, 0.2, 0.5, 1.0)), Region("blue dog", box=(0.5, 0.0, 1.0, 0.8)))
)
NEGATIVE = "a big bird"
STEPS = 3


def made(kind: Any, shape: tuple[int, ...], pipe: Any) -> Any:
    """A plugin with its defaults, but with counts of 2 at the most, and texts where it has none.

    Of two noises the given one is as likely the better, so `candidates` are a dozen. Files are made
    for latents of `shape`, and for the text encoder of `pipe`.
    """
    changes = stored.needed({one.name for one in parameters.parameters(kind)}, shape, pipe)
    for one in parameters.parameters(kind):
        if isinstance(one.default, int) and not isinstance(one.default, bool) and one.default > 2:
            changes[one.name] = 12 if one.name == "candidates" else max(2, int(one.low or 0))
        if one.name == "negative" and one.default is None:
            changes[one.name] = NEGATIVE
        if one.name in NEEDED:
            changes[one.name] = NEEDED[one.name]
    return kind(**changes)


@dataclass(frozen=True)
class Column:
    """A family as a column of the table: how pictures of `PROMPT` are made with it; its case."""

    name: str
    pipe: Callable[[], Any]
    call: Callable[[Any, int], Tensor]
    case: str | None = None


def _classic(name: str, make: Callable[[], Any]) -> Column:
    def call(pipe: Any, images: int) -> Tensor:
        found: Tensor = pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=STEPS,
            generator=tiny.generators(*range(3, 3 + images)),
            num_images_per_prompt=images,
            height=64,
            width=48,
            guidance_scale=5.0,
            output_type="latent",
        ).images
        return found

    return Column(name, functools.cache(make), call)


def _transformer(name: str, case: str, guided: bool = True) -> Column:
    def call(pipe: Any, images: int) -> Tensor:
        negative = CASES[case].negated(pipe, [NEGATIVE]) if guided else {}
        seeds = list(range(3, 3 + images))
        more = {**negative, "num_images_per_prompt": images}
        return CASES[case]([PROMPT], seeds=seeds, pipe=pipe, steps=STEPS, guided=guided, **more)

    return Column(name, lambda: CASES[case].pipe, call, case)


COLUMNS = {
    column.name: column
    for column in (
        _classic("toybox", load_toybox),
        _classic("SD 1.x", tiny.sd1),
        _classic("SD 2.x", tiny.sd2),
        _classic("SDXL", tiny.sdxl),
        _classic("toybox, SD3", lambda: load_toybox(name="toybox-sd3")),
        _transformer("SD3", "sd3"),
        _transformer("FLUX", "flux", guided=False),
        _transformer("FLUX, true CFG", "flux"),
        _transformer("FLUX.2", "flux2"),
        _transformer("Chroma", "chroma"),
        _transformer("PixArt", "pixart"),
        _transformer("Sana", "sana"),
        _transformer("Qwen-Image", "qwen-image"),
        _transformer("Z-Image", "z-image"),
    )
}


@functools.cache
def _host(column: str, shown: bool) -> Any:
    """A family's pipeline; a copy with an IP-Adapter and pictures where some are to be shown."""
    pipe = COLUMNS[column].pipe()
    # Adapters of transformers take no masks.
    return tiny.shown(copy.deepcopy(pipe)) if shown and hasattr(pipe, "unet") else pipe


@functools.cache
def _plain(column: str, shown: bool, images: int) -> Tensor:
    return COLUMNS[column].call(_host(column, shown), images)


@functools.cache
def latents(column: str) -> tuple[int, ...]:
    """The shape of the latents of a family's picture."""
    found: list[tuple[int, ...]] = []

    class Seeing(Guide):
        def initial(self, noise: Tensor, look: Any) -> Tensor:
            found.append(tuple(noise.shape[1:]))
            return noise

    with Guidance(Probe(lambda run: Seeing())).attach(COLUMNS[column].pipe()):
        COLUMNS[column].call(COLUMNS[column].pipe(), 1)
    return found[0]


@functools.cache
def outcome(column: str, plugin: str) -> str:
    """What a plugin does to a family's picture: `yes`, `idle` or `no`.

    `yes`: it ran and the picture is another one; `idle`: it ran and changed nothing; `no`: refused.
    """
    kind, place = PLUGINS[plugin], COLUMNS[column]
    shown = getattr(kind, "pictures", False)
    pipe = _host(column, shown)
    method = made(kind, latents(column), pipe)
    images = 4 if getattr(kind, "several", False) else 1
    try:
        with Guidance(method).attach(pipe, layout=LAYOUT):
            found = place.call(pipe, images)
    except GuidanceError:
        return "no"
    if not torch.isfinite(found).all():
        return "broken"
    return "idle" if torch.equal(found, _plain(column, shown, images)) else "yes"


def cell(column: str, plugin: str) -> str:
    """An outcome; on a toybox `effect` where the study has measured one."""
    return effects.cell(column, plugin, outcome(column, plugin))


def head() -> list[str]:
    """The table's first two lines."""
    names = ["plugin", *COLUMNS]
    return [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]


def row(plugin: str) -> str:
    """A plugin's line, tried out on every family."""
    return f"| `{plugin}` | {' | '.join(cell(name, plugin) for name in COLUMNS)} |"


def table() -> str:
    return "\n".join([*head(), *map(row, sorted(PLUGINS))])


def written() -> str:
    """The table that stands in the page."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()


def main() -> None:
    torch.set_num_threads(1)
    found = table()
    if "--write" not in sys.argv:
        print(found)
        return
    text = PAGE.read_text()
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{head}{BEGIN}\n{found}\n{tail}")


if __name__ == "__main__":
    main()
