"""The settings that every tab shares: seeds, steps, size, sampler, negative prompt, model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.setup import Setup
from adhere.app.parts.events import QUIET
from adhere.guides.guide import Plugin
from adhere.pipelines.studio.request import Request

OWN = "the model's own"


class Settings:
    """The sampling controls of one tab, as components in a fixed order.

    Args:
        negative: whether the negative prompt is among them; else the tab says it elsewhere.
    """

    def __init__(
        self,
        models: Sequence[str],
        samplers: Sequence[str],
        limits: Limits = LIMITS,
        *,
        negative: bool = True,
    ) -> None:
        self.models, self.samplers, self.limits = tuple(models), tuple(samplers), limits
        self.negative = negative
        self.components: list[Any] = []

    def draw(self, seeds: str = "0-3") -> None:
        """Put the controls on the page: seeds in sight, the rest folded away."""
        with gr.Row():
            self.seeds = gr.Textbox(
                value=seeds,
                label="Seeds",
                info=f"0-3 or 1, 5, 9; at most {self.limits.seeds}",
                max_lines=1,
                scale=3,
                min_width=140,
            )
            dice = gr.Button("New seeds", size="md", scale=1, min_width=100, elem_classes="beside")
        with gr.Accordion("Picture settings", open=False):
            self.components += [self.seeds, *self._draw_numbers(), *self._draw_choices()]
        dice.click(self._roll, self.seeds, self.seeds, **QUIET)

    def _draw_numbers(self) -> list[Any]:
        limits = self.limits
        negative = gr.Textbox(
            label="Negative prompt",
            info="what the picture should not show",
            max_lines=2,
            visible=self.negative,
        )
        with gr.Row():
            steps = left_out("Steps", f"1 to {limits.steps}", OWN)
            scale = left_out("Guidance scale", f"0 to {limits.guidance_scale:g}", OWN)
            true_scale = left_out("True CFG scale", "distilled models only", OWN)
        with gr.Row():
            width = left_out("Width", "pixels, in eights", OWN)
            height = left_out("Height", "pixels, in eights", OWN)
        self.steps, self.width, self.height = steps, width, height
        return [negative, steps, scale, true_scale, width, height]

    def _draw_choices(self) -> list[Any]:
        with gr.Row():
            sampler = gr.Dropdown(
                [(OWN, ""), *self.samplers], value="", label="Sampler", min_width=140
            )
            model = gr.Dropdown(
                list(self.models),
                value=self.models[0],
                label="Model",
                interactive=len(self.models) > 1,
                min_width=140,
            )
        self.model = model
        return [sampler, model]

    def read(self, values: Sequence[Any], prompt: str, plugins: Sequence[Plugin]) -> Setup:
        """The set-up the controls describe; its limits are checked where it is used.

        Raises:
            ParameterError: seeds or numbers do not read.
        """
        seeds, negative, steps, scale, true_scale, width, height, sampler, model = values
        limits = self.limits
        size = bounds.check_size(width, height, limits)
        count = bounds.check_number(steps, "steps", 1, limits.steps)
        request = Request(
            prompt=prompt,
            negative_prompt=negative or "",
            plugins=tuple(plugins),
            steps=None if count is None else int(count),
            guidance_scale=bounds.check_number(
                scale, "guidance scale", 0, limits.guidance_scale, whole=False
            ),
            true_cfg_scale=bounds.check_number(
                true_scale, "true CFG scale", 0, limits.guidance_scale, whole=False
            ),
            width=size[0],
            height=size[1],
            scheduler=sampler or None,
        )
        numbers = bounds.read_seeds(seeds, limits)
        return Setup(str(model or self.models[0]), replace(request, seed=numbers[0]), numbers)

    def fill(self, setup: Setup) -> list[Any]:
        """Values for `components` that show a given set-up."""
        request = setup.request
        return [
            seeds_text(setup.seeds),
            request.negative_prompt if self.negative else "",
            *map(number_text, (request.steps, request.guidance_scale, request.true_cfg_scale)),
            *map(number_text, (request.width, request.height)),
            request.scheduler if request.scheduler in self.samplers else "",
            setup.model,
        ]

    def _roll(self, text: str) -> str:
        """As many new seeds as there were, in a row."""
        try:
            count = len(bounds.read_seeds(text, self.limits))
        except ValueError:
            count = 1
        first = random.randrange(10_000)
        return seeds_text(tuple(range(first, first + count)))


def left_out(label: str, info: str, placeholder: str = "left out", value: str = "") -> Any:
    """A field for a number that may be left out.

    A text field, because a number field cannot be empty: a page shows an empty one as 0 as soon as
    the panel around it is opened, and 0 is then what is asked for.
    """
    return gr.Textbox(
        value=value,
        label=label,
        info=info,
        placeholder=placeholder,
        max_lines=1,
        min_width=120,
        interactive=True,
    )


def number_text(value: float | None) -> str:
    """A number as a field shows it; nothing for one that is left out."""
    return "" if value is None else f"{value:.10g}"


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as a person would write them: `0-3` or `1, 5, 9`."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)
