"""The result panel of a tab: before and after, seeds, verdict, report, what to copy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from adhere.app.jobs import copies, figures
from adhere.app.jobs.limits import LIMITS, Limits
from adhere.app.jobs.methods import named
from adhere.app.jobs.result import Comparison, Result, Shot
from adhere.app.jobs.setup import Setup
from adhere.app.outcome import downloads, verdicts
from adhere.app.outcome.pictures import file_of
from adhere.app.outcome.status import caption_of, summary
from adhere.app.parts import elements, scripts
from adhere.app.parts.elements import tag
from adhere.errors import ParameterError

SIDE = 360
"""Height of the picture on the page, so that it is in view with its controls at 1366x768."""


class Panel:
    """The results of one tab. `outputs` are its components; `show` gives values for them.

    `beside` are those that a tab shows of a result besides.
    """

    def __init__(self, name: str, limits: Limits = LIMITS) -> None:
        self.name, self.limits = name, limits
        self.beside: list[Any] = []

    @property
    def outputs(self) -> list[Any]:
        """Every component that `show` may update."""
        return [
            self.status, *self.pair_outputs, self.seeds, self.gallery, self.report, self.share,
            self.link, self.query, self.json, self.python, self.command, self.all_files,
            self.layout_file, self.plan_file,
        ]  # fmt: skip

    @property
    def pair_outputs(self) -> list[Any]:
        """Every component that `pair` may update."""
        return [
            self.heading, self.slider, self.verdict, self.facts, self.plot, self.files,
            self.file_after, self.file_before,
        ]  # fmt: skip

    def draw(self, status: Any, hint: str) -> None:
        """Put the pictures on the page; `status` is where words go, `draw_report` is to follow."""
        self.status = status
        self.heading = gr.HTML(caption_of(hint), elem_classes="tight", padding=False)
        self.slider = gr.ImageSlider(
            label="Before and after, at the same seed",
            show_label=False,
            type="pil",
            format="png",
            max_height=SIDE,
            interactive=False,
            elem_classes="crisp",
            elem_id=f"{self.name}-slider",
            buttons=["fullscreen"],
        )
        self.verdict = gr.HTML("", elem_id=f"{self.name}-verdict", visible=False)
        self._draw_files()
        self.seeds = gr.HTML(
            caption_of("All seeds"), elem_classes="tight", padding=False, visible=False
        )
        self.gallery = strip("All seeds", f"{self.name}-gallery", visible=False)

    def _draw_files(self) -> None:
        with gr.Row(visible=False, elem_classes="files") as self.files:
            self.file_after = gr.DownloadButton(
                "Download", size="sm", min_width=100, elem_id=f"{self.name}-file"
            )
            self.file_before = gr.DownloadButton("Download the plain one", size="sm", min_width=100)
            self.all_files = gr.DownloadButton("All of them", size="sm", min_width=100)

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
                label="What the methods report, step by step",
                visible=False,
            )
        # Outside: an accordion that is shown again would show it, too.
        self.query = gr.Textbox(visible="hidden", elem_id=f"{self.name}-query")
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
                copy = gr.Button("Copy link", size="sm", elem_id=f"{self.name}-copy")
            with gr.Tab("JSON"):
                self.json = gr.Code(
                    language="json", label="Settings (settings.json)", interactive=False
                )
            with gr.Tab("Python"):
                self.python = gr.Code(language="python", label="Python", interactive=False)
            with gr.Tab("Command line"):
                self.command = gr.Code(language="shell", label="Command line", interactive=False)
                self.layout_file, self.plan_file = (
                    gr.DownloadButton(f"{name}, which the command reads", size="sm", visible=False)
                    for name in (copies.LAYOUT_FILE, copies.PLAN_FILE)
                )
        self.query.change(
            None,
            [self.query, self.link],
            self.link,
            js=scripts.WHOLE_LINK,
            api_visibility="private",
        )
        copy.click(None, self.link, copy, js=scripts.COPY_LINK, api_visibility="private")

    def plain(self, shot: Shot) -> dict[Any, Any]:
        """Updates that show a plain picture while its guided one is made, and nothing older."""
        image = file_of(figures.enlarge(shot.picture.image))
        older = [self.verdict, self.files, self.seeds, self.gallery, self.report, self.share]
        seed = shot.picture.request.seed
        return {
            self.heading: caption_of("Plain", "", f"seed {seed}, without guidance"),
            self.slider: (image, image),
            **{one: gr.update(visible=False) for one in (*older, *self.beside)},
        }

    def show(self, result: Result, tab: str | None = None) -> dict[Any, Any]:
        """Updates that show a result; its link leads to `tab`, the panel's own if left out."""
        if not result.comparisons:
            return {self.status: summary(result)}
        many = len(result.comparisons) > 1
        return {
            self.status: summary(result),
            **self.pair(result, 0),
            self.seeds: gr.update(
                value=caption_of(f"All seeds, {result.comparisons[0].sides[-1][0]}"), visible=many
            ),
            self.gallery: gr.update(
                value=[
                    (file_of(figures.enlarge(one.after.picture.image, 256)), caption(one))
                    for one in result.comparisons
                ],
                visible=many,
                selected_index=0 if many else None,
            ),
            self.report: gr.update(visible=True),
            **self._finished(result, tab or self.name),
        }

    def _finished(self, result: Result, tab: str) -> dict[Any, Any]:
        """What to take along, once nothing is to follow: until then it is of the job before."""
        if not (result.complete or result.stopped):
            return {one: gr.update(visible=False) for one in (self.share, self.all_files)}
        read = {self.layout_file: copies.LAYOUT_FILE, self.plan_file: copies.PLAN_FILE}
        written = downloads.for_command(result.setup)
        return {
            **self.copies(result.setup, tab),
            self.share: gr.update(visible=True),
            self.all_files: gr.update(value=str(downloads.everything(result)), visible=True),
            **{
                button: gr.update(value=written.get(name), visible=name in written)
                for button, name in read.items()
            },
        }

    def copies(self, setup: Setup, tab: str) -> dict[Any, Any]:
        """The set-up in its four forms."""
        forms = {
            self.json: json.dumps(setup.to_json(), indent=2),
            self.python: copies.to_python(setup),
            self.command: copies.to_command(setup),
        }
        try:
            # The page itself writes the whole link: only the browser knows the address it used.
            return {self.query: f"{copies.to_link(setup, self.limits)}&tab={tab}", **forms}
        except ParameterError as too_large:
            return {self.query: "", self.link: str(too_large), **forms}

    def pair(self, result: Result, index: int) -> dict[Any, Any]:
        """Updates that show one comparison of a result."""
        one = result.comparisons[min(max(index, 0), len(result.comparisons) - 1)]
        before = (one.before or one.after).picture.image
        after = one.after.picture.image
        rows = figures.losses(one.after.picture.report)
        judged = verdicts.card(one)
        return {
            self.heading: caption_of(
                one.names[0],
                "After" if one.before else "",
                f"seed {one.seed}" + (": drag the handle" if one.before else ""),
            ),
            self.slider: (file_of(figures.enlarge(before)), file_of(figures.enlarge(after))),
            self.verdict: gr.update(value=judged or "", visible=judged is not None),
            self.facts: facts(one),
            self.plot: gr.update(value=rows, visible=len(rows) > 0),
            **self._pair_files(one),
        }

    def _pair_files(self, one: Comparison) -> dict[Any, Any]:
        before = str(downloads.picture(one.before)) if one.before else None
        return {
            self.files: gr.update(visible=True),
            self.file_after: str(downloads.picture(one.after)),
            self.file_before: gr.update(value=before, visible=before is not None),
        }


def strip(
    label: str,
    name: str,
    *,
    visible: bool = True,
    crisp: bool = True,
    large: bool = False,
    css: str = "",
) -> Any:
    """A row of small pictures to choose from."""
    return gr.Gallery(
        label=label,
        show_label=False,
        format="png",
        object_fit="contain",
        allow_preview=False,
        elem_classes=[
            "strip",
            *(["crisp"] if crisp else []),
            *(["large"] if large else []),
            *css.split(),
        ],
        elem_id=name,
        visible=visible,
        height="auto",
        buttons=[],
    )


def caption(one: Comparison) -> str:
    """A gallery caption: the seed, and the judge's mark where there is one."""
    return f"seed {one.seed}{verdicts.mark(one)}"


def facts(one: Comparison) -> elements.Element:
    """What it took, as a table, and the sentences of the report."""
    report = one.after.picture.report
    rows: list[Sequence[object]] = []
    if one.before is not None:
        rows.append(("seconds, plain", f"{one.before.picture.seconds:.2f}"))
    name = "seconds, guided" if one.before else "seconds"
    rows.append((name, f"{one.after.picture.seconds:.2f}"))
    for key in ("passes", "refinements", "skipped"):
        if report.get(key):
            rows.append((_LABELS[key], _total(report[key])))
    lines = [*report.get("warnings", ()), *report.get("notes", ())]
    notes = tag("ul", *(tag("li", line) for line in lines), css="notes") if lines else None
    flight = report.get("autopilot")
    tries = tries_table(flight) if flight else None
    return tag("div", elements.table(("What it took", "how much"), rows), tries, notes)


def tries_table(flight: Mapping[str, Any]) -> elements.Element:
    """An autopilot's report as a table: scores, and costs in plain pictures."""
    rows = [
        (
            named(one["attempt"]) + (" (kept)" if k == flight["chosen"] else ""),
            one["seed"],
            *("" if one[key] is None else f"{one[key]:.3f}" for key in ("foreseen", "score")),
            f"{one['cost']:.2f}",
        )
        for k, one in enumerate(flight["tries"])
    ]
    return elements.table(("Tried", "seed", "foreseen", "score", "plain pictures"), rows)


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
