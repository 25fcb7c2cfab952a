"""A run that grows: more seeds, variants, prompts, scores; nothing is made twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adhere.eval.cli import eval_app
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.report import gathering
from adhere.eval.run import experiment, generate, growing, models, provenance
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import Options
from adhere.eval.run.growing import More
from adhere.eval.run.shards import Shard
from adhere.eval.scores import scoring
from adhere.eval.suites import suites
from tests.eval import fakes

SLD = experiment.variants_from(["safe-latent-diffusion"])[1]


def make(run: Folder) -> generate.GenerateSummary:
    return generate.generate(run, Shard(), Options(), fakes.fake_load)


def test_seeds_variants_and_prompts_are_added_and_nothing_is_made_twice(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    assert make(run).made == 20
    before = fakes.image_bytes(run)
    manifest = (run.path / "manifest.jsonl").read_bytes()
    suite = suites.find(str(fakes.suite_file(tmp_path, 7)))
    part = growing.grow(run, More(seeds=(2,), variants=(SLD,), suites=(suite,)))
    # 7 prompts, 3 variants, 3 seeds: 63 in all.
    assert (part.entries, part.jobs) == (43, 43)
    grown = Folder(run.path)
    assert grown.manifest.count == grown.manifest.job_count == 63
    keys = [entry.key for entry in grown.manifest.entries()]
    assert len(set(keys)) == 63
    summary = make(grown)
    assert (summary.made, summary.skipped) == (43, 20)
    assert (run.path / "manifest.jsonl").read_bytes() == manifest
    after = fakes.image_bytes(grown)
    assert {name: after[name] for name in before} == before
    assert list(grown.problems()) == []


def test_a_lost_picture_of_the_first_part_comes_out_the_same(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    make(run)
    before = fakes.image_bytes(run)
    growing.grow(run, More(seeds=(2, 3)))
    victim = sorted(run.path.glob("images/*/*.png"))[3]
    victim.unlink()
    make(Folder(run.path))
    assert victim.read_bytes() == before[victim.name]


def test_the_report_is_of_the_whole(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", seeds=1)
    make(run)
    recipes = [evaluators.evaluator("cost")]
    scoring.score(run, recipes)
    growing.grow(run, More(seeds=(1,), variants=(SLD,)))
    grown = Folder(run.path)
    make(grown)
    assert scoring.score(grown, recipes).scored == 20
    told = gathering.gather(grown, recipes, {})
    seconds = {score.variant: score for score in told.scores if score.column == "seconds"}
    assert {name: score.n for name, score in seconds.items()} == {
        "plain": 10, "attend-and-excite": 10, "safe-latent-diffusion": 10,
    }  # fmt: skip
    # Pairs are found across parts.
    assert seconds["safe-latent-diffusion"].difference is not None
    assert seconds["safe-latent-diffusion"].difference.n == 10
    assert told.about["experiment"]["seeds"] == [0, 1]


def test_what_is_there_already_adds_nothing(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    assert growing.grow(run, More(seeds=(0, 1))).entries == 0
    assert run.plans() == ["manifest.jsonl"]
    growing.grow(run, More(seeds=(5,)))
    assert growing.grow(Folder(run.path), More(seeds=(5,))).entries == 0
    (tmp_path / "run" / "manifest-0002.jsonl.bak").write_text("a copy")
    (tmp_path / "run" / "manifest-old.jsonl").write_text("a copy")
    assert Folder(run.path).plans() == ["manifest.jsonl", "manifest-0002.jsonl"]
    # The first plan, given again, is still this run's.
    assert fakes.planned(tmp_path / "run").manifest.count == 30


def test_what_is_another_under_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fakes.planned(tmp_path / "run")
    data = {"attend-and-excite": ["attend-and-excite:step_size=3"]}
    (_, other) = experiment.variants_from(data)
    with pytest.raises(EvaluationError, match="with other plugins or settings"):
        growing.grow(run, More(variants=(other,)))
    path = fakes.suite_file(tmp_path, 5)
    data = json.loads(path.read_text())
    data["items"][0]["prompt"] = "a cat beside a dog"
    path.write_text(json.dumps(data))
    with pytest.raises(EvaluationError, match="item 'i000' of suite 'fake' has changed"):
        growing.grow(run, More(suites=(suites.find(str(path)),)))
    monkeypatch.setattr(provenance, "module_code", lambda module: "edited")
    with pytest.raises(EvaluationError, match=r"code of plugin 'attend-and-excite' changed"):
        growing.grow(run, More(seeds=(9,)))
    assert run.plans() == ["manifest.jsonl"]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    suite, out = fakes.suite_file(tmp_path, 4), str(tmp_path / "out")

    def adhere(*words: object) -> str:
        result = CliRunner().invoke(eval_app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    adhere("run", out, "-s", suite, "--model", "fake", "-m", "cost")
    told = adhere("grow", out, "-p", "attend-and-excite", "--seeds", "2", "-m", "clip-score")
    assert "added 12 pictures to count, 12 to make" in told
    assert "made 12" in adhere("generate", out)
    adhere("score", out)
    adhere("report", out)
    columns = {
        score["column"] for score in json.loads(Path(out, "report.json").read_text())["scores"]
    }
    assert {"seconds", "clip_full"} <= columns


def edited(path: Path, **changes: object) -> str:
    """An experiment's file, with some fields as they are edited to."""
    plain = {
        "name": "mine", "model": "fake", "suites": [str(path.parent / "fake.json")], "seeds": 2,
        "limit": 3, "evaluators": ["cost"], "variants": {"ae": ["attend-and-excite"]},
    }  # fmt: skip
    path.write_text(json.dumps({**plain, **changes}))
    return str(path)


def adhere(*words: object, code: int = 0) -> str:
    """What a command of the evaluation says, in one line."""
    result = CliRunner().invoke(eval_app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_an_edited_experiment_is_grown_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    fakes.suite_file(tmp_path, 4)
    out, path = str(tmp_path / "out"), tmp_path / "e.yaml"

    adhere("run", out, "-c", edited(path, seeds=[0, 2]))
    more = {"no-skull": {"negative_prompt": "a skull"}, "ae": ["attend-and-excite"]}
    edited(path, seeds=3, limit=4, variants=more, evaluators=["cost", "clip-score"])
    told = adhere("run", out, "-c", str(path), code=2)
    assert "limit: 3 there, 4 here; seeds: [0,2] there, [0,1,2] here; variants: [] there" in told
    assert "grow" in told
    # 4 prompts, 3 variants, 3 seeds; 3 by 2 by 2 were there.
    assert "added 24 pictures to count, 24 to make" in adhere("grow", out, "-c", str(path))
    assert "made 24" in adhere("generate", out)
    assert "added 0 pictures" in adhere("grow", out, "-c", str(path))
    # Planned in one go it would have another order; it is the edited experiment all the same.
    assert "made 0" in adhere("run", out, "-c", str(path))
    # Of less there is nothing to be added.
    less = edited(path, seeds=2, limit=2, variants={"ae": ["attend-and-excite"]})
    told = adhere("run", out, "-c", less, code=2)
    assert 'variants: ["no-skull"] there, [] here' in told
    assert "which has all that is asked and more" in told
    assert "grow" not in told
    chosen = json.loads((tmp_path / "out" / "defaults.json").read_text())["evaluators"]
    assert [one["evaluator"] for one in chosen] == ["cost", "clip-score"]
    assert list(Folder(out).problems()) == []


def test_other_evaluators_and_batches_of_an_edited_experiment_are_taken_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "studio", fakes.fake_load)
    fakes.suite_file(tmp_path, 4)
    out, path = str(tmp_path / "out"), tmp_path / "e.yaml"

    def defaults() -> dict[str, Any]:
        read: dict[str, Any] = json.loads((tmp_path / "out" / "defaults.json").read_text())
        return read

    adhere("run", out, "-c", edited(path, seeds=1, evaluators=["cost"]))
    assert defaults() == {"batch": 4, "evaluators": [{"evaluator": "cost"}]}
    scored = {"evaluators": ["cost", "clip-score:templates=none.txt"], "batch": 2}
    told = adhere("plan", out, "-c", edited(path, seeds=1, **scored))
    assert "batch: 2 from now on, and 4 before" in told
    assert "evaluators: cost, clip-score:templates=none.txt from now on, and cost before" in told
    assert [one["evaluator"] for one in defaults()["evaluators"]] == ["cost", "clip-score"]
    assert defaults()["batch"] == 2
    told = adhere("plan", out, "-c", path)  # the same again
    assert "before" not in told
    # What is not said stays, and that is said: it may have been meant.
    silent = json.loads(Path(edited(path, seeds=1)).read_text())
    path.write_text(json.dumps({key: silent[key] for key in silent if key != "evaluators"}))
    held = defaults()
    told = adhere("plan", out, "-c", path)
    assert "batch: 2, as it was planned" in told
    assert "evaluators: cost, clip-score:templates=none.txt, as it was planned" in told
    assert defaults() == held


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 7}, "steps null, and the experiment has 7"),
        ({"primary": "seconds"}, 'primary null, and the experiment has "seconds"'),
        ({"variants": {"ae": ["syngen"]}}, "'ae' with other plugins or settings"),
    ],
)
def test_an_experiment_that_cannot_be_grown_into(
    change: dict[str, object], told: str, tmp_path: Path
) -> None:
    fakes.suite_file(tmp_path, 4)
    out, path = str(tmp_path / "out"), tmp_path / "e.yaml"
    assert CliRunner().invoke(eval_app, ["plan", out, "-c", edited(path)]).exit_code == 0
    edited(path, **change, seeds=3)
    result = CliRunner().invoke(eval_app, ["grow", out, "-c", str(path)])
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert Folder(out).plans() == ["manifest.jsonl"]
    refused = CliRunner().invoke(eval_app, ["plan", out, "-c", edited(path, steps=7)])
    words = " ".join(refused.output.split())
    assert "(steps: null there, 7 here); choose another folder" in words
    assert "grow" not in words
