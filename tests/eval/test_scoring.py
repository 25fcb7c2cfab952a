"""Scoring: rows and features, shards, resume, bad pictures, missing extras, time and memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from adhere.errors import GuidanceWarning
from adhere.eval import places
from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.cost import Cost
from adhere.eval.evaluators.evaluator import Measure, Row, Shown
from adhere.eval.evaluators.sets import distances, extractors, references
from adhere.eval.evaluators.sets.set_evaluators import (
    ClipDiscrepancy,
    FrechetDistance,
    KernelDistance,
)
from adhere.eval.files import Log
from adhere.eval.report import gathering
from adhere.eval.run import generate
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import Options
from adhere.eval.run.shards import Shard
from adhere.eval.scores import blocks, scoring, stored
from adhere.layout.layout import Layout, Region
from tests.eval import fakes


@dataclass(frozen=True)
class Brightness:
    """A row evaluator that needs no model: the mean of the picture, and of its whole chunk."""

    name: ClassVar[str] = "brightness"
    columns: ClassVar[tuple[Measure, ...]] = (
        Measure("mean", "mean of the pixels"),
        Measure("chunk", "the same over the chunk", "neither"),
    )

    def load(self, device: str) -> Brightness:
        return self

    def __call__(self, shown: Sequence[Shown]) -> list[Row]:
        if any("dog" in one.entry.item.prompt for one in shown) and len(shown) == 1:
            raise ValueError("I cannot look at dogs")
        means = [_mean(one.image) for one in shown]
        return [Row({"mean": mean, "chunk": sum(means)}) for mean in means]


def _mean(image: Image.Image) -> float:
    return float(np.asarray(image.convert("L"), dtype=np.float64).mean())


def tiny_extract(images: Sequence[Image.Image]) -> torch.Tensor:
    """Four features of a picture."""
    pixels = [torch.from_numpy(np.array(image)).float().flatten(0, 1) for image in images]
    return torch.stack([torch.cat([one.mean(0), one.std()[None]]) for one in pixels])


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    real = extractors.load
    monkeypatch.setattr(
        extractors,
        "load",
        lambda spec, device="cpu": tiny_extract if spec == "tiny" else real(spec, device),
    )
    monkeypatch.setitem(evaluators.EVALUATORS, "brightness", Brightness)
    monkeypatch.setattr(blocks, "CHUNK", 8)


def made(folder: Path, **options: object) -> Folder:
    run = fakes.planned(folder, **options)  # type: ignore[arg-type]
    generate.generate(run, Shard(), Options(), fakes.fake_load)
    return run


def key_of(run: Folder, job: str) -> str:
    return next(entry.key for entry in run.manifest.entries() if entry.job == job)


def all_rows(run: Folder) -> dict[str, object]:
    return {key: row["values"] for key, row in stored.scores_of(run, Brightness()).items()}


FRECHET = FrechetDistance(features="tiny", reference="plain")


def test_rows_and_features_for_every_entry(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    summary = scoring.score(run, [Brightness(), FRECHET])
    assert summary.scored == 20
    assert set(all_rows(run)) == {entry.key for entry in run.manifest.entries()}
    features = stored.features_of(run, "tiny")
    assert set(features) == set(run.manifest.jobs())
    job = next(iter(features))
    with Image.open(run.path / run.image(job)) as image:
        assert torch.equal(features[job], tiny_extract([image.convert("RGB")])[0])


@pytest.mark.parametrize("count", [2, 4, 9])
def test_shards_give_the_same_rows_and_features(tmp_path: Path, count: int) -> None:
    one, many = made(tmp_path / "a" / "run"), made(tmp_path / "b" / "run")
    recipes = [Brightness(), FRECHET]
    scoring.score(one, recipes)
    for k in range(count, 0, -1):
        scoring.score(many, recipes, Shard(k, count))
    assert all_rows(one) == all_rows(many)
    both = [stored.features_of(run, "tiny") for run in (one, many)]
    assert all(torch.equal(both[0][job], both[1][job]) for job in both[0])
    texts = [json.dumps(gathering.gather(run, recipes, {}).to_json()) for run in (one, many)]
    assert texts[0] == texts[1]


def test_again_scores_nothing(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    scoring.score(run, [Brightness()])
    again = scoring.score(run, [Brightness()], Shard(2, 3))
    assert (again.scored, again.skipped) == (0, 8)


def test_a_killed_scorer_leaves_whole_rows(tmp_path: Path) -> None:
    run, still = made(tmp_path / "a" / "run"), made(tmp_path / "b" / "run")
    scoring.score(still, [Brightness()])
    scoring.score(run, [Brightness()])
    log = run.path / stored.current(run.place, stored.rows_of(Brightness())) / "01-00001.jsonl"
    log.write_bytes(log.read_bytes()[:-37])
    scoring.score(run, [Brightness()], Shard(1, 1))
    assert all_rows(run) == all_rows(still)


def test_missing_and_truncated_pictures_are_recorded(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    jobs = list(run.manifest.jobs())
    (run.path / run.image(jobs[0])).unlink()
    whole = (run.path / run.image(jobs[1])).read_bytes()
    (run.path / run.image(jobs[1])).write_bytes(whole[: len(whole) // 2])
    summary = scoring.score(run, [Brightness(), FRECHET])
    assert summary.bad.keys() == {jobs[0], jobs[1]}
    found = stored.scores_of(run, Brightness())
    errors = {key: row["error"] for key, row in found.items() if "error" in row}
    assert len(errors) == 2
    assert "picture is missing" in errors[key_of(run, jobs[0])]
    assert "picture is damaged" in errors[key_of(run, jobs[1])]
    assert len(stored.features_of(run, "tiny")) == 18
    told = gathering.gather(run, [Brightness()], {})
    assert any(
        w == "1 pictures have no score of brightness: picture is missing" for w in told.warnings
    )
    # Mended pictures are scored by the next call, the others are not scored twice.
    (run.path / run.image(jobs[1])).write_bytes(whole)
    scoring.score(run, [Brightness(), FRECHET])
    assert len(all_rows_or_errors(run)) == 1
    assert len(stored.features_of(run, "tiny")) == 19


def all_rows_or_errors(run: Folder) -> list[str]:
    rows = stored.scores_of(run, Brightness()).values()
    return [row["error"] for row in rows if "error" in row]


def test_a_score_that_fails_spoils_no_other(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    real = Brightness.__call__

    def broken(self: Brightness, shown: Sequence[Shown]) -> list[Row]:
        if len(shown) > 1 and any("dog" in one.entry.item.prompt for one in shown):
            raise RuntimeError("too much")
        return real(self, shown)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Brightness, "__call__", broken)
        summary = scoring.score(run, [Brightness()])
    errors = all_rows_or_errors(run)
    dogs = [entry for entry in run.manifest.entries() if "dog" in entry.item.prompt]
    assert summary.errors == len(errors) == len(dogs) > 0
    assert all("I cannot look at dogs" in error for error in errors)
    assert len(stored.scores_of(run, Brightness())) == 20


def test_numbers_that_are_none_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path / "run")
    monkeypatch.setattr(
        Brightness, "__call__", lambda self, shown: [Row({"mean": float("nan")}) for _ in shown]
    )
    nothing = torch.full((8, 3), torch.nan)
    monkeypatch.setattr(
        extractors, "load", lambda spec, device: lambda images: nothing[: len(images)]
    )
    summary = scoring.score(run, [Brightness(), FRECHET])
    assert summary.errors == 20
    assert set(all_rows_or_errors(run)) == {"mean is not a finite number"}
    told = gathering.gather(run, [Brightness(), FRECHET], {})
    assert told.scores == []
    assert len(told.left_out) == 1


def test_the_judge_says_what_it_cannot_judge(tmp_path: Path) -> None:
    from adhere.eval.evaluators.judging import ToyboxJudge

    run = made(tmp_path / "run")
    scoring.score(run, [ToyboxJudge()])
    found = stored.scores_of(run, ToyboxJudge())
    for entry in run.manifest.entries():
        row = found[entry.key]
        if "dog" in entry.item.prompt:
            assert "does not know 'dog'" in row["error"]
        else:
            assert set(row["values"]) >= {"present", "unsafe"}


def test_the_judge_scores_layouts() -> None:
    from adhere.eval.evaluators import judging
    from adhere.eval.suites import suites
    from adhere.pipelines.toybox import Judge, Scene, Thing, ground_truth, render

    scene = Scene((Thing("cat", "red", "big", 0, 0), Thing("car", "blue", "small", 36, 36)))
    (suite,) = [suites.read(p) for n, p in suites.available([]).items() if n == "toybox-layouts"]
    values = judging._values(suite.items[0], Judge()([render(scene)])[0])
    assert values["miou"] == 0  # neither thing of this prompt is in the picture
    regions = [Region.painted(f"{t.colour} {t.kind}", t.mask) for t in ground_truth(scene)]
    layout = Layout(tuple(regions))
    item = replace(
        suite.items[0], prompt="a red cat and a blue car", layout=layout.to_json(), relations=()
    )
    values = judging._values(item, Judge()([render(scene)])[0])
    assert values["miou"] == pytest.approx(1, abs=0.02)
    assert values["fully_right"] == 1


def test_copies_of_memorised_pictures_are_counted(tmp_path: Path) -> None:
    from adhere.pipelines.toybox import Scene, Thing, render
    from adhere.pipelines.toybox.world.memorised import MEMORISED

    entry = next(iter(made(tmp_path / "run").manifest.entries()))
    alone = Scene((Thing("lion", "pink", "big", 28, 28),))
    shown = [Shown(render(scene), entry) for scene in (MEMORISED[1].scene, alone)]
    copy, other = evaluators.evaluator("copies").load("cpu")(shown)
    assert copy.values["copied"] == 1
    assert copy.values["nearest"] > 50
    assert other.values["copied"] == 0
    assert other.values["nearest"] < 25


def test_failed_jobs_have_a_reason_instead_of_a_score(tmp_path: Path) -> None:
    run = made(tmp_path / "run", extra=["a refused picture"])
    scoring.score(run, [Brightness()])
    errors = all_rows_or_errors(run)
    assert len(errors) == 4
    assert sum("was not made: PromptError" in error for error in errors) == 2
    assert sum("is not applicable: PromptError" in error for error in errors) == 2
    again = scoring.score(run, [Brightness()])
    assert (again.scored, again.errors) == (0, 0)


def test_a_picture_that_was_swapped_is_not_scored(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    one, two, *_ = run.manifest.jobs()
    whole = (run.path / run.image(one)).read_bytes()
    (run.path / run.image(one)).write_bytes((run.path / run.image(two)).read_bytes())
    summary = scoring.score(run, [Brightness(), FRECHET])
    assert "not the file that was written" in summary.bad[one]
    assert len(all_rows_or_errors(run)) == 1
    assert one not in stored.features_of(run, "tiny")
    (run.path / run.image(one)).write_bytes(whole)
    assert scoring.score(run, [Brightness(), FRECHET]).scored == 8
    assert len(all_rows(run)) == 20


def test_an_extractor_that_fails_leaves_its_distances_out_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run")

    def broken(images: Sequence[Image.Image]) -> torch.Tensor:
        raise ValueError("You have to specify input_ids")

    monkeypatch.setattr(extractors, "load", lambda spec, device="cpu": broken)
    summary = scoring.score(run, [Brightness(), FRECHET])
    assert "input_ids" in summary.left_out[evaluators.slug(FRECHET)]
    assert len(all_rows(run)) == 20


def _with_model(monkeypatch: pytest.MonkeyPatch, model: str) -> Brightness:
    monkeypatch.setattr(Brightness, "models", ("model",), raising=False)
    monkeypatch.setattr(Brightness, "model", model, raising=False)
    return Brightness()


def test_other_weights_under_the_same_path_are_other_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    recipe = _with_model(monkeypatch, str(folder))
    assert scoring.score(run, [recipe]).scored == 20
    assert scoring.score(run, [recipe]).scored == 0
    for name in ("model.safetensors", "chat_template.jinja"):
        (folder / name).write_bytes(b"two")
        assert scoring.score(run, [recipe]).scored == 20
    told = gathering.gather(run, [recipe], {})
    assert any("other weights" in warning for warning in told.warnings)


def test_scores_stay_where_their_weights_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say then that they are of other weights."""
    run = made(tmp_path / "run")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"one")
    recipe = _with_model(monkeypatch, str(weights))
    assert scoring.score(run, [recipe]).scored == 20
    weights.unlink()
    again = scoring.score(run, [recipe])
    assert (again.scored, again.skipped, again.left_out) == (0, 20, {})
    assert gathering.gather(run, [recipe], {}).scores


def test_a_model_that_the_hub_first_gives_while_scoring_is_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    cache: dict[str, str] = {}

    def fetch(model: str, name: str) -> str:
        cache[model] = f"/cache/snapshots/abc/{name}"
        return cache[model]

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda model, name: cache.get(model)
    )

    def load(self: Brightness, device: str) -> Brightness:
        fetch("somebody/judge", "config.json")
        return self

    monkeypatch.setattr(Brightness, "load", load)
    run = made(tmp_path / "run")
    recipe = _with_model(monkeypatch, "somebody/judge")
    assert scoring.score(run, [recipe]).scored == 20
    assert scoring.score(run, [recipe]).scored == 0
    assert stored.current(run.place, stored.rows_of(recipe)).rpartition("/")[2] != "unknown"


def test_weights_exchanged_while_they_are_loaded_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"one")
    recipe = _with_model(monkeypatch, str(weights))
    load = Brightness.load

    def slow(self: Brightness, device: str) -> Any:
        weights.write_bytes(b"two")
        return load(self, device)

    monkeypatch.setattr(Brightness, "load", slow)
    summary = scoring.score(run, [recipe])
    assert "changed while they were loaded" in summary.left_out[evaluators.slug(recipe)]
    assert scoring.score(run, [recipe]).scored == 20


def test_an_evaluator_with_a_fault_of_its_own_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises: somebody else's code is no reason to lose the scores of the others."""

    def broken(self: Cost, device: str) -> Any:
        raise AttributeError("'NoneType' object has no attribute 'encode'")

    run = made(tmp_path / "run")
    monkeypatch.setattr(Cost, "load", broken)
    summary = scoring.score(run, [Cost(), Brightness()])
    assert "AttributeError" in summary.left_out[evaluators.slug(Cost())]
    assert len(all_rows(run)) == 20


def test_the_rest_is_scored_by_whoever_is_free(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    with Log(run.path / "scores" / "at_work" / "01-00001.jsonl"):
        first = scoring.score(run, [Brightness()], Shard(1, 3), rest=True)
    assert (first.busy, first.scored) == (1, 12)
    last = scoring.score(run, [Brightness()], Shard(2, 3), rest=True)
    assert (last.busy, last.scored) == (0, 8)
    assert len(all_rows(run)) == 20


def test_a_metric_without_its_extra_is_left_out(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    inception = FrechetDistance(features="inception", reference="plain")
    summary = scoring.score(run, [inception, Brightness()])
    ((name, why),) = summary.left_out.items()
    assert name.startswith("frechet-")
    assert "torch-fidelity" in why
    assert stored.left_out(run) == summary.left_out
    assert len(all_rows(run)) == 20


def test_empty_reference_folder(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    empty = FrechetDistance(features="tiny", reference=str(tmp_path / "empty"))
    nowhere = FrechetDistance(features="tiny", reference=str(tmp_path / "nowhere"))
    summary = scoring.score(run, [empty, nowhere, Brightness()])
    reasons = " ".join(summary.left_out.values())
    assert "has no pictures" in reasons
    assert "neither a folder of pictures nor a statistics file" in reasons
    assert len(all_rows(run)) == 20


def test_reference_folder_and_statistics_give_the_same(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, (_, data) in enumerate(
        fakes.image_bytes(made(tmp_path / "o" / "run", seeds=9)).items()
    ):
        (photos / f"{number}.png").write_bytes(data)
    by_folder = FrechetDistance(features="tiny", reference=str(photos))
    scoring.score(run, [by_folder])
    kept = references.load(
        str(photos), "tiny", tiny_extract, run.place, stored.current(run.place, "features/none")
    )
    statistics = tmp_path / "photos.safetensors"
    kept.moments.save(statistics, {"features": "tiny"})
    by_file = FrechetDistance(features="tiny", reference=str(statistics))
    kid = KernelDistance(features="tiny", reference=str(statistics))
    told = gathering.gather(run, [by_folder, by_file, kid], {})
    values = [score.mean for score in told.scores if score.column.startswith("frechet@")]
    assert len(values) == 4
    assert values[:2] == pytest.approx(values[2:], rel=1e-9)
    assert any("pair by pair" in why for why in told.left_out.values())


@pytest.mark.parametrize("reference", ["plain", "photos"])
def test_distances_are_compared_on_the_same_pictures(tmp_path: Path, reference: str) -> None:
    """A variant that is not applicable to some prompts, and plain on the others alone."""
    red = [f"a red {noun}" for noun in ("frog", "dog", "car", "bird", "lion")]
    run = fakes.planned(tmp_path / "run", 4, 1, ["syngen"], extra=red)
    generate.generate(run, Shard(), Options(), lambda *_: fakes.noting)
    if reference == "photos":
        (tmp_path / "photos").mkdir()
        others = fakes.image_bytes(made(tmp_path / "o" / "run", seeds=9))
        for number, data in enumerate(others.values()):
            (tmp_path / "photos" / f"{number}.png").write_bytes(data)
        reference = str(tmp_path / "photos")
    recipe = KernelDistance(features="tiny", reference=reference)
    scoring.score(run, [recipe])
    found = {s.variant: s for s in gathering.gather(run, [recipe], {}).scores if s.column == "kid"}

    features = stored.features_of(run, "tiny")
    jobs: dict[str, list[str]] = {"plain": [], "syngen": []}
    for entry in run.manifest.entries():
        if "cat" not in entry.item.prompt:
            jobs[entry.variant].append(entry.job)
    plain, guided = (torch.stack([features[job] for job in some]) for some in jobs.values())
    assert len(guided) == 5 < len(features) - 5
    if reference == "plain":
        assert found["syngen"].mean == pytest.approx(1000 * distances.kid(guided, plain)[0])
        return
    photos = references.load(
        reference, "tiny", tiny_extract, run.place, stored.current(run.place, "features/none")
    ).all_features("kid")
    ours, theirs = (1000 * distances.kid(some, photos)[0] for some in (guided, plain))
    told = found["syngen"].difference
    assert told is not None
    assert (found["syngen"].mean, told.before) == pytest.approx((ours, theirs))
    assert told.mean == pytest.approx(ours - theirs)
    assert found["plain"].mean != pytest.approx(theirs)


def test_scores_can_be_had_again_without_pictures(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    recipes = [
        Brightness(), FRECHET, KernelDistance(features="tiny", reference="plain"),
        ClipDiscrepancy(features="tiny", reference="plain"),
    ]  # fmt: skip
    scoring.score(run, recipes)
    before = gathering.gather(run, recipes, {}).to_json()
    for path in run.path.glob("images/*/*.png"):
        path.unlink()
    assert gathering.gather(run, recipes, {}).to_json() == before


def test_one_extractor_serves_all_its_distances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    monkeypatch.setattr(extractors, "load", lambda spec, device: loads.append(spec) or tiny_extract)
    run = made(tmp_path / "run")
    scoring.score(run, [FRECHET, KernelDistance(features="tiny", reference="plain")])
    assert loads == ["tiny"]


def test_features_are_safetensors_with_their_jobs(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    scoring.score(run, [FRECHET])
    where = run.path / stored.current(run.place, stored.features_at("tiny"))
    files = sorted(where.glob("*/*.safetensors"))
    assert sum(len(load_file(path)["features"]) for path in files) == 20
    files[0].write_bytes(files[0].read_bytes()[:20])
    scoring.score(run, [FRECHET])
    assert len(stored.features_of(run, "tiny")) == 20


def test_a_damaged_reference_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(EvaluationError, match=r"bad\.png cannot be read"):
        references.load(str(tmp_path), "tiny", tiny_extract, places.at(tmp_path), "cache")


@pytest.mark.parametrize("count", [1, 5])
def test_of_animated_reference_pictures_the_first_frames_are_taken_and_that_is_said(
    tmp_path: Path, count: int
) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    (tmp_path / "still").mkdir()
    (tmp_path / "photos").mkdir()
    for number in range(count):
        frames[0].save(tmp_path / "still" / f"{number}.png")
        frames[0].save(
            tmp_path / "photos" / f"{number}.png", save_all=True, append_images=frames[1:]
        )
    frames[0].save(tmp_path / "still" / "one more.png")
    frames[0].save(tmp_path / "photos" / "one more.png")
    place = places.at(tmp_path)
    said = f"{count} files have several frames" if count > 1 else "has 2 frames or pages"
    with pytest.warns(GuidanceWarning, match=said) as told:
        first = references.load(str(tmp_path / "photos"), "tiny", tiny_extract, place, "cache")
    assert len(told) == 1
    assert ("and 2 more)" in str(told[0].message)) == (count == 5)
    still = references.load(str(tmp_path / "still"), "tiny", tiny_extract, place, "cache")
    assert torch.equal(first.all_features("kid"), still.all_features("kid"))


def test_scores_of_an_evaluator_that_has_changed_do_not_mix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = evaluators.evaluator("judge")
    now = evaluators.slug(judge)
    assert evaluators.slug(evaluators.evaluator("judge")) == now
    monkeypatch.setattr(type(judge), "revision", 3)
    assert evaluators.slug(judge) != now


def test_nothing_is_scored_where_the_only_evaluator_is_left_out(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", prompts=2)
    generate.generate(run, load=fakes.fake_load)
    summary = scoring.score(run, [evaluators.evaluator("lmd:model=/nowhere")])
    assert (summary.scored, len(summary.left_out)) == (0, 1)
    both = [evaluators.evaluator("lmd:model=/nowhere"), evaluators.evaluator("cost")]
    summary = scoring.score(run, both)
    assert (summary.scored, len(summary.left_out)) == (run.manifest.count, 1)
