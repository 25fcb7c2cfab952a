"""When to use which method: the rule, and that no study is contradicted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from adhere.plugins import PLUGINS
from docs import advice, cards, measured, questions, standing, tables
from docs.measured import Change, Question, Result
from docs.questions import Pick, Situation

LAYOUTS = questions.LAYOUTS


class Told(Question):
    """A question whose results are given."""

    results_: tuple[Result, ...] = ()

    def results(self, toybox: str) -> Iterator[Result]:
        yield from self.results_ if toybox == "toybox" else ()

    def source(self, toybox: str) -> str:
        return f"study of {toybox}.json"


def asked(*results: Result, way: int = 1) -> Question:
    kind = type("Asked", (Told,), {"results_": results})
    question: Question = kind("a thing: it is there", way)
    return question


def result(
    method: str,
    mean: float,
    reach: float,
    passes: float = 0,
    *,
    way: int = 1,
    prompts: int = 50,
    kept: float | None = None,
) -> Result:
    change = Change(0.3, mean, mean - reach, mean + reach, 200, prompts)
    lost = None if kept is None else Change(0.9, kept, kept - 0.05, kept + 0.05, 200, prompts)
    return Result(method, "", change, way, passes, lost)


def begun(*results: Result, way: int = 1) -> str | None:
    found = advice.advice(asked(*results, way=way), "toybox")
    return found and found.first and found.first.method


def test_the_largest_lower_end_of_what_is_clear_of_zero() -> None:
    surer, larger = result("syngen", 0.2, 0.05), result("conform", 0.22, 0.15)
    assert begun(surer, larger) == "syngen"
    assert begun(result("syngen", 0.2, 0.25)) is None
    assert begun() is None


def test_one_about_as_good_for_half_the_passes_goes_first() -> None:
    best = result("conform", 0.3, 0.08, passes=75)
    assert begun(best, result("syngen", 0.25, 0.08, passes=13)) == "syngen"
    assert begun(best, result("syngen", 0.25, 0.08, passes=38)) == "conform"
    # Its interval does not hold the best one's mean: it is only cheaper.
    assert begun(best, result("syngen", 0.25, 0.04, passes=13)) == "conform"


def test_a_part_about_as_good_goes_before_its_stack() -> None:
    stack = result("zestguide+syngen", 0.64, 0.08, passes=13)
    assert begun(stack, result("zestguide", 0.63, 0.08, passes=13)) == "zestguide"
    assert begun(stack, result("boxdiff", 0.63, 0.08, passes=13)) == "zestguide+syngen"
    assert begun(stack, result("zestguide", 0.63, 0.08, passes=20)) == "zestguide+syngen"
    # It is not as good: its interval does not hold the stack's mean.
    assert begun(stack, result("zestguide", 0.56, 0.06, passes=13)) == "zestguide+syngen"


def test_less_is_better_where_the_question_says_so() -> None:
    weak, strong = (result(n, m, 0.05, way=-1) for n, m in (("safree", -0.1), ("sega", -0.3)))
    assert begun(weak, strong, way=-1) == "sega"
    assert begun(result("sega", 0.3, 0.05, way=-1), way=-1) is None


def test_nothing_is_begun_with_what_loses_what_was_asked_for_or_has_few_prompts() -> None:
    assert begun(result("vsf", 0.5, 0.05, kept=-0.4), result("nag", 0.3, 0.05, kept=0)) == "nag"
    assert begun(result("time", 0.9, 0.05, prompts=8)) is None


def test_of_several_settings_the_surest_counts_that_loses_nothing() -> None:
    hard, soft = result("vsf", 0.5, 0.05, kept=-0.4), result("vsf", 0.2, 0.05, kept=0)
    assert measured.best(asked(hard, soft), "toybox") == {"vsf": soft}


def test_figures_are_those_of_the_committed_study() -> None:
    told = json.loads((measured.RESULTS / "effect_toybox.json").read_text("utf-8"))
    (score,) = [
        one
        for one in told["experiments"]["toybox-layouts"]["scores"]
        if (one["variant"], one["column"]) == ("zestguide-1", "miou")
    ]
    change, own = score["difference"], measured.best(LAYOUTS, "toybox")["zestguide"]
    low, high = 100 * change["low"], 100 * change["high"]
    figure = advice.figure(LAYOUTS, own)
    assert f"{100 * change['before']:.0f} -> {100 * score['mean']:.0f} %" in figure
    assert f"**{100 * change['mean']:+.0f} [{low:.0f}, {high:.0f}]**" in figure
    assert figure in advice.index()


def test_pictures_without_common_noises_are_compared_by_both_intervals() -> None:
    """... where no difference could be paired; Newcombe's interval is wider than either."""
    own, base = (
        {"mean": mean, "low": mean - 0.06, "high": mean + 0.08, "n": 100, "prompts": 30}
        for mean in (0.5, 0.2)
    )
    found = measured._apart(own, base)
    assert (found.mean, found.paired) == (pytest.approx(0.3), False)
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.4))


def test_a_difference_without_an_interval_is_not_told() -> None:
    """... such as a study has that was stopped at its first prompt."""
    one = {"mean": 0.2, "n": 1, "prompts": 1, "before": 0.1}
    assert measured._change(one) is None
    assert measured._apart(one, one) is None
    assert measured._change({**one, "low": 0.1, "high": 0.3}) == (0.1, 0.2, 0.1, 0.3, 1, 1, True)


def test_nothing_that_is_recommended_harms() -> None:
    assert advice.contradictions() == []


def test_a_method_that_harms_cannot_be_recommended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = asked(result("sega", -0.2, 0.05))
    monkeypatch.setattr(
        advice, "SITUATIONS", (Situation("lacks a thing", (bad,), (Pick("", "sega"),)),)
    )
    monkeypatch.setattr("sys.argv", ["tables", "--check"])
    assert tables.main() == 1
    told = capsys.readouterr().out
    assert re.search("recommends sega.*lacks a thing.*UNet toybox it harms.*30 -> 10 %", told)


def test_a_card_says_where_its_method_harms(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = asked(result("sega", -0.2, 0.05))
    monkeypatch.setitem(questions.QUESTIONS, "edit", (bad,))
    (told,) = [one for one in advice.contradictions() if "sega.md" in one]
    assert re.search(r"30 -> 10 %.*say so", told)


def test_every_method_is_in_its_task_s_table_and_every_pick_is_a_method() -> None:
    names = [name for _, kinds in advice.tasks().values() for name in kinds]
    assert sorted(names) == sorted([*PLUGINS, *cards.TOOLS])
    assert {pick.method for one in questions.SITUATIONS for pick in one.picks} <= set(names)
    methods = {
        r.method for qs in questions.QUESTIONS.values() for q in qs for r in q.results("toybox")
    }
    assert {one for name in methods for one in name.split("+")} <= {*names, *advice._OTHERS}


def test_a_card_says_what_was_measured_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = asked(result("syngen", 0.2, 0.05, 13)), asked(result("conform", 0.1, 0.2))
    monkeypatch.setattr(standing, "QUESTIONS", {"bind": (one, other), "appear": (one,)})
    *_, row = standing.measured("syngen", "../../").splitlines()
    assert row == (
        "| a thing: it is there | 30 -> 50 %, **+20 [15, 25]**, n = 200, 13 passes | not measured "
        "| [study of toybox.json](../../benchmarks/results/study of toybox.json) |"
    )
    assert "](../results.md)" in standing.measured("syngen", "../../")
    assert "](results.md)" in standing.measured("conform", "../")
    assert standing.measured("sega", "../../") == standing.NOWHERE


def test_the_file_that_a_question_names_has_its_numbers() -> None:
    every = dict.fromkeys(one for several in questions.QUESTIONS.values() for one in several)
    found = [(one, toy) for one in every for toy in measured.TOYBOXES if any(one.results(toy))]
    assert len(found) > 10
    for one, toybox in found:
        assert (measured.RESULTS / one.source(toybox)).is_file()
