"""What pictures cost: the denoiser's passes as they are made, and bounds before they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from adhere.guides.energy import EnergyMethod
from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.engine.session import running
from adhere.pipelines.families import Family


def extra_passes(
    plugins: Sequence[Plugin],
    steps: int,
    evaluations: int | None = None,
    layout: Layout | None = None,
) -> int:
    """Passes that methods together add to one picture at the most, the rows of further texts in the
    denoiser's own passes among them.

    Methods that repeat passes say how often in `extra_passes(steps)`; any other adds at most one to
    each evaluation.

    Args:
        evaluations: more than `steps` where a sampler evaluates twice a step.
        layout: the call's, which methods without one of their own follow.
    """
    added = 0
    for plugin in (_following(one, layout) for one in plugins):
        counted = getattr(plugin, "extra_passes", None)
        added += (evaluations or steps) if counted is None else int(counted(steps))
    shared = [one.guided(steps) for one in plugins if isinstance(one, EnergyMethod)]
    return added - sum(shared) + max(shared, default=0)


def _following(plugin: Any, layout: Layout | None) -> Any:
    """A plugin with the call's layout, if it follows one."""
    followed = layout is not None and getattr(plugin, "layout", layout) is None
    return replace(plugin, layout=layout) if followed else plugin


class Rows:
    """Counts the rows of a denoiser's passes in one call of its pipeline.

    Attributes:
        rows: of all passes that are made.
        own: of them those that the pipeline would make without any method.
        share: how much of the run they are.
        steps: of the whole run, and its `evaluations`, one a step with most samplers.
    """

    def __init__(self, family: Family) -> None:
        self.family = family
        self.rows = self.own = self._asked = 0
        self.share, self.steps, self.evaluations = 1.0, 1, 1

    def __enter__(self) -> Rows:
        model = self.family.denoiser
        before, after = map(torch.compiler.disable, (self._before, self._after))
        # These are put on before those of a guided call: the first sees what the pipeline asks for.
        self._hooks = (
            model.register_forward_pre_hook(before, with_kwargs=True),
            model.register_forward_hook(after, with_kwargs=True),
        )
        return self

    def __exit__(self, *failure: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _before(self, module: Any, args: Any, kwargs: Any) -> None:
        session = running.get()
        rows = self.family.bind(args, kwargs).rows
        if session is None or session.mine():
            self._asked = rows  # made in the end, unless the call is ended here
        else:
            self.rows += rows

    def _after(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        session = running.get()
        if session is not None and not session.mine():
            return
        self.own += self._asked
        self.rows += self.family.bind(args, kwargs).rows
        if session is not None and (clock := session.clock) is not None:
            self.steps, self.evaluations = clock.count, clock.evaluations
            self.share = (clock.made + 1) / clock.evaluations
