"""How many model passes a job can take at the most, from its settings alone.

A pass is one evaluation of the denoiser for one picture (conditional and unconditional rows
together). Methods that repeat passes say how often in `extra_passes(steps)`; any other method adds
at most one pass to each step: a gradient pass, or the rows of a further text.
"""

from __future__ import annotations

from collections.abc import Sequence

from adhere.guides.guide import Plugin

USUAL_STEPS = 50
"""Steps of a request that leaves them to the model: no pipeline's own number is larger."""


def extra_passes(plugin: Plugin, steps: int) -> int:
    """Passes that one plugin can add to one picture at the most."""
    counted = getattr(plugin, "extra_passes", None)
    return int(counted(steps)) if counted is not None else steps


def most_passes(
    plugins: Sequence[Plugin], steps: int | None, pictures: int, compare: bool = True
) -> int:
    """Passes of a whole job at the most.

    Args:
        plugins: the methods that act together.
        steps: denoising steps; the model's own number if None.
        pictures: seeds.
        compare: whether each picture is also made without the methods.
    """
    count = USUAL_STEPS if steps is None else steps
    guided = count + sum(extra_passes(plugin, count) for plugin in plugins)
    plain = count if compare and plugins else 0
    return pictures * (plain + guided)


def dearest(plugins: Sequence[Plugin], steps: int | None) -> Plugin | None:
    """The plugin that adds most passes."""
    count = USUAL_STEPS if steps is None else steps
    return max(plugins, key=lambda plugin: extra_passes(plugin, count), default=None)
