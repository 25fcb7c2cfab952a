"""A request of a program in plain types, as a job and its answer: for `/generate` and for MCP."""

from __future__ import annotations

import base64
import binascii
import inspect
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Annotated, Any, get_args, get_type_hints

from adhere.app.jobs import setup as setups
from adhere.app.jobs import uploads
from adhere.app.jobs.limits import Limits
from adhere.app.jobs.result import Result
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker
from adhere.app.outcome import verdicts
from adhere.app.parts import placing
from adhere.errors import LayoutError, ParameterError
from adhere.guides import parameters
from adhere.pipelines.search.plan import Pilot
from adhere.pipelines.studio.request import Request
from adhere.plugins import plugin

SUMMARY = "Make one picture that follows its prompt, without training anything."


@dataclass(frozen=True)
class Asked:
    """What programs may say: the parameters of the endpoint and of the MCP tool."""

    prompt: Annotated[str, 'What the picture shows, such as "a red cat and a blue car".']
    plugins: Annotated[
        list[str] | None, 'Methods to stack, as "name" or "name:key=value,key=value" or JSON text.'
    ] = None
    seed: Annotated[int, "The same seed and settings give the same picture."] = 0
    subjects: Annotated[
        list[str] | None, "Phrases of the prompt that must appear; the parser's nouns if left out."
    ] = None
    boxes: Annotated[
        dict[str, list[float]] | None,
        "Where phrases belong: phrase to [left, top, right, bottom], each from 0 to 1.",
    ] = None
    mask_png: Annotated[
        str | None, "Instead of boxes: a PNG in base64 with one colour for each phrase."
    ] = None
    legend: Annotated[
        dict[str, str] | None, 'For mask_png: colour (such as "#ff0000") to phrase.'
    ] = None
    negative_prompt: Annotated[str, "What the picture should not show."] = ""
    steps: Annotated[int | None, "Denoising steps; the model's own number if left out."] = None
    guidance_scale: Annotated[
        float | None, "Classifier-free guidance; the model's own if left out."
    ] = None
    width: Annotated[int | None, "In pixels; the model's own if left out."] = None
    height: Annotated[int | None, "In pixels; the model's own if left out."] = None
    scheduler: Annotated[
        str | None, 'Sampler, such as "ddim" or "euler"; the model\'s own if left out.'
    ] = None
    true_cfg_scale: Annotated[
        float | None, "Classifier-free guidance of a distilled model; its own if left out."
    ] = None
    model: Annotated[str | None, "One of the models this app offers; its first if left out."] = None
    compare: Annotated[bool, "Also make the picture without plugins, at the same seed."] = False
    layout: Annotated[
        dict[str, Any] | None,
        "Instead of boxes: a whole layout, whose regions may have texts, negatives, strengths, "
        'soft edges and times of their own, such as {"regions": [{"text": "a cat", "box": '
        '[0, 0, 0.5, 1], "feather": 0.1}], "base": 0.2}.',
    ] = None
    auto: Annotated[
        bool,
        "Let the autopilot choose methods and noises, and guide only what fails; plan and tries "
        "are in the report.",
    ] = False
    budget: Annotated[
        float | None, "With auto: passes it may make, in those of one plain picture (8)."
    ] = None
    enough: Annotated[
        float | None, "With auto: the score with which a picture is taken; else the best is."
    ] = None

    def setup(self, worker: Worker) -> Setup:
        """The set-up, with every limit held.

        Raises:
            GuidanceError: it does not read, or asks for too much.
        """
        request = Request(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            width=self.width,
            height=self.height,
            scheduler=self.scheduler,
            true_cfg_scale=self.true_cfg_scale,
        ).to_json()
        del request["seed"]
        request |= {
            "plugins": [_plugin(text) for text in _texts(self.plugins, "plugins") or ()],
            "subjects": _texts(self.subjects, "subjects"),
            "layout": self._layout(worker.limits),
            "auto": self._auto(worker.limits.pilot),
        }
        data = {"model": self.model or worker.models[0], "seeds": [self.seed], **request}
        setup = setups.from_json(data, worker.models, worker.limits)
        if setup.request.layout is not None:
            plan = setup.request.flight_plan
            tried = [one for attempt in plan.attempts for one in attempt.plugins] if plan else []
            placing.check_followed([*setup.request.plugins, *tried])
        return setup

    def _auto(self, usual: Pilot) -> dict[str, Any] | None:
        if self.auto:
            budget = usual.budget if self.budget is None else self.budget
            return replace(usual, budget=budget, enough=self.enough).to_json()
        for name in ("budget", "enough"):
            if getattr(self, name) is not None:
                raise ParameterError(f"{name} says how the autopilot flies: give auto=true, too")
        return None

    def _layout(self, limits: Limits) -> dict[str, Any] | None:
        given = [name for name in ("boxes", "mask_png", "layout") if getattr(self, name)]
        if len(given) > 1:
            raise LayoutError(f"{' and '.join(given)} are given: give one of them")
        return self.layout or _layout(self.boxes, self.mask_png, self.legend, limits)


def offered(
    fn: Callable[..., Any], returns: Any, *, without: Sequence[str] = (), **more: Any
) -> Callable[..., Any]:
    """A function with the fields of `Asked` as its parameters, for servers that read signatures.

    Args:
        fn: is called with the values, in the order of the fields or by their names.
        returns: the type of its answer.
        without: fields that are not offered.
        more: further parameters that the server itself fills in, with their types.
    """
    hints = get_type_hints(Asked, include_extras=True)
    empty = inspect.Parameter.empty
    shown = {
        one.name: empty if one.default is MISSING else one.default
        for one in fields(Asked)
        if one.name not in without
    }
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter(name, kind, annotation=get_args(hints[name])[0], default=default)
        for name, default in shown.items()
    ]
    parameters += [
        inspect.Parameter(name, kind, annotation=hint, default=None) for name, hint in more.items()
    ]
    signature = inspect.Signature(parameters, return_annotation=returns)
    fn.__signature__ = signature  # type: ignore[attr-defined]
    fn.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": returns}
    lines = (f"    {name}: {get_args(hints[name])[1]}" for name in shown)
    fn.__doc__ = "\n".join([SUMMARY, "", "Args:", *lines])
    return fn


def made(worker: Worker, asked: Asked, stop: threading.Event) -> Result:
    """The finished result; without `compare` only the guided picture is made.

    Raises:
        GuidanceError: it does not read, asks for too much, or was stopped.
    """
    last: Result | None = None
    for event in worker.run(asked.setup(worker), stop, compare=asked.compare):
        if isinstance(event, Result):
            last = event
    if last is None or not last.complete:
        raise ParameterError("the picture was not finished: try again")
    return last


def report(result: Result) -> dict[str, Any]:
    """What was asked, what it took, and what the judge says, as plain data."""
    one = result.comparisons[0]
    before = one.before
    return {
        "settings": result.setup.to_json(),
        "seconds": round(one.after.picture.seconds, 3),
        "seconds_plain": round(before.picture.seconds, 3) if before else None,
        "report": one.after.picture.report,
        "judged": verdicts.judged(one.after),
        "judged_plain": verdicts.judged(before) if before else None,
    }


def _layout(
    boxes: Mapping[str, Any] | None,
    mask_png: str | None,
    legend: Mapping[str, str] | None,
    limits: Limits,
) -> dict[str, Any] | None:
    if boxes:
        if not isinstance(boxes, Mapping):
            raise LayoutError("boxes must map a phrase to [left, top, right, bottom]")
        return {
            "regions": [{"phrase": phrase, "box": box} for phrase, box in boxes.items()],
            "overlap": "last",
        }
    if mask_png:
        if not isinstance(legend or {}, Mapping):
            raise LayoutError('legend must map a colour to a phrase: {"#ff0000": "a red cat"}')
        lines = "\n".join(f"{key} = {phrase}" for key, phrase in (legend or {}).items())
        phrases = placing.read_legend(lines, limits)
        image = uploads.decode(_from_base64(mask_png, limits), limits)
        regions, _ = placing.from_mask(image, phrases)
        return {"regions": [region.to_json() for region in regions]}
    return None


def _texts(given: list[str] | None, name: str) -> list[str] | None:
    """The texts of a list; a text alone would be taken for its letters."""
    if given is None or (isinstance(given, list) and all(isinstance(one, str) for one in given)):
        return given
    raise ParameterError(f"{name} is {str(given)[:60]}: give a list of texts")


def _plugin(text: str) -> dict[str, Any]:
    """A plugin's JSON, from JSON text or from the command line's `name:key=value,...`."""
    if not text.lstrip().startswith("{"):
        return parameters.to_json(plugin(text))
    try:
        data = json.loads(text)
    except ValueError:
        raise ParameterError(f"plugins: {text[:60]!r} is no JSON: check its braces") from None
    return dict(data)


def _from_base64(text: str, limits: Limits) -> bytes:
    if len(text) > limits.upload_bytes * 4 // 3 + 4:
        raise LayoutError("mask_png is too large: send a smaller picture")
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError):
        raise LayoutError("mask_png is no base64 text: encode the bytes of a PNG file") from None
