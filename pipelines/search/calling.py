"""What a search calls a pipeline with: its own arguments and those of the caller, for each
candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from adhere.errors import ParameterError
from adhere.pipelines.search.settings import is_whole
from adhere.prompt.markup import strip_markup

GIVEN = (
    *("generator", "latents", "num_images_per_prompt", "prompt", "prompt_embeds"),
    *("output_type", "return_dict"),
)
"""Arguments of a pipeline's call that a search gives itself, or relies on."""


def check_call(prompt: Any, seed: Any, call: Mapping[str, Any]) -> None:
    """Refuse what a search cannot call a pipeline with.

    Raises:
        ParameterError: the prompt is no text, the seed no whole number, or an argument is the
            search's own.
        PromptError: the prompt's markup does not parse.
    """
    if not is_whole(seed) or abs(seed) >= 2**62:
        raise ParameterError(f"seed={seed!r} is no seed; give a whole number of less than 2**62")
    if not isinstance(prompt, str):
        raise ParameterError(
            f"prompt={prompt!r} is no text; pictures are verified against one: search for each"
        )
    strip_markup(prompt)
    if taken := [name for name in GIVEN if name in call]:
        raise ParameterError(
            f"{taken[0]} is what the search itself gives the pipeline; leave it out (the noises "
            "come from seed=..., what they are to show from the prompt's text)"
        )


def at_once(call: Mapping[str, Any], together: int) -> int:
    """How many of so many candidates a call may make: of a crop, diffusers takes one picture."""
    return together if call.get("padding_mask_crop") is None else 1


def for_each(pipe: Any, call: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A call's arguments for so many candidates at once.

    Pipelines want further texts and embeddings to be as many as the prompts. One that begins from a
    picture draws once for each that it is given, so each candidate is given it: else the noise of
    all but the first would not be what their seeds draw.
    """
    begins = count > 1 and "strength" in signature(type(pipe).__call__).parameters
    pictures = ("image", "mask_image", "masked_image_latents") if begins else ()
    given = dict(call)
    for name, value in call.items():
        if "prompt" in name:
            given[name] = _texts(value, count)
        elif name in pictures and value is not None:
            given[name] = _pictures(value, count)
    return given


def _texts(value: Any, count: int) -> Any:
    """One text, or a batch of one, so many times; anything else as it is."""
    if isinstance(value, str):
        return [value] * count
    if isinstance(value, list) and len(value) == 1:
        return value * count
    if isinstance(value, Tensor) and len(value) == 1:
        return torch.cat([value] * count)
    return value


def _pictures(value: Any, count: int) -> Any:
    """One picture, or a batch of one, so many times; a batch of more as it is."""
    batch = isinstance(value, list) or getattr(value, "ndim", 0) == 4
    if not batch:
        return [value] * count
    return value if len(value) != 1 else [value[0]] * count
