"""Every evaluator of single pictures as a verifier: one of its columns, turned so that more is
better, for a picture and a prompt that come from no suite.

What a suite's item says, the prompt's own nouns, colours and counts say here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from adhere.errors import ParameterError
from adhere.eval.evaluators import table
from adhere.eval.evaluators.columns import MIOU
from adhere.eval.evaluators.evaluator import Measure, RowEvaluator, Scorer, Shown
from adhere.eval.run.manifest import Entry, Group
from adhere.eval.suites.items import COLOURS, Item, Target
from adhere.layout.layout import Layout
from adhere.pipelines.folders.bars import without_bars
from adhere.prompt.parser import parse
from adhere.verifiers import Verifier

_TOYBOX = (64, 64)
USUAL = ("fully_right", "all_present", "binding", "present")
"""Columns whose mean is the score of an evaluator that has them, where none is named: a picture
that is nearly right is worth more than one that shows nothing."""


def named(name: str, column: str | None, values: str, others: Sequence[str] = ()) -> Verifier:
    """An evaluator's verifier.

    Args:
        name: the evaluator's.
        column: the one of its columns that is the score; its usual ones if left out.
        values: its parameters, `key=value,...`; with `layout=FILE` it is how well things are where
            a layout has them.
        others: names of verifiers that are no evaluators, for the sentence of refusal.

    Raises:
        ParameterError: no evaluator, parameter or column is called so, or it compares whole sets.
    """
    single = {key: kind for key, kind in table.available().items() if hasattr(kind, "load")}
    if name not in single:
        known = ", ".join(sorted({*single, *others}))
        raise ParameterError(f"no verifier is called {name[:80]!r}; there are: {known}")
    values, layout = _placed(values)
    recipe = table.evaluator(f"{name}:{values}" if values else name)
    assert isinstance(recipe, RowEvaluator)
    if layout is None and column == MIOU.name:
        raise ParameterError(
            f"{name}.{column} is held against a layout; give one: {name}.{column}(layout=FILE.json)"
        )
    return _Verifier(
        recipe, _columns(recipe, MIOU.name if layout and not column else column), layout
    )


def _placed(values: str) -> tuple[str, Layout | None]:
    """An evaluator's own parameters, and the layout among them."""
    parts = values.split(",")
    files = [one.partition("=")[2] for one in parts if one.startswith("layout=")]
    own = ",".join(one for one in parts if not one.startswith("layout="))
    return own, Layout.read(files[-1]) if files else None


def _columns(recipe: RowEvaluator, column: str | None) -> tuple[Measure, ...]:
    told = {c.name: c for c in recipe.columns if c.better != "neither" and c.tested}
    if column is None:
        usual = tuple(told[one] for one in USUAL if one in told)
        if found := usual or tuple(told.values())[:1]:
            return found
    elif column in told:
        return (told[column],)
    raise ParameterError(
        f"the verifier {recipe.name!r} has no column {column!r} of which more or less is better; "
        f"it has: {', '.join(told) or 'none'}"
    )


class _Verifier:
    """An evaluator's columns as a score; its models are loaded at the first picture."""

    def __init__(
        self, recipe: RowEvaluator, columns: Sequence[Measure], layout: Layout | None = None
    ) -> None:
        self.recipe, self.columns, self.layout = recipe, columns, layout
        self._scorer: Scorer | None = None

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        self._refuse_others(pictures)
        if self._scorer is None:
            from adhere.pipelines.studio.loading import best_device

            with without_bars():
                self._scorer = self.recipe.load(best_device())
        shown = [
            Shown(picture, _entry(prompt, self.layout))
            for picture, prompt in zip(pictures, prompts, strict=True)
        ]
        scores = []
        for row in self._scorer(shown):
            if isinstance(row, str):
                raise ValueError(row)
            found = [_turned(c, row.values[c.name]) for c in self.columns if c.name in row.values]
            scores.append(sum(found) / len(found) if found else math.nan)
        return scores

    def _refuse_others(self, pictures: Sequence[Image.Image]) -> None:
        """The toybox's small models give numbers for any picture, which would mean nothing."""
        odd = [one.size for one in pictures if one.size != _TOYBOX]
        if odd and getattr(self.recipe, "model", None) == "toybox":
            w, h = odd[0]
            raise ParameterError(
                f"the verifier {self.recipe.name!r} knows pictures of the toybox only (64x64), and "
                f"this one has {w}x{h}; name another, as in "
                "clip-score(model=openai/clip-vit-large-patch14), or give a function"
            )


def _turned(column: Measure, value: float) -> float:
    return value if column.better == "higher" else -value


def _entry(prompt: str, layout: Layout | None) -> Entry:
    asked = item(prompt)
    if layout is not None:
        asked = replace(asked, layout=layout.to_json())
    return Entry(Group("", asked, "", "", (0,)), 0, "")


def item(prompt: str) -> Item:
    """What a prompt asks for: its nouns, and a noun's colour where one of its modifiers is one."""
    things = []
    for entity in parse(prompt).entities:
        words = [word for span in entity.modifiers for word in span.text.lower().split()]
        colour = next((word for word in words if word in COLOURS), None)
        things.append(Target(entity.noun.text, entity.phrase.text, colour))
    return Item("", parse(prompt).text, tuple(things))
