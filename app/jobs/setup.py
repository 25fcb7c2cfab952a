"""A set-up: all that makes a picture, as a value, read from what anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.errors import GuidanceError, ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.pipelines.search.plan import Pilot, Plan, parted
from adhere.pipelines.studio.request import Request

_KEYS = (
    "model",
    "seeds",
    *(field.name for field in fields(Request) if field.name not in ("seed", "search")),
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
    prompt = bounds.check_drawn(request.prompt, limits)
    seeds = bounds.check_seeds(setup.seeds, limits)
    width, height = bounds.check_size(request.width, request.height, limits)
    steps = bounds.check_number(request.steps, "steps", 1, limits.steps)
    scale = bounds.check_number(
        request.guidance_scale, "guidance scale", 0, limits.guidance_scale, whole=False
    )
    true_scale = bounds.check_number(
        request.true_cfg_scale, "true CFG scale", 0, limits.guidance_scale, whole=False
    )
    whole = None if steps is None else int(steps)
    request = replace(request, prompt=prompt, steps=whole)
    request = replace(request, auto=_auto(request, limits))
    _check_texts(request, limits)
    bounds.check_passes(request, len(seeds), limits)
    return Setup(
        setup.model,
        replace(
            request,
            negative_prompt=bounds.check_prompt(
                request.negative_prompt or "", limits, "negative prompt"
            ),
            seed=seeds[0],
            guidance_scale=scale,
            true_cfg_scale=true_scale,
            width=width,
            height=height,
        ),
        seeds,
    )


def _auto(request: Request, limits: Limits) -> Pilot | Plan | None:
    """The autopilot's settings or plan with every limit held."""
    auto = request.auto
    if auto is None:
        return None
    if request.plugins:
        raise ParameterError("the autopilot chooses the methods itself: leave out the others")
    if auto.verifier not in limits.verifiers:
        raise ParameterError(
            f"pictures are judged by {', '.join(limits.verifiers)} here: choose one of them"
        )
    budget = bounds.check_number(auto.budget, "budget", 1, limits.passes, whole=False)
    look_at = bounds.check_number(auto.look_at, "look_at", 0, 0.99, whole=False)
    if budget is None or look_at is None:
        raise ParameterError("the autopilot's budget or look_at is empty: give a number")
    enough = bounds.check_number(auto.enough, "good enough", *bounds.SCORES, whole=False)
    auto = replace(auto, budget=budget, look_at=look_at, enough=enough)
    return _planned(auto, request.prompt, limits) if isinstance(auto, Plan) else auto


def _planned(plan: Plan, prompt: str, limits: Limits) -> Plan:
    """A plan with the limits held that are its own."""
    if len(plan.attempts) > limits.attempts:
        raise ParameterError(
            f"{len(plan.attempts)} attempts are planned, and {limits.attempts} are the most"
        )
    flown = bounds.check_prompt(plan.prompt, limits)
    if flown not in (prompt, parted(prompt)[0]):
        raise ParameterError("the plan is for another prompt: plan this one anew")
    return replace(
        plan,
        prompt=flown,
        negative=bounds.check_prompt(plan.negative, limits, "unwanted text"),
        promising=bounds.check_number(plan.promising, "promising", *bounds.SCORES, whole=False),
    )


def _check_texts(request: Request, limits: Limits) -> None:
    if request.scheduler is not None and not isinstance(request.scheduler, str):
        raise ParameterError("the sampler is not a name: choose one from the list")
    for subject in request.subjects or ():
        bounds.check_prompt(subject, limits, "subject")
    plan = request.flight_plan
    layout = plan.layout if plan else request.layout
    if layout is not None:
        bounds.check_regions(len(layout.regions), limits)
        for region in layout.regions:
            for text in (region.phrase, region.text, region.negative):
                bounds.check_prompt(text, limits, "text of a region")
    for stack in (request.plugins, *(one.plugins for one in (plan.attempts if plan else ()))):
        _check_stack(stack, limits)


def _check_stack(stack: Sequence[Plugin], limits: Limits) -> None:
    if len(stack) > limits.plugins:
        raise ParameterError(f"{len(stack)} methods are stacked: {limits.plugins} are the most")
    for plugin in stack:
        for parameter in parameters.parameters(type(plugin)):
            value = getattr(plugin, parameter.name)
            bounds.check_local(type(plugin), parameter, value)
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str):
                    bounds.check_prompt(text, limits, parameter.name)
