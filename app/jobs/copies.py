"""A set-up in forms to copy: a link, Python, a command line. All make the very same pictures."""

from __future__ import annotations

import base64
import json
import pprint
import shlex
import zlib
from collections.abc import Sequence
from typing import Any

from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.setup import Setup, from_json
from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.pipelines.search.plan import Pilot, Plan
from adhere.plugins import stack

LAYOUT_FILE = "layout.json"
"""The file that the command line reads a layout from; the app offers it for download."""
PLAN_FILE = "plan.json"
"""The same for an autopilot's edited plan."""


def to_link(setup: Setup, limits: Limits = LIMITS) -> str:
    """The query of a link that restores the set-up: `?setup=...`.

    Raises:
        ParameterError: the set-up is too large for a link (a finely painted layout).
    """
    packed = zlib.compress(json.dumps(setup.to_json(), separators=(",", ":")).encode(), 9)
    coded = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    if len(coded) > limits.link_bytes:
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
        f"for seed in {seeds}:\n"
        "    # One at a time, as the app does: what else is in a batch moves the last bits.\n"
        "    (picture,) = studio.generate([Request.from_json({**settings, 'seed': seed})])\n"
        '    picture.image.save(f"picture-{seed}.png")\n'
    )


def to_command(setup: Setup) -> str:
    """The command line that makes the same pictures; a layout is in `layout.json` beside it, an
    edited plan in `plan.json`.
    """
    request = setup.request
    # A plan has its own prompt.
    prompt = [] if isinstance(request.auto, Plan) else [request.prompt]
    # Behind `--` a prompt such as "-a cat" is no option.
    dashed = any(text.startswith("-") for text in prompt)
    first: list[str] = [] if dashed else prompt
    last: list[str] = ["--", *prompt] if dashed else []
    words = ["adhere", "generate", *first, "--model", setup.model]
    words += [*seeds_text(setup.seeds), "--batch-size", "1"]
    if request.plugins:
        words += ["--plugin", stack_text(request.plugins)]
    words += _auto_text(request.auto)
    options = {
        "--negative": request.negative_prompt or None,
        "--subjects": "|".join(request.subjects) if request.subjects else None,
        "--steps": request.steps,
        "--guidance-scale": request.guidance_scale,
        "--true-cfg": request.true_cfg_scale,
        "--width": request.width,
        "--height": request.height,
        "--scheduler": request.scheduler,
        "--layout": LAYOUT_FILE if request.layout else None,
    }
    for option, value in options.items():
        if value is not None:
            words += [option, str(value)]
    return " ".join(shlex.quote(word) for word in (*words, *last))


def _auto_text(auto: Pilot | Plan | None) -> list[str]:
    """The options for an autopilot."""
    if isinstance(auto, Plan):
        return ["--plan", PLAN_FILE]
    if auto is None:
        return []
    usual, given = Pilot().to_json(), auto.to_json()
    changed = [name for name in usual if given[name] != usual[name]]
    options = ([f"--{name.replace('_', '-')}", str(given[name])] for name in changed)
    return ["--auto", *(word for option in options for word in option)]


def seeds_text(seeds: Sequence[int]) -> list[str]:
    """The option for some seeds: a lone number behind `--seeds` would be how many."""
    if len(seeds) == 1:
        return ["--seed", str(seeds[0])]
    return ["--seeds", ",".join(str(seed) for seed in seeds)]


def stack_text(plugins: Sequence[Plugin]) -> str:
    """Plugins as `--plugin` takes them: joined by `+`, or a JSON list where a value has a `+`."""
    text = "+".join(plugin_text(plugin) for plugin in plugins)
    if "{" not in text and stack(text) == tuple(plugins):
        return text
    return json.dumps([parameters.to_json(plugin) for plugin in plugins])


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
