"""Controls are drawn from the parameters of whatever methods there are."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from adhere import plugins
from adhere.app.jobs import methods
from adhere.app.parts import controls
from adhere.app.parts.controls import Stack
from adhere.errors import ParameterError
from adhere.guides import parameters


def drawn(stack: Stack) -> list[Any]:
    """The values a page would send back if nobody touched a control."""
    with gr.Blocks():
        stack.draw()
    return [component.value for component in stack.components]


@pytest.fixture(scope="module")
def full() -> tuple[Stack, list[Any]]:
    """All methods, drawn once, and the values of their untouched controls."""
    stack = Stack()
    return stack, drawn(stack)


@pytest.mark.parametrize("name", sorted(methods.offered()))
def test_untouched_controls_give_the_defaults(name: str, full: tuple[Stack, list[Any]]) -> None:
    stack, values = full
    assert stack.read([[name], *values[1:]]) == [plugins.plugin(name)]


@pytest.mark.parametrize("name", sorted(plugins.PLUGINS))
def test_every_control_is_labelled_and_explained(name: str) -> None:
    plugin = plugins.PLUGINS[name]
    with gr.Blocks():
        for parameter in controls.drawn(plugin):
            made = controls.component(parameter)
            assert made.label == parameter.name.replace("_", " ")
            assert parameter.help in made.info
            assert parameter.source in made.info


@pytest.mark.parametrize("name", sorted(methods.offered()))
def test_fill_is_the_inverse_of_read(name: str, full: tuple[Stack, list[Any]]) -> None:
    stack, _ = full
    made = plugins.plugin(name)
    values = stack.fill([made])
    assert len(values) == len(stack.components)
    assert stack.read(values) == [made]


@pytest.mark.parametrize(
    "texts",
    [(), ("cat",), ("cat", "red car"), ("an oil painting, dark",), ("a, b", "c"), ("c", "a, b")],
)
def test_texts_keep_their_commas(texts: tuple[str, ...]) -> None:
    plugin = plugins.PLUGINS["concept-guidance"]
    parameter = controls.parameter_named(plugin, "concepts")
    assert parameter is not None
    assert tuple(controls.read(parameter, controls.shown(parameter, texts)) or ()) == texts


@pytest.mark.parametrize("written", ["0, 0.5", "0|0.5", "0 | 0.5 |", "0,0.5,"])
def test_values_are_parted_by_commas_or_bars(written: str) -> None:
    parameter = controls.parameter_named(plugins.PLUGINS["attend-and-excite"], "refine_at")
    assert parameter is not None
    assert controls.read(parameter, written) == ["0", "0.5"]


def test_order_of_the_choice_is_the_order_of_the_stack(full: tuple[Stack, list[Any]]) -> None:
    stack, values = full
    names = sorted(plugins.PLUGINS)[:3][::-1]
    assert [plugin.name for plugin in stack.read([names, *values[1:]])] == names


def test_hidden_parameters_come_from_elsewhere() -> None:
    table = {n: p for n, p in plugins.PLUGINS.items() if controls.parameter_named(p, "concept")}
    stack = Stack(table, hidden=("concept",))
    values = drawn(stack)
    values[0] = list(table)[:1]
    made = stack.read(values, {"concept": "a skull", "nobody_knows": 3})[0]
    assert made.concept == "a skull"  # type: ignore[attr-defined]


def test_values_out_of_range_are_one_sentence() -> None:
    plugin, parameter = next(
        (plugin, one)
        for plugin in plugins.PLUGINS.values()
        for one in controls.drawn(plugin)
        if one.high is not None and isinstance(one.default, float)
    )
    stack = Stack({plugin.name: plugin})
    values = drawn(stack)
    values[0] = [plugin.name]
    values[1 + controls.drawn(plugin).index(parameter)] = parameter.high + 1
    with pytest.raises(ParameterError, match=parameter.name):
        stack.read(values)


def test_unknown_method_is_refused(full: tuple[Stack, list[Any]]) -> None:
    stack, values = full
    with pytest.raises(ParameterError, match="not offered"):
        stack.read([["nope"], *values[1:]])


def test_layouts_get_no_control() -> None:
    for plugin in methods.offered().values():
        kinds = {one.name for one in controls.drawn(plugin)}
        layouts = {one.name for one in parameters.parameters(plugin)} - kinds
        assert bool(layouts) == methods.has_layout(plugin)


def test_titles_are_short_and_papers_named() -> None:
    for plugin in plugins.PLUGINS.values():
        assert 0 < len(methods.title(plugin)) <= 40
        assert methods.title(plugin)[0].isupper(), "a raw name"
        assert methods.summary(plugin)
    named = {name: methods.title(plugin) for name, plugin in plugins.PLUGINS.items()}
    assert named["ebama"] == "EBAMA"
    assert named["best-of-noise"] == "Best of noise"
    papers = [methods.paper(plugin) for plugin in plugins.PLUGINS.values()]
    assert sum("arXiv:" in paper for paper in papers) >= len(papers) - 2
    assert not [paper for paper in papers if paper.count("(") or paper.count(")")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_number_that_is_none_is_refused_by_its_name(value: float) -> None:
    counts = [
        (kind, parameter)
        for kind in methods.offered().values()
        for parameter in controls.drawn(kind)
        if int in parameter.kinds and parameter.high is not None
    ]
    assert counts
    for kind, parameter in counts:
        with pytest.raises(ParameterError, match=parameter.name):
            parameters.from_json(kind, {parameter.name: controls.read(parameter, value)})
