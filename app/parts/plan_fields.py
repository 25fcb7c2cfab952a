"""An autopilot's plan as fields: what may be changed in it before it is flown.

The fields speak of one prompt; what was changed for one says nothing of another. Which one that is,
and the plan as it was before anybody changed it, travels with them in a hidden field, so that a
click that is quicker than the page finds fields of an earlier prompt, and knows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from adhere.app.jobs import limits as bounds
from adhere.app.jobs.copies import stack_text
from adhere.app.jobs.limits import Limits
from adhere.app.jobs.methods import stack_title
from adhere.app.jobs.setup import Setup
from adhere.app.parts.events import QUIET
from adhere.app.parts.planning import follows, judge_title
from adhere.app.parts.settings import left_out, number_text
from adhere.errors import GuidanceError, ParameterError
from adhere.pipelines.search.plan import PLAIN, Attempt, Pilot, Plan
from adhere.pipelines.studio.request import Request
from adhere.plugins import stack


@dataclass(frozen=True)
class Start:
    """What the fields were filled from: a prompt as it was typed, and its plan."""

    prompt: str
    plan: Plan
    subjects: tuple[str, ...] | None = None

    @classmethod
    def of(cls, request: Request, usual: Pilot) -> Start:
        """What a request asks for; what it says beside its plan is part of that."""
        plan = request.flight_plan or usual.plan(request.prompt)
        negative = ", ".join(filter(None, (request.negative_prompt, plan.negative)))
        return cls(request.prompt, replace(plan, negative=negative), request.subjects)

    def to_text(self) -> str:
        return json.dumps({**vars(self), "plan": self.plan.to_json()})

    @classmethod
    def from_text(cls, text: str) -> Start:
        data = json.loads(text)
        subjects = data["subjects"]
        plan = Plan.from_json(data["plan"])
        return cls(data["prompt"], plan, None if subjects is None else tuple(subjects))


OF_THE_PROMPT = 4
"""So many of the fields, the first, are of the prompt; the others of whoever pays."""


class PlanFields:
    """The fields, as components in a fixed order."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.components: list[Any] = []

    def draw(self, request: Request) -> None:
        """Put the fields on the page, as a request has them."""
        start = Start.of(request, self.limits.pilot)
        text, tried, layout, unwanted, budget, enough, verifier = _values(start)
        with gr.Accordion("Change the plan", open=False, elem_id="autopilot-change"):
            self.tried = gr.Dropdown(
                _choices(start),
                value=tried,
                multiselect=True,
                # What is typed is read as on a command line. And a page that is behind sends what
                # an earlier prompt offered, which is told from its hidden field, not refused.
                allow_custom_value=True,
                label="Tries, in this order",
                info="Take one out, or choose it again to try it last",
                elem_id="autopilot-tries",
            )
            self.layout = gr.Checkbox(
                layout, label="Draw by the layout", elem_id="autopilot-layout"
            )
            self.unwanted = gr.Textbox(
                unwanted,
                label="Keeps out",
                info="what the picture should not show",
                max_lines=2,
                elem_id="autopilot-unwanted",
            )
            with gr.Row():
                self.budget = left_out("Budget", "in plain pictures, from 1", "8", budget)
                self.enough = left_out("Good enough", "the score that ends it", "none", enough)
                self.verifier = gr.Dropdown(
                    [(judge_title(name), name) for name in self.limits.verifiers],
                    value=verifier,
                    label="Judged by",
                    info="what gives scores",
                    interactive=True,
                    min_width=120,
                )
        self.start = gr.Textbox(text, visible="hidden", label="what the plan is for")
        self.components += [
            self.start, self.tried, self.layout, self.unwanted, self.budget, self.enough,
            self.verifier,
        ]  # fmt: skip
        self.layout.input(
            self._with_layout, [self.layout, self.tried, self.start], self.tried, **QUIET
        )
        self.tried.input(self._has_layout, [self.tried, self.start], self.layout, **QUIET)

    @property
    def changes(self) -> list[Any]:
        """The events of a change of the plan, by a hand or by the page, and of its prompt."""
        return [one.change for one in self.components]

    def fill(self, request: Request) -> list[Any]:
        """Values for `components` that show a request's plan."""
        start = Start.of(request, self.limits.pilot)
        values = _values(start)
        values[1] = gr.update(choices=_choices(start), value=values[1])
        values[2] = gr.update(value=values[2], interactive=start.plan.layout is not None)
        return values

    def follow(self, values: Sequence[Any], prompt: str) -> list[Any]:
        """Values for `components` that show a prompt's plan where they are still an earlier one's.

        What is paid and who judges is no prompt's: it stays, and what is wrong with it is said
        elsewhere. An answer that is late must not take back what was typed meanwhile.
        """
        kept = [gr.skip()] * len(values)
        try:
            text = bounds.check_prompt(prompt, self.limits)
            if not text or Start.from_text(values[0]).prompt == text:
                return kept
            filled = self.fill(Request(text, auto=self._pilot_or_usual(values)))
        except GuidanceError:
            return kept
        return [*filled[:OF_THE_PROMPT], *kept[OF_THE_PROMPT:]]

    def _pilot_or_usual(self, values: Sequence[Any]) -> Pilot:
        try:
            return self._pilot(values)
        except GuidanceError:
            return self.limits.pilot

    def _with_layout(self, on: bool, tried: Sequence[str], text: str) -> Any:
        """What is tried, with or without what follows the layout."""
        following = _following(Start.from_text(text))
        others = [one for one in tried or () if one not in following]
        return gr.update(value=others + following if on else others)

    def _has_layout(self, tried: Sequence[str], text: str) -> bool:
        return bool(set(tried or ()) & set(_following(Start.from_text(text))))

    def read(self, values: Sequence[Any], setup: Setup) -> Setup:
        """A set-up flown as the fields say.

        Raises:
            GuidanceError: a field does not read.
        """
        request = setup.request
        pilot, start = self._pilot(values), Start.from_text(values[0])
        planned = pilot.plan(request.prompt)
        if start.prompt != request.prompt:
            return replace(setup, request=replace(request, auto=pilot))
        plan = replace(
            start.plan, budget=pilot.budget, verifier=pilot.verifier, enough=pilot.enough
        )
        plan = self._edited(values, plan)
        auto = pilot if plan == planned else plan
        return replace(setup, request=replace(request, auto=auto, subjects=start.subjects))

    def _edited(self, values: Sequence[Any], plan: Plan) -> Plan:
        _, tried, layout, unwanted, *_ = values
        known = {_text(one): one for one in _likely(plan)}
        chosen = tuple(known.get(text) or _attempt(text) for text in tried or ())
        if not layout:
            chosen = tuple(one for one in chosen if plan.layout_of(one) is None)
        if not chosen:
            raise ParameterError("the plan tries nothing: choose at least one thing to try")
        negative = bounds.check_prompt(unwanted or "", self.limits, "unwanted text")
        return replace(plan, attempts=chosen, negative=negative)

    def _pilot(self, values: Sequence[Any]) -> Pilot:
        *_, budget, enough, verifier = values
        most, usual = self.limits.passes, self.limits.pilot
        paid = bounds.check_number(budget, "budget", 1, most, whole=False)
        least = bounds.check_number(enough, "good enough", *bounds.SCORES, whole=False)
        return Pilot(usual.budget if paid is None else paid, verifier or usual.verifier, least)


def _text(attempt: Attempt) -> str:
    return stack_text(attempt.plugins) if attempt.plugins else PLAIN


def _attempt(text: str) -> Attempt:
    return Attempt("as chosen", () if text == PLAIN else stack(text))


def _values(start: Start) -> list[Any]:
    plan = start.plan
    return [
        start.to_text(),
        [_text(attempt) for attempt in plan.attempts],
        follows(plan),
        plan.negative,
        number_text(plan.budget),
        number_text(plan.enough),
        plan.verifier,
    ]


def _likely(plan: Plan) -> tuple[Attempt, ...]:
    """What a prompt makes likely, whatever judges it, and what its plan has besides."""
    return (*Pilot().plan(plan.prompt).attempts, *plan.attempts)


def _following(start: Start) -> list[str]:
    """Those that follow the plan's layout."""
    found = [_text(one) for one in _likely(start.plan) if start.plan.layout_of(one) is not None]
    return list(dict.fromkeys(found))


def _choices(start: Start) -> list[tuple[str, str]]:
    named = {_text(one): stack_title(one.plugins) for one in _likely(start.plan)}
    return [(name[:1].upper() + name[1:], text) for text, name in named.items()]
