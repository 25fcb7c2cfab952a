"""A job's passes are known before it begins: what methods really take is within the estimate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adhere import Guidance, plugins
from adhere.app.jobs import limits as bounds
from adhere.app.jobs import methods
from adhere.app.jobs import setup as setups
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.passes import USUAL_STEPS, extra_passes, most_passes
from adhere.app.jobs.setup import Setup
from adhere.errors import ParameterError
from adhere.layout.layout import Layout, Region
from adhere.pipelines.studio.request import Request
from tests import stored, tiny
from tests.verifying import NEEDED

STEPS = 6


def test_passes_of_a_job_add_up() -> None:
    syngen = plugins.plugin("syngen")
    assert most_passes((), 10, 3) == 30
    assert most_passes((syngen,), 10, 3) == 3 * (10 + 10 + 10)
    assert most_passes((syngen,), 10, 3, compare=False) == 3 * (10 + 10)
    assert most_passes((), None, 1) == USUAL_STEPS
    wild = plugins.plugin("initno:rounds=100,passes=1000")
    assert most_passes((wild,), 25, 1) > 100_000


def test_too_many_passes_are_refused_with_the_number_and_the_culprit() -> None:
    wild = (plugins.plugin("syngen"), plugins.plugin("initno:rounds=100,passes=1000"))
    with pytest.raises(ParameterError, match=r"100,\d{3} model passes.*6,000.*InitNO"):
        bounds.check_passes(wild, 25, 1, LIMITS)
    request = Request(prompt="a cat and a frog", plugins=wild)
    data = Setup("toybox", request, (0,)).to_json()
    with pytest.raises(ParameterError, match="model passes"):
        setups.from_json(data, ("toybox",))


@pytest.mark.parametrize("name", sorted(plugins.PLUGINS))
def test_every_method_at_its_defaults_is_within_the_limits(name: str) -> None:
    bounds.check_passes((plugins.plugin(name),), USUAL_STEPS, LIMITS.seeds, LIMITS)


@pytest.mark.parametrize("name", sorted(plugins.PLUGINS))
def test_a_method_takes_no_more_than_it_says(name: str) -> None:
    """On a tiny random model, where targets are never met and every repetition is made."""
    plugin: Any = plugins.plugin(name)
    for needed in NEEDED.keys() & vars(plugin).keys():
        plugin = replace(plugin, **{needed: NEEDED[needed]})
    plugin = replace(plugin, **stored.needed(set(vars(plugin)), (4, 32, 32)))
    layout = Layout((Region("cat", box=(0.0, 0.0, 0.5, 1.0)),))
    asked = 0

    def counted() -> bool:
        nonlocal asked
        asked += 1
        return False

    pipe = tiny.sd1()
    given = layout if methods.has_layout(type(plugin)) else None
    with Guidance(plugin).attach(pipe, layout=given, interrupt=counted):
        pipe("a cat and a frog", num_inference_steps=STEPS, output_type="latent")
    assert STEPS <= asked <= STEPS + extra_passes(plugin, STEPS)
