"""The methods: one table, from which the CLI, the app, the tests and the docs are derived."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from typing import Any

from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.plugins.attend_and_excite import AttendAndExcite
from adhere.plugins.best_of_noise import BestOfNoise
from adhere.plugins.boxdiff import BoxDiff
from adhere.plugins.conform import Conform
from adhere.plugins.delayed_negative import DelayedNegative
from adhere.plugins.dense_diffusion import DenseDiffusion
from adhere.plugins.ebama import Ebama
from adhere.plugins.initno import InitNO
from adhere.plugins.layout_guidance import LayoutGuidance
from adhere.plugins.paint_with_words import PaintWithWords
from adhere.plugins.safe_latent_diffusion import SafeLatentDiffusion
from adhere.plugins.sega import Sega
from adhere.plugins.syngen import SynGen
from adhere.plugins.zestguide import ZestGuide


def index(*plugins: type[Plugin]) -> dict[str, type[Plugin]]:
    """Plugins by name; refuses what would break somebody later."""
    table: dict[str, type[Plugin]] = {}
    for plugin in plugins:
        name = plugin.name
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            raise ParameterError(f"plugin name {name!r}: use lower case words joined by '-'")
        if name in table:
            raise ParameterError(f"two plugins are called {name!r}: {table[name]} and {plugin}")
        options: Any = getattr(plugin, "__dataclass_params__", None)
        if options is None or not options.frozen:
            raise ParameterError(f"plugin {name!r} must be a frozen dataclass")
        table[name] = plugin
    return table


PLUGINS = index(
    AttendAndExcite,
    SafeLatentDiffusion,
    SynGen,
    ZestGuide,
    PaintWithWords,
    BestOfNoise,
    InitNO,
    Sega,
    DenseDiffusion,
    BoxDiff,
    LayoutGuidance,
    DelayedNegative,
    Conform,
    Ebama,
)


def available() -> dict[str, type[Plugin]]:
    """The table, with the plugins that installed packages bring (entry points `adhere.plugins`)."""
    others = (entry.load() for entry in entry_points(group="adhere.plugins"))
    return index(*PLUGINS.values(), *others)


def plugin(spec: str | dict[str, Any]) -> Plugin:
    """A plugin from the CLI's `name:key=value,...`, or from its JSON as a value or as text.

    Raises:
        ParameterError: unknown plugin or parameter, a value out of range, or JSON that does not
            read.
    """
    if isinstance(spec, str) and spec.lstrip().startswith("{"):
        spec = _parsed(spec)
    if isinstance(spec, dict):
        return parameters.from_json(_named(str(spec.get("plugin", ""))), spec)
    name, _, values = spec.partition(":")
    return parameters.from_text(_named(name.strip()), values)


def _parsed(text: str) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ParameterError(
            f"the plugin {text!r} does not read as JSON ({error}); write for example "
            '\'{"plugin": "attend-and-excite", "stop": 0.4}\', or attend-and-excite:stop=0.4'
        ) from error
    return read


def _named(name: str) -> type[Plugin]:
    table = available()
    if name not in table:
        raise ParameterError(f"no plugin is called {name!r}; there are: {', '.join(sorted(table))}")
    return table[name]
