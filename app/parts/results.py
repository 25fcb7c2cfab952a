"""The result panel of a tab: status, before and after, seeds, verdict, report, what to copy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import figures
from adhere.app.jobs import setup as setups
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.workshop import Glimpse, Pair, Result
from adhere.app.parts import elements, verdicts
from adhere.app.parts.elements import tag
from adhere.errors import ParameterError

WHOLE_LINK = """(query, link) =>
  query ? location.origin + location.pathname + query : link"""
COPY_LINK = """async (query) => {
  if (!query) return query;
  const link = location.origin + location.pathname + query;
  try { await navigator.clipboard.writeText(link); } catch (denied) { /* the box shows it too */ }
  return link;
}"""


class Panel:
    """The results of one tab. `components` are its outputs; `show` gives values for them."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def outputs(self) -> list[Any]:
        """Every component that `show` may update."""
        return [
            self.status, *self.pair_outputs, self.seeds, self.gallery, self.report, self.share,
            self.link, self.query, self.json, self.python, self.command,
        ]  # fmt: skip

    @property
    def pair_outputs(self) -> list[Any]:
        """Every component that `pair` may update."""
        return [self.heading, self.slider, self.verdict, self.facts, self.plot]

    def draw(self, hint: str) -> None:
        """Put status and pictures on the page; `draw_report` is to follow."""
        self.status = gr.HTML(
            say(hint), elem_id=f"{self.name}-status", padding=False, elem_classes="status-box"
        )
        self.heading = gr.HTML(
            caption_of("Before", "After", "at the same seed"),
            elem_classes="tight",
            padding=False,
            visible=False,
        )
        self.slider = gr.ImageSlider(
            label="Before and after, at the same seed",
            show_label=False,
            type="pil",
            format="png",
            max_height=440,
            interactive=False,
            elem_classes="crisp",
            elem_id=f"{self.name}-slider",
            buttons=["download", "fullscreen"],
        )
        self.verdict = gr.HTML("", elem_id=f"{self.name}-verdict", visible=False)
        self.seeds = gr.HTML(
            caption_of("All seeds, guided"), elem_classes="tight", padding=False, visible=False
        )
        self.gallery = gr.Gallery(
            label="All seeds, guided",
            show_label=False,
            format="png",
            object_fit="contain",
            allow_preview=False,
            elem_classes=["crisp", "strip"],
            elem_id=f"{self.name}-gallery",
            visible=False,
            height="auto",
        )

    def draw_report(self) -> None:
        """Put the report and what to copy on the page, below whatever a tab adds of its own."""
        with gr.Accordion("Report", open=False, visible=False) as self.report:
            self.facts = gr.HTML("")
            self.plot = gr.LinePlot(
                x="step",
                y="value",
                color="series",
                color_title=" ",
                y_title=" ",
                height=300,
                label="What the methods made smaller, step by step",
                visible=False,
            )
        with gr.Accordion("Copy these settings", open=False, visible=False) as self.share:
            self._draw_share()

    def _draw_share(self) -> None:
        with gr.Tabs():
            with gr.Tab("Link"):
                self.link = gr.Textbox(
                    label="A link that restores this set-up",
                    lines=2,
                    interactive=False,
                    buttons=["copy"],
                    elem_id=f"{self.name}-link",
                )
                copy = gr.Button("Copy link", size="sm")
            with gr.Tab("JSON"):
                self.json = gr.Code(language="json", label="Settings", interactive=False)
            with gr.Tab("Python"):
                self.python = gr.Code(language="python", label="Python", interactive=False)
            with gr.Tab("Command line"):
                self.command = gr.Code(language="shell", label="Command line", interactive=False)
        self.query = gr.Textbox(visible="hidden", elem_id=f"{self.name}-query")
        self.query.change(
            None, [self.query, self.link], self.link, js=WHOLE_LINK, api_visibility="private"
        )
        copy.click(None, self.query, self.link, js=COPY_LINK, api_visibility="private")

    def show(self, result: Result, tab: str | None = None) -> dict[Any, Any]:
        """Updates that show a result; its link leads to `tab`, the panel's own if left out."""
        if not result.pairs:
            return {self.status: summary(result)}
        setup = result.setup
        return {
            self.status: summary(result),
            **self.pair(result, 0),
            self.seeds: gr.update(visible=len(result.pairs) > 1),
            self.gallery: gr.update(
                value=[(figures.enlarge(p.after.image, 256), caption(p)) for p in result.pairs],
                visible=len(result.pairs) > 1,
                selected_index=0 if len(result.pairs) > 1 else None,
            ),
            self.report: gr.update(visible=True),
            self.share: gr.update(visible=True),
            **self.copies(setup, tab or self.name),
        }

    def copies(self, setup: Setup, tab: str) -> dict[Any, Any]:
        """The set-up in its four forms."""
        forms = {
            self.json: json.dumps(setup.to_json(), indent=2),
            self.python: setups.to_python(setup),
            self.command: setups.to_command(setup),
        }
        try:
            # The page itself writes the whole link: only the browser knows the address it used.
            return {self.query: f"{setups.to_link(setup)}&tab={tab}", **forms}
        except ParameterError as too_large:
            return {self.query: "", self.link: str(too_large), **forms}

    def pair(self, result: Result, index: int) -> dict[Any, Any]:
        """Updates that show one pair of a result."""
        pair = result.pairs[min(max(index, 0), len(result.pairs) - 1)]
        before = pair.before or pair.after
        rows = figures.losses(pair.after.report)
        judged = verdicts.card(pair, result.setup.request.prompt)
        return {
            self.heading: gr.update(
                value=caption_of(
                    "Before" if pair.before else "Plain",
                    "After" if pair.before else "Plain",
                    f"seed {pair.seed}: drag the handle",
                ),
                visible=True,
            ),
            self.slider: (figures.enlarge(before.image), figures.enlarge(pair.after.image)),
            self.verdict: gr.update(value=judged or "", visible=judged is not None),
            self.facts: facts(pair),
            self.plot: gr.update(value=rows, visible=len(rows) > 0),
        }


def caption_of(left: str, right: str = "", middle: str = "") -> elements.Element:
    """A heading above pictures; with `right`, one that names both sides."""
    parts = [tag("strong", left)]
    if middle:
        parts.append(tag("span", middle, css="quiet"))
    if right:
        parts.append(tag("strong", right))
    return tag("div", *parts, css="caption")


def say(text: str, kind: str = "") -> elements.Element:
    """The status line."""
    return tag(
        "div", tag("div", text, css="text"), css=f"status {kind}".strip(), role="status",
        aria_live="polite",
    )  # fmt: skip


def growing(glimpse: Glimpse) -> elements.Element:
    """The status line of work in progress: previews, what is being done, a bar."""
    percent = round(100 * glimpse.share)
    bar = tag(
        "div",
        tag("div", style=f"width:{percent}%"),
        css="bar",
        role="progressbar",
        aria_valuenow=percent,
        aria_valuemin=0,
        aria_valuemax=100,
        aria_label="progress",
    )
    shown = [
        elements.inline_image(image, "preview of the growing picture", "crisp")
        for image in glimpse.images[:4]
    ]
    return tag("div", *shown, tag("div", glimpse.stage, bar, css="text"), css="status")


def summary(result: Result) -> elements.Element:
    """The status line of a result."""
    made = len(result.pairs)
    if result.stopped:
        kept = f"{made} finished, kept below" if made else "nothing was finished"
        return say(f"Stopped within a step; {kept}. Generate again when you like.")
    text = f"{made} of {len(result.setup.seeds)} done" if not result.complete else "Done"
    both = [pair for pair in result.pairs if pair.before is not None]
    plain = sum(pair.before.seconds for pair in both if pair.before)
    guided = sum(pair.after.seconds for pair in result.pairs)
    if plain:
        text += f": {plain:.1f} s plain, {guided:.1f} s guided ({guided / plain:.1f}×)"
    else:
        text += f": {guided:.1f} s"
    judged = verdicts.tally(result.pairs, result.setup.request.prompt)
    return say(f"{text}; {judged}" if judged else text, "well")


def caption(pair: Pair) -> str:
    """A gallery caption: the seed, and the judge's mark where there is one."""
    mark = verdicts.mark(pair)
    return f"seed {pair.seed}{mark}"


def facts(pair: Pair) -> elements.Element:
    """What it took, as a table, and the sentences of the report."""
    report = pair.after.report
    rows: list[Sequence[object]] = []
    if pair.before is not None:
        rows.append(("seconds, plain", f"{pair.before.seconds:.2f}"))
    rows.append(("seconds, guided" if pair.before else "seconds", f"{pair.after.seconds:.2f}"))
    for key in ("passes", "refinements", "skipped"):
        if report.get(key):
            rows.append((_LABELS[key], _total(report[key])))
    lines = [*report.get("warnings", ()), *report.get("notes", ())]
    notes = tag("ul", *(tag("li", line) for line in lines), css="notes") if lines else None
    return tag("div", elements.table(("What it took", ""), rows), notes)


_LABELS = {
    "passes": "extra passes",
    "refinements": "refinements",
    "skipped": "updates left out (gradient not finite)",
}


def _total(value: object) -> str:
    """A count, or the sum of `(step, count)` pairs with the steps they fell on."""
    if isinstance(value, list) and value and isinstance(value[0], (list, tuple)):
        total = sum(count for _, count in value)
        places = ", ".join(f"{count} at step {step}" for step, count in value if count)
        return f"{total} ({places})"
    return str(value)
