"""A set-up: all that makes a picture, as a value, read from what anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.errors import GuidanceError, ParameterError
from adhere.guides import parameters
from adhere.pipelines.studio.request import Request

_KEYS = (
    "model",
    "seeds",
    *(field.name for field in fields(Request) if field.name not in ("seed", "search", "auto")),
)


@dataclass(frozen=True)
class Setup:
    """A model, a request and the seeds to make it with; `request.seed` is the first of them."""

    model: str
    request: Request
    seeds: tuple[int, ...]

    def requests(self) -> list[Request]:
        """One request for each seed."""
        return [replace(self.request, seed=seed) for seed in self.seeds]

    def to_json(self) -> dict[str, Any]:
        """Plain data without what is left to the model."""
        plain = {"model": self.model, "seeds": list(self.seeds), **self.request.to_json()}
        del plain["seed"]
        return {key: value for key, value in plain.items() if value not in (None, "", [])}


def from_json(data: object, models: Sequence[str], limits: Limits = LIMITS) -> Setup:
    """A set-up from plain data that anybody may have written.

    Raises:
        GuidanceError: unknown keys, values that do not read, or a limit that is broken.
    """
    if not isinstance(data, Mapping):
        raise ParameterError("the settings are not a JSON object: copy them whole, with the braces")
    unknown = sorted(str(key) for key in data if key not in _KEYS)
    if unknown:
        raise ParameterError(
            f"the settings have no {unknown[0][:40]!r}; they have: {', '.join(_KEYS)}"
        )
    model = data.get("model", models[0])
    seeds = data.get("seeds", [0])
    if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
        raise ParameterError("seeds must be a list of whole numbers, such as [0, 1, 2]")
    values = {key: data[key] for key in data if key not in ("model", "seeds")}
    values.setdefault("prompt", "")
    try:
        request = Request.from_json(values)
    except GuidanceError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as wrong:
        raise ParameterError(
            "the settings do not read: a value has the wrong type; copy them again from the app"
        ) from wrong
    return checked(Setup(str(model), request, tuple(seeds)), models, limits)


def checked(setup: Setup, models: Sequence[str], limits: Limits = LIMITS) -> Setup:
    """The set-up with every limit held.

    Raises:
        GuidanceError: a limit is broken; the sentence says which.
    """
    request = setup.request
    if setup.model not in models:
        raise ParameterError(f"this app does not offer that model: choose {' or '.join(models)}")
    prompt = bounds.check_prompt(request.prompt, limits)
    if not prompt:
        raise ParameterError("the prompt is empty: write what the picture should show")
    seeds = bounds.check_seeds(setup.seeds, limits)
    width, height = bounds.check_size(request.width, request.height, limits)
    steps = bounds.check_number(request.steps, "steps", 1, limits.steps)
    scale = bounds.check_number(
        request.guidance_scale, "guidance scale", 0, limits.guidance_scale, whole=False
    )
    true_scale = bounds.check_number(
        request.true_cfg_scale, "true CFG scale", 0, limits.guidance_scale, whole=False
    )
    if len(request.plugins) > limits.plugins:
        raise ParameterError(
            f"{len(request.plugins)} methods are stacked: {limits.plugins} are the most"
        )
    _check_texts(request, limits)
    bounds.check_passes(request.plugins, None if steps is None else int(steps), len(seeds), limits)
    return Setup(
        setup.model,
        replace(
            request,
            prompt=prompt,
            negative_prompt=bounds.check_prompt(
                request.negative_prompt or "", limits, "negative prompt"
            ),
            seed=seeds[0],
            steps=None if steps is None else int(steps),
            guidance_scale=scale,
            true_cfg_scale=true_scale,
            width=width,
            height=height,
        ),
        seeds,
    )


def _check_texts(request: Request, limits: Limits) -> None:
    if request.scheduler is not None and not isinstance(request.scheduler, str):
        raise ParameterError("the sampler is not a name: choose one from the list")
    for subject in request.subjects or ():
        bounds.check_prompt(subject, limits, "subject")
    if request.layout is not None:
        bounds.check_regions(len(request.layout.regions), limits)
        for region in request.layout.regions:
            for text in (region.phrase, region.text, region.negative):
                bounds.check_prompt(text, limits, "text of a region")
    for plugin in request.plugins:
        for parameter in parameters.parameters(type(plugin)):
            value = getattr(plugin, parameter.name)
            bounds.check_local(type(plugin), parameter, value)
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str):
                    bounds.check_prompt(text, limits, parameter.name)
