"""What an autopilot tried, as a strip that grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs.result import Result, Tried, Update
from adhere.app.outcome.pictures import file_of
from adhere.app.outcome.results import strip
from adhere.app.outcome.status import caption_of


class Tries:
    """The strip of one tab."""

    def draw(self, name: str) -> None:
        """Put it on the page."""
        self.heading = gr.HTML(
            caption_of("What was tried", "", "score, and cost in plain pictures"),
            elem_classes="tight",
            padding=False,
            visible=False,
        )
        self.strip = strip("What was tried", f"{name}-tried", visible=False, css="told")

    @property
    def outputs(self) -> list[Any]:
        """Every component that is updated."""
        return [self.heading, self.strip]

    def growing(self, update: Update) -> dict[Any, Any]:
        """Updates while a flight goes on."""
        return {} if update.tries is None else self._shown(update.tries, None)

    def finished(self, result: Result, index: int) -> dict[Any, Any]:
        """Updates for one picture of a result."""
        after = result.comparisons[min(index, len(result.comparisons) - 1)].after
        return self._shown(after.tries, after.picture.report["autopilot"]["chosen"])

    def _shown(self, tries: Sequence[Tried], kept: int | None) -> dict[Any, Any]:
        seen = [(k, one) for k, one in enumerate(tries) if one.image is not None]
        places = [k for k, _ in seen]
        pictures = [(file_of(one.image), caption(one, k == kept)) for k, one in seen if one.image]
        chosen = places.index(kept) if kept in places else None
        return {
            self.heading: gr.update(visible=bool(seen)),
            self.strip: gr.update(value=pictures, selected_index=chosen, visible=bool(seen)),
        }


def caption(one: Tried, kept: bool) -> str:
    """A try in two lines: its score and cost, and what it was."""
    score = _score(one.score) if one.finished else f"{_score(one.foreseen)} foreseen"
    return f"{'✓ kept, ' if kept else ''}{score} · {one.cost:.1f}\n{one.name}, seed {one.seed}"


def _score(value: float | None) -> str:
    return "no score" if value is None else f"{value:.3f}"
