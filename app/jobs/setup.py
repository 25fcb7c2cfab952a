"""A set-up: all that makes a picture, as a value that can be copied, linked and run again."""

from __future__ import annotations

import base64
import json
import pprint
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.errors import GuidanceError, ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.pipelines.studio.request import Request

_KEYS = ("model", "seeds", *(field.name for field in fields(Request) if field.name != "seed"))


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
    if len(request.plugins) > limits.plugins:
        raise ParameterError(
            f"{len(request.plugins)} methods are stacked: {limits.plugins} are the most"
        )
    _check_texts(request, limits)
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
    for plugin in request.plugins:
        for parameter in parameters.parameters(type(plugin)):
            value = getattr(plugin, parameter.name)
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str):
                    bounds.check_prompt(text, limits, parameter.name)


def to_link(setup: Setup) -> str:
    """The query of a link that restores the set-up: `?setup=...`.

    Raises:
        ParameterError: the set-up is too large for a link (a finely painted layout).
    """
    packed = zlib.compress(json.dumps(setup.to_json(), separators=(",", ":")).encode(), 9)
    coded = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    if len(coded) > LIMITS.link_bytes:
        raise ParameterError("this layout is too detailed for a link: copy the JSON instead")
    return f"?setup={coded}"


def from_link(coded: str, models: Sequence[str], limits: Limits = LIMITS) -> Setup:
    """The set-up of a link's `setup` value.

    Raises:
        GuidanceError: it is broken, or asks for more than the limits allow.
    """
    broken = ParameterError("this link is broken or cut off: copy the whole link again")
    if len(coded) > limits.link_bytes:
        raise broken
    try:
        packed = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        # The length is bounded while unpacking: a few bytes can unpack to gigabytes.
        plain = unpacker.decompress(packed, limits.setup_bytes)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise broken
        data = json.loads(plain)
    except (ValueError, zlib.error, RecursionError):
        raise broken from None
    return from_json(data, models, limits)


def to_python(setup: Setup) -> str:
    """A Python snippet that makes the same pictures."""
    data = setup.to_json()
    seeds, model = data.pop("seeds"), data.pop("model")
    body = pprint.pformat(data, indent=1, width=88, sort_dicts=False)
    return (
        "from adhere.pipelines.studio.request import Request\n"
        "from adhere.pipelines.studio.studio import Studio\n\n"
        f"settings = {body}\n\n"
        f"studio = Studio({model!r})\n"
        f"requests = [Request.from_json({{**settings, 'seed': seed}}) for seed in {seeds}]\n"
        "for picture in studio.generate(requests):\n"
        '    picture.image.save(f"picture-{picture.request.seed}.png")\n'
    )


def to_command(setup: Setup) -> str:
    """The command line that makes the same pictures."""
    request = setup.request
    words = ["adhere", "generate", request.prompt, "--model", setup.model]
    words += ["--seeds", ",".join(str(seed) for seed in setup.seeds)]
    for plugin in request.plugins:
        words += ["--plugin", plugin_text(plugin)]
    options = {
        "--negative": request.negative_prompt or None,
        "--subjects": "|".join(request.subjects) if request.subjects else None,
        "--steps": request.steps,
        "--guidance-scale": request.guidance_scale,
        "--width": request.width,
        "--height": request.height,
        "--scheduler": request.scheduler,
        "--layout": "layout.json" if request.layout else None,
    }
    for option, value in options.items():
        if value is not None:
            words += [option, str(value)]
    return " ".join(shlex.quote(word) for word in words)


def plugin_text(plugin: Plugin) -> str:
    """A plugin as the command line takes it, with only what differs from its defaults.

    Values that hold a comma or a bar cannot be told apart in `key=value,...`; then it is JSON.
    """
    changed = changes(plugin)
    if not changed:
        return plugin.name
    texts = {key: _text(value) for key, value in changed.items()}
    if any(text is None for text in texts.values()):
        return json.dumps({"plugin": plugin.name, **{k: _listed(v) for k, v in changed.items()}})
    return plugin.name + ":" + ",".join(f"{key}={text}" for key, text in texts.items())


def changes(plugin: Plugin) -> dict[str, Any]:
    """The parameters of a plugin that are not at their defaults."""
    return {
        parameter.name: getattr(plugin, parameter.name)
        for parameter in parameters.parameters(type(plugin))
        if getattr(plugin, parameter.name) != parameter.default
    }


def _listed(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_listed(item) for item in value]
    return value.to_json() if hasattr(value, "to_json") else value


def _text(value: Any) -> str | None:
    """A value as `key=value` takes it, or None where only JSON can say it."""
    if hasattr(value, "to_json"):
        return None
    parts = [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
    if any(mark in part for part in parts for mark in ",|"):
        return None
    return "|".join(parts)
