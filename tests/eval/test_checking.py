"""Published figures beside ours: what agrees, what differs, what cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adhere.eval.cli import eval_app
from adhere.eval.commands import checking
from adhere.eval.commands.checking import Figure, Published
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.run import experiment, models
from tests.eval import fakes

NAMES = [name for name in experiment.bundled() if name.startswith("published-")]


def report(model: str = "m", **score: Any) -> dict[str, Any]:
    told = {"suite": "s", "variant": "plain", "column": "tiam", "mean": 0.4, "low": 0.35,
            "high": 0.45, **score}  # fmt: skip
    return {"model": {"model": model}, "scores": [told]}


def said(figure: Figure, results: dict[str, Any], **judge: str) -> str:
    (line,) = checking.check(Published("a paper", "m", (figure,), judge), results)
    return line.said


def test_agrees_within_both_sampling_errors() -> None:
    assert said(Figure("plain", "tiam", 0.45), report()) == "agrees"
    assert said(Figure("plain", "tiam", 0.46), report()) == "differs"
    # 100 prompts: the published figure has a spread of its own, of 9.8 points either way.
    assert said(Figure("plain", "tiam", 0.54, prompts=100), report()) == "agrees"
    assert said(Figure("plain", "tiam", 0.56, prompts=100), report()) == "differs"


def test_other_weights_and_other_judges_are_never_compared() -> None:
    figure = Figure("plain", "tiam", 0.4)
    told = said(figure, report(model="toybox"))
    assert told == "not comparable: made by toybox, published of m"
    assert "judged there by YOLO" in said(figure, report(), tiam="YOLO")
    assert "no interval" in said(figure, report(low=None, high=None))


def test_the_very_score_is_looked_up() -> None:
    figure = Figure("plain", "tiam", 0.4, suite="s", tag="2")
    assert said(figure, report()) == "no such score in this run"
    assert said(figure, report(tag="2", column="tiam@detector-1")) == "agrees"
    assert said(Figure("plain", "tiam", 0.4, suite="other"), report()) == (
        "no such score in this run"
    )


@pytest.mark.parametrize("name", NAMES)
def test_committed_figures_are_of_scores_that_the_experiment_gives(name: str) -> None:
    told = checking.published(Path(name))
    made = experiment.read(Path(name), {})
    columns = evaluators.columns([evaluators.evaluator(spec) for spec in made.evaluators])
    variants = {variant.name for variant in made.variants}
    assert told.source
    for figure in told.figures:
        assert figure.column in columns
        assert figure.variant in variants
        assert 0 <= figure.value <= 1


def test_figures_that_do_not_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("suites: [toybox-pairs]\n")
    with pytest.raises(EvaluationError, match=r"no published figures; these do: .*saga"):
        checking.published(path)
    path.write_text("published: {source: a, model: b, figures: [{variant: plain, valeu: 1}]}\n")
    with pytest.raises(EvaluationError, match="valeu"):
        checking.published(path)
    figure = "{variant: plain, column: binding, value: high}"
    path.write_text(f"published: {{source: a, model: b, figures: [{figure}]}}\n")
    with pytest.raises(EvaluationError, match="value of 'binding' is 'high', not a number"):
        checking.published(path)
    path.write_text("published: {source: a, model: b, figures: [], judge: 3}\n")
    with pytest.raises(EvaluationError, match="judge is 3, not columns"):
        checking.published(path)


def test_the_command_says_what_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    out = str(tmp_path / "out")

    def adhere(*words: str) -> Any:
        return CliRunner().invoke(eval_app, list(words))

    nothing = adhere("check", "published-toybox", out)
    assert nothing.exit_code == 2
    assert "has no report yet" in " ".join(nothing.output.split())
    assert adhere("run", out, "-c", "published-toybox").exit_code == 0
    told = adhere("check", "published-toybox", out)
    assert told.exit_code == 0, told.output
    assert told.output.count("not comparable: made by toybox, published of CompVis") == 2
    assert "| plain | all_present | 0.454 | 0 |" in told.output
    report = tmp_path / "out" / "report.json"
    whole = report.read_text()
    for text in (whole[:50], "[]", whole.replace('"variant"', '"varaint"')):
        report.write_text(text)
        broken = adhere("check", "published-toybox", out)
        assert broken.exit_code == 2
        assert "report.json" in "".join(broken.output.split())
