"""Controls drawn from what parameters say of themselves: no method is known here by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, get_args, get_origin

import gradio as gr

from adhere.app.jobs.copies import changes
from adhere.app.jobs.methods import is_layout, offered, paper, summary, title
from adhere.app.parts.elements import tag
from adhere.app.parts.events import QUIET
from adhere.app.parts.settings import left_out, number_text
from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.guides.parameters import Parameter

_DEFAULT = object()
_WIDE = 60
"""A slider with more than this many default-sized steps is useless; then it is a number field."""


def parameter_named(plugin: type[Plugin], name: str) -> Parameter | None:
    """A method's parameter, if it has one of that name."""
    found = (one for one in parameters.parameters(plugin) if one.name == name)
    return next(found, None)


def drawn(plugin: type[Plugin], hidden: Sequence[str] = ()) -> tuple[Parameter, ...]:
    """The parameters that get a control: not layouts, which are painted, not the hidden, and not
    those that are the server's alone.
    """
    return tuple(
        one
        for one in parameters.parameters(plugin)
        if not is_layout(one) and one.name not in hidden and one.local != ()
    )


def component(parameter: Parameter, value: Any = _DEFAULT) -> Any:
    """The control of one parameter, at its default or another value (as `shown` gives it)."""
    if value is _DEFAULT:
        value = shown(parameter, parameter.default)
    label = parameter.name.replace("_", " ")
    info = parameter.help + (f" · {parameter.source}" if parameter.source else "")
    kinds = parameter.kinds
    optional = NoneType in kinds
    about: dict[str, Any] = {"label": label, "info": info, "interactive": True}
    if parameter.local:
        return gr.Dropdown(list(dict.fromkeys((value, *parameter.local))), value=value, **about)
    if parameter.choices:
        choices = [*([("its own choice", "")] if optional else []), *parameter.choices]
        return gr.Dropdown(choices, value=value, **about)
    if bool in kinds and not optional:
        return gr.Checkbox(value=value, **about)
    if int in kinds or float in kinds:
        return _number(parameter, value, about)
    if any(get_args(kind)[:1] == (str,) for kind in kinds if get_origin(kind) is tuple):
        about["info"] += " · several are parted by commas, or by | where they have commas"
    placeholder = "left out" if optional else None
    return gr.Textbox(value=value, placeholder=placeholder, lines=1, **about)


def shown(parameter: Parameter, value: Any) -> Any:
    """A parameter's value as its control shows it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return _joined([str(item) for item in value])
    return number_text(value) if _is_left_out_number(parameter) else value


def read(parameter: Parameter, value: Any) -> Any:
    """The control's value as plain data for `parameters.from_json`."""
    if value is None or (isinstance(value, str) and not value.strip()):
        if NoneType in parameter.kinds:
            return None
        if _tuples(parameter):
            return []
        if parameter.kind is not str:
            raise ParameterError(f"{parameter.name} is empty: write a value ({parameter.help})")
        return ""
    if isinstance(value, str) and _tuples(parameter):
        return [part.strip() for part in value.split(_mark(value)) if part.strip()]
    if isinstance(value, str) and _is_left_out_number(parameter):
        value = _as_number(parameter, value)
    if isinstance(value, float) and int in parameter.kinds and value.is_integer():
        return int(value)
    return value


def _mark(text: str) -> str:
    """What parts the values of a field: commas, or bars where they have commas themselves."""
    return "|" if "|" in text else ","


def _joined(values: Sequence[str]) -> str:
    if not any("," in value for value in values):
        return ", ".join(values)
    return " | ".join(values) if len(values) > 1 else f"{values[0]} |"


def _as_number(parameter: Parameter, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ParameterError(
            f"{parameter.name}={text.strip()[:40]!r} is no number ({parameter.help}): write a "
            "number, or leave it empty"
        ) from None


class Stack:
    """The methods to choose from and their controls, as components of a page.

    `components` come in a fixed order: the choice first, then every control of every method.
    """

    def __init__(
        self, table: Mapping[str, type[Plugin]] | None = None, hidden: Sequence[str] = ()
    ) -> None:
        self.table = dict(table if table is not None else offered())
        self.hidden = tuple(hidden)
        self.components: list[Any] = []
        self._groups: list[Any] = []

    def draw(self, chosen: Sequence[Plugin] = (), label: str = "Methods to stack") -> None:
        """Put the choice and the (closed) groups of controls on the page, as `chosen` has them."""
        names = [plugin.name for plugin in chosen if plugin.name in self.table]
        self.choice = gr.Dropdown(
            [(title(plugin), name) for name, plugin in self.table.items()],
            value=names,
            multiselect=True,
            label=label,
            info="They act together, in this order; each opens its own controls below",
            elem_classes="stack-choice",
        )
        values = iter(self.fill(chosen)[1:])
        self.components.append(self.choice)
        for name, plugin in self.table.items():
            with gr.Accordion(
                f"{title(plugin)} — {summary(plugin)}",
                open=False,
                visible=name in names,
                elem_classes="method",
                elem_id=f"{label.split()[0].lower()}-{name}",
            ) as group:
                if source := paper(plugin):
                    gr.HTML(tag("span", source, css="quiet"), padding=False)
                for parameter in drawn(plugin, self.hidden):
                    self.components.append(component(parameter, next(values)))
            self._groups.append(group)
        self.choice.change(self._show, self.choice, self._groups, **QUIET)

    def _show(self, chosen: Sequence[str]) -> dict[Any, Any]:
        # By component: a list of one would be taken for the value of the one output.
        names = zip(self.table, self._groups, strict=True)
        return {group: gr.update(visible=name in (chosen or ())) for name, group in names}

    def under(self, name: str) -> list[tuple[Parameter, Any]]:
        """The numbers that may be left out, with their controls, of the methods that have a
        parameter of this name: what a preset stands for.
        """
        each = [
            (plugin, one) for plugin in self.table.values() for one in drawn(plugin, self.hidden)
        ]
        return [
            (one, control)
            for (plugin, one), control in zip(each, self.components[1:], strict=True)
            if parameter_named(plugin, name) and _is_left_out_number(one)
        ]

    def read(self, values: Sequence[Any], extra: Mapping[str, Any] | None = None) -> list[Plugin]:
        """The chosen plugins with their controls' values; `extra` goes to those that know the name.

        Raises:
            ParameterError: a value does not fit.
        """
        chosen, rest = values[0] or [], list(values[1:])
        made: dict[str, Plugin] = {}
        for name, plugin in self.table.items():
            known = drawn(plugin, self.hidden)
            mine, rest = rest[: len(known)], rest[len(known) :]
            if name not in chosen:
                continue
            data = {one.name: read(one, value) for one, value in zip(known, mine, strict=True)}
            for key, value in (extra or {}).items():
                if parameter_named(plugin, key):
                    data[key] = value
            made[name] = parameters.from_json(plugin, data)
        unknown = [name for name in chosen if name not in made]
        if unknown:
            raise ParameterError("that method is not offered here: choose one from the list")
        return [made[name] for name in chosen]

    def fill(self, stack: Sequence[Plugin]) -> list[Any]:
        """Values for `components` that show a given stack, defaults for the rest."""
        by_name = {plugin.name: plugin for plugin in stack if plugin.name in self.table}
        values: list[Any] = [list(by_name)]
        for name, plugin in self.table.items():
            changed = changes(by_name[name]) if name in by_name else {}
            values += [
                shown(one, changed.get(one.name, one.default)) for one in drawn(plugin, self.hidden)
            ]
        return values


def _number(parameter: Parameter, value: Any, about: dict[str, Any]) -> Any:
    low, high = parameter.low, parameter.high
    whole = int in parameter.kinds
    if _is_left_out_number(parameter):
        return left_out(about["label"], about["info"], value=value)
    if low is None or high is None:
        return gr.Number(value=value, precision=0 if whole else None, **about)
    step = 1 if whole else _step(low, high)
    if parameter.default and (high - low) / abs(parameter.default) > _WIDE:
        return gr.Number(value=value, minimum=low, maximum=high, **about)
    return gr.Slider(low, high, value=value, step=step, **about)


def _step(low: float, high: float) -> float:
    """A round step that gives about a hundred positions."""
    for step in (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0):
        if (high - low) / step <= 250:
            return step
    return 10.0


def _tuples(parameter: Parameter) -> bool:
    return any(get_origin(kind) is tuple for kind in parameter.kinds)


def _is_left_out_number(parameter: Parameter) -> bool:
    """Whether it is a number that may be left out."""
    kinds = parameter.kinds
    return NoneType in kinds and (int in kinds or float in kinds) and not parameter.choices
