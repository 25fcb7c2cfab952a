"""The report: numbers, intervals, files, and a page that cannot be written into."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Measure, Row, Shown
from adhere.eval.report import gathering, report, tables, wording
from adhere.eval.report.results import Score, verdict
from adhere.eval.report.statistics import Interval
from adhere.eval.run import experiment, generate
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import Options
from adhere.eval.run.shards import Shard
from adhere.eval.scores import scoring
from tests.eval import fakes

ROOT = Path(__file__).parents[2]
EVIL = '</script><img src=x onerror=alert(1)> & "a cat"'


class Stub:
    """Unguided pictures show half of it, guided ones all; one in five the other way round."""

    name = "stub"
    columns = (
        Measure("right", "pictures that are right", "higher", "share"),
        Measure("bad", "pictures that are bad", "lower", "share"),
        Measure("size", "something else", "neither"),
    )

    def load(self, device: str) -> Stub:
        return self

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        rows = []
        for one in shown:
            odd = one.entry.item.id.endswith(("4", "9"))
            guided = one.entry.variant != "plain"
            right = 1.0 if guided != odd else 0.0
            rows.append(Row({"right": right, "bad": 1 - right, "size": 3.0}))
        return rows


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(evaluators, "to_json", lambda recipe: {"evaluator": recipe.name})
    made = fakes.planned(tmp_path / "run", prompts=20, extra=[EVIL, "a refused | picture"])
    generate.generate(made, Shard(), Options(), fakes.fake_load)
    scoring.score(made, [Stub()])
    return made


def test_means_and_paired_differences(run: Folder) -> None:
    found = gathering.gather(run, [Stub()], {})
    by = {(score.variant, score.column): score for score in found.scores}
    plain, guided = by["plain", "right"], by["attend-and-excite", "right"]
    assert (plain.n, plain.prompts) == (42, 21)
    assert plain.mean == pytest.approx(8 / 42)
    assert guided.mean == pytest.approx(34 / 42)
    assert plain.difference is None
    assert guided.difference is not None
    assert guided.difference.mean == pytest.approx(26 / 42)
    assert guided.difference.clear
    assert guided.low is not None
    assert guided.low < guided.mean < guided.high  # type: ignore[operator]
    column = found.columns["right"]
    assert verdict(guided, column) == "better"
    assert guided.difference.before == pytest.approx(plain.mean)
    # Two comparisons can be better or worse; the third score is neither, and is not tested.
    assert guided.adjusted == pytest.approx(2 * (guided.difference.p or 0))
    assert verdict(by["attend-and-excite", "bad"], found.columns["bad"]) == "better"
    assert by["attend-and-excite", "size"].adjusted is None
    assert verdict(by["attend-and-excite", "size"], found.columns["size"]) == ""


def test_all_files_are_written(run: Folder) -> None:
    report.report(run, [Stub()], {"frechet-1": "ExtraMissing: torch-fidelity"})
    markdown = (run.path / "report.md").read_text()
    assert "**+61.9** [" in markdown
    assert "`frechet-1`: ExtraMissing" in markdown
    assert "Pictures that could not be made" in markdown
    assert "torch 2." in markdown
    assert "commit " in markdown
    assert all(line.count("|") == 8 for line in table_lines(markdown))
    rows = list(csv.DictReader(io.StringIO((run.path / "report.csv").read_text())))
    right = [row for row in rows if row["score"] == "right"]
    assert [row["verdict"] for row in right] == ["", "better"]
    assert float(right[1]["difference"]) == pytest.approx(26 / 42)
    data = json.loads((run.path / "report.json").read_text())
    assert data["adhere_results"] == 2
    assert data["model"]["model"] == "fake"
    assert data["pictures"] == {"entries": 88, "jobs": 88, "done": 84}
    # A prompt that a method cannot use is no failure of the method; of the plain picture it is.
    assert len(data["failures"]) == 2
    assert data["outcomes"]["fake"]["attend-and-excite"] == {"done": 42, "not-applicable": 2}
    assert any("nothing to do for 2 of 44" in warning for warning in data["warnings"])
    assert data["settings"] == {"height": [16], "width": [16]}
    assert data["devices"]


def table_lines(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("|")]


class _Page(HTMLParser):
    """Elements of the page, and what a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.data: list[str] = []
        self._script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.fetched += [value for key, value in attrs if key in ("src", "href") and value]
        assert not any(key.startswith("on") for key, _ in attrs)
        self._script = (named.get("type") or "code") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script == "application/json":
            self.data.append(data)
            self._script = None


def test_page_is_one_safe_file(run: Folder) -> None:
    report.report(run, [Stub()], {"<b>": EVIL})
    text = (run.path / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert page.fetched == []
    assert "http:" not in text
    assert "https:" not in text
    (block,) = page.data
    data = json.loads(block)
    pairs = data["pairs"]
    assert EVIL in [pairs["texts"][number] for number in pairs["prompt"]]
    assert len(pairs["seed"]) == 42
    assert all(data["images"][job].startswith("data:image/png;base64,") for job in pairs["after"])
    before, after = pairs["scores"]["right"]
    assert (before[0], after[0]) == (0, 1)


def test_a_picture_that_is_not_the_one_that_was_written_is_not_shown(run: Folder) -> None:
    first, second = sorted(run.done())[:2]
    swapped, cut = (Path(run.path, run.image(job)) for job in (first, second))
    data = swapped.read_bytes()
    # As long as it was, inside the page; and too short, among those that lie beside it.
    swapped.write_bytes(data[:-20] + bytes(20))
    cut.write_bytes(cut.read_bytes()[:-1])
    recipes = [Stub()]
    report.report(run, recipes, {}, formats=["html"])
    text = Path(run.path, "report.html").read_text("utf-8")
    assert "2 pictures are missing or are not the files that were written" in text
    assert first not in text
    assert second not in text


def test_pairs_are_limited_and_spread(run: Folder) -> None:
    from adhere.eval.report.page import spread_evenly

    assert spread_evenly(range(70), 7) == [0, 10, 20, 30, 40, 50, 60]
    report.report(run, [Stub()], {}, pairs=7)
    page = _Page()
    page.feed((run.path / "report.html").read_text())
    data = json.loads(page.data[0])
    assert len(data["images"]) == 14
    # The others are shown from where they lie.
    assert len(data["pairs"]["seed"]) == 42
    assert all((run.path / run.image(job)).is_file() for job in data["pairs"]["before"])


def test_partial_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluators, "to_json", lambda recipe: {"evaluator": recipe.name})
    made = fakes.planned(tmp_path / "run")
    generate.generate(made, Shard(1, 2), Options(), fakes.fake_load)
    scoring.score(made, [Stub()])
    found = report.report(made, [Stub()], {})
    assert found.warnings[0] == "10 of 20 pictures are not made yet: a partial report"


def test_numbers_are_told_in_their_units() -> None:
    share, seconds = Measure("a", "", kind="share"), Measure("b", "", "lower", "seconds")
    assert wording.number(0.1234, share) == "12.3 %"
    assert wording.number(1.234, seconds) == "1.23 s"
    assert wording.number(0.12345, Measure("c", "")) == "0.1235"


def scored(found: Interval, adjusted: float | None) -> Score:
    return Score("s", "v", "e", "a", 0.5, 5, difference=found, adjusted=adjusted)


def test_differences_are_bold_where_the_tests_say_so() -> None:
    share, seconds = Measure("a", "", kind="share"), Measure("b", "", "lower", "seconds")
    apart = Interval(-2.0, -3.0, -1.0, 30, 30, 0.001)
    assert wording.change(scored(Interval(0.1, -0.1, 0.3, 5, 5, 0.5), 1.0), share) == (
        "+10.0 [-10.0, 30.0]"
    )
    assert wording.change(scored(apart, 0.01), seconds) == "**-2.0** [-3.0, -1.0]"
    # Its own test says so, the family of tests does not; or nobody tested it.
    assert wording.change(scored(apart, 0.06), seconds) == "-2.0 [-3.0, -1.0]"
    assert wording.change(scored(apart, None), seconds) == "-2.0 [-3.0, -1.0]"
    assert wording.change(scored(Interval(5.0, None, None, 5, 0), None), seconds) == "+5"
    few = Interval(-2.0, -3.0, -1.0, 9, 9, 0.004)
    assert wording.change(scored(few, 0.01), seconds) == "-2.0 [-3.0, -1.0]"
    odd = Interval(0.0099, -0.0133, 0.0239, 200, 100, 0.4)
    assert wording.change(scored(odd, 0.4), Measure("c", "")) == "+0.010 [-0.013, 0.024]"
    assert verdict(scored(apart, 0.01), seconds) == "better"


def test_compact_table_from_kept_results(run: Folder, tmp_path: Path) -> None:
    found = report.report(run, [Stub()], {}, formats=["json"])
    report.keep(found, tmp_path / "kept.json")
    assert (tmp_path / "kept.json").read_bytes() == (run.path / "report.json").read_bytes()
    data = tables.read(tmp_path / "kept.json")
    head, _, plain, guided = tables.table(data, "fake", ["right", "nothing", "bad"]).splitlines()
    assert head == "| variant | right | bad |"
    assert plain == "| plain | 19.0 % | 81.0 % |"
    assert guided.startswith("| attend-and-excite | 81.0 % (**+61.9** [")
    for score in data["scores"]:
        score["n"] -= score["variant"] == "attend-and-excite"
    *_, plain, guided = tables.table(data, "fake", ["right", "bad"]).splitlines()
    assert plain.startswith("| plain |")
    assert guided.startswith("| attend-and-excite (n = 41) |")
    for text in ("{}", "[]"):
        (tmp_path / "kept.json").write_text(text)
        with pytest.raises(EvaluationError, match="format 2"):
            tables.read(tmp_path / "kept.json")
    for key in ("columns", "scores", "suites", "model", "experiment"):
        for broken in ({k: v for k, v in data.items() if k != key}, {**data, key: [3]}):
            (tmp_path / "kept.json").write_text(json.dumps(broken))
            with pytest.raises(EvaluationError, match="are damaged"):
                tables.read(tmp_path / "kept.json")


def test_a_leaderboard_ranks_the_variants_of_all_results(run: Folder, tmp_path: Path) -> None:
    report.keep(report.report(run, [Stub()], {}, formats=["json"]), tmp_path / "kept.json")
    data = tables.read(tmp_path / "kept.json")
    other = {**data, "model": {"model": "two", "weights": "w"}, "name": "other"}
    lines = list(tables.leaderboard([data, other], "bad"))
    assert [line for line in lines if line.startswith("## ")] == [
        "## fake, fake (weights any), at 16 x 16", "## fake, two (weights w), at 16 x 16",
    ]  # fmt: skip
    first, second, *_ = (line for line in lines if line.startswith(("| 1", "| 2")))
    # Lower is better.
    assert first.startswith("| 1 | attend-and-excite | 19.0 % |")
    assert second.startswith("| 2 | plain | 81.0 % |")
    # A second run of the same stands beside the first, another suite or judge on its own board.
    again = {**data, "name": "again"}
    suite = {**data["suites"]["fake"], "fingerprint": "other"}
    elsewhere = {**data, "suites": {"fake": suite}}
    swapped = {**data, "evaluator_weights": dict.fromkeys(data["evaluator_weights"], "other")}
    lines = list(tables.leaderboard([data, again, elsewhere, swapped], "bad"))
    assert sum(line.startswith("## ") for line in lines) == 3
    rows = [line for line in lines if "| plain |" in line]
    assert len(rows) == 4
    assert sum("again" in line for line in rows) == 1
    # Fewer steps draw worse pictures: a variant of theirs is no rival of the others.
    drawn = {"steps": [4], "scheduler": ["DDIMScheduler"], "width": [64], "height": [32]}
    headings = [
        line for line in tables.leaderboard([data, {**data, "settings": drawn}], "bad")
        if line.startswith("## ")
    ]  # fmt: skip
    assert headings == [
        "## fake, fake (weights any), 4 steps of DDIMScheduler at 64 x 32",
        "## fake, fake (weights any), at 16 x 16",
    ]
    with pytest.raises(EvaluationError, match="no results have the score 'nothing'"):
        list(tables.leaderboard([data], "nothing"))
    with pytest.raises(EvaluationError, match="name a primary score"):
        list(tables.leaderboard([data]))


def test_a_leaderboard_of_the_committed_results_needs_no_option() -> None:
    kept = sorted((ROOT / "eval" / "results").glob("*.json"))
    results = [tables.read(path) for path in kept]
    lines = list(tables.leaderboard(results))
    # One board for all experiments on the same prompts with the same model in the same steps, by
    # the same score of the same judge.
    told_apart = {
        (
            *((name, suite["fingerprint"]) for name, suite in data["suites"].items()),
            data["model"]["weights"],
            *data["settings"]["steps"],
            experiment.data_of(experiment.bundled()[data["name"]])["primary"],
            *(of for name, of in data["evaluator_weights"].items() if name.startswith("judge-")),
        )
        for data in results
    }
    assert 1 < len(told_apart) < len(kept)
    assert sum(line.startswith("## ") for line in lines) == len(told_apart)
    assert not any("is on no board" in line for line in lines)
    for path in kept:
        primary = experiment.data_of(experiment.bundled()[path.stem])["primary"]
        (suite,) = tables.read(path)["suites"]
        boards = [n for n, line in enumerate(lines) if line.startswith(f"## {suite}, ")]
        assert any(f"`{primary}` by" in lines[at + 2] for at in boards)


def test_a_leaderboard_says_what_is_not_on_it(run: Folder, tmp_path: Path) -> None:
    report.keep(report.report(run, [Stub()], {}, formats=["json"]), tmp_path / "kept.json")
    data = tables.read(tmp_path / "kept.json")
    named = {**data, "experiment": {**data["experiment"], "primary": "bad"}, "name": "named"}
    # The name of a bundled experiment alone does not make it that one.
    silent = {**data, "name": "toybox-pairs"}
    *_, last = tables.leaderboard([named, silent])
    assert last == "- toybox-pairs is on no board: it names no primary score (`--score`)."
    bundled = {**silent, "suites": {"toybox-pairs": data["suites"]["fake"]}}
    bundled["scores"] = [{**one, "suite": "toybox-pairs"} for one in data["scores"]]
    bundled["columns"] = {**data["columns"], "fully_right": data["columns"]["right"]}
    *_, last = tables.leaderboard([named, bundled])
    assert last.startswith("- toybox-pairs named no score before")
    *_, last = tables.leaderboard([data, {**data, "name": "b", "columns": {}}], "bad")
    assert last == "- b is on no board: it has no score `bad`."
