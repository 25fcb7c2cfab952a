"""Generation: resume, shards, retries, kills, a full disk."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adhere.eval import files
from adhere.eval.errors import EvaluationError
from adhere.eval.files import rows
from adhere.eval.run import generate, provenance
from adhere.eval.run.folder import Folder
from adhere.eval.run.generate import Options
from adhere.eval.run.shards import Shard
from adhere.layout.layout import Layout, Region
from adhere.layout.masks import Mask
from adhere.pipelines.studio.request import Picture, Request
from adhere.plugins import PLUGINS
from tests.eval import fakes


def run_shards(run: Folder, count: int, batch: int = 4) -> list[generate.GenerateSummary]:
    return [
        generate.generate(run, Shard(k, count), Options(batch=batch), fakes.fake_load)
        for k in range(1, count + 1)
    ]


def test_makes_every_job_once(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    (summary,) = run_shards(run, 1)
    assert summary.made == run.manifest.job_count == 20
    assert {path.stem for path in run.path.glob("images/*/*.png")} == set(run.manifest.jobs())
    assert list(run.problems()) == []


def test_again_makes_nothing(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 1)
    before = fakes.image_bytes(run)
    (again,) = run_shards(run, 1)
    assert (again.made, again.skipped) == (0, 20)
    assert fakes.image_bytes(run) == before


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_any_number_of_shards_makes_the_same_set(tmp_path: Path, count: int) -> None:
    one = fakes.planned(tmp_path / "a" / "run")
    many = fakes.planned(tmp_path / "b" / "run")
    run_shards(one, 1)
    made = [summary.made for summary in run_shards(many, count)]
    assert sum(made) == 20
    assert fakes.image_bytes(one) == fakes.image_bytes(many)


def test_killed_at_ten_moments_with_changing_shards(tmp_path: Path) -> None:
    """The final set equals that of an undisturbed run, byte for byte (200 jobs)."""
    still = fakes.planned(tmp_path / "still" / "run", prompts=20, seeds=5)
    assert still.manifest.job_count == 200
    run_shards(still, 1)
    shaken = fakes.planned(tmp_path / "shaken" / "run", prompts=20, seeds=5)
    rng = random.Random(7)
    load = fakes.slow_load(0.003)
    for _ in range(10):
        count = rng.choice((1, 2, 3, 4))
        children = [
            fakes.in_child(
                lambda k=k, count=count: generate.generate(
                    shaken, Shard(k, count), Options(batch=4), load
                )
            )
            for k in range(1, count + 1)
        ]
        time.sleep(rng.uniform(0.01, 0.12))
        for child in children:
            fakes.kill(child)
    partly = len(list(shaken.path.glob("images/*/*.png")))
    assert partly > 0
    run_shards(shaken, 3)
    assert fakes.image_bytes(shaken) == fakes.image_bytes(still)
    assert list(shaken.problems()) == []


def test_png_bytes_hold_the_request_and_no_time(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", prompts=1, seeds=1, plugins=[])
    run_shards(run, 1)
    (path,) = run.path.glob("images/*/*.png")
    with Image.open(path) as image:
        told = image.text["adhere"]  # type: ignore[attr-defined]
    assert path.stem in told
    assert "a cat and a dog" in told
    first = path.read_bytes()
    path.unlink()
    time.sleep(1.1)
    run_shards(run, 1)
    assert path.read_bytes() == first


def test_failures_are_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", extra=["a refused picture", "a broken picture"])
    (summary,) = run_shards(run, 1)
    assert summary.made == 20
    assert (len(summary.failed), len(summary.not_applicable)) == (6, 2)
    failed = [row for row in run.ledger().records() if row["status"] != "done"]
    refused = [row for row in failed if "PromptError" in row["error"]]
    # Of a guided picture it is no failure, when its prompt gives the method nothing to do.
    assert sorted(row["status"] for row in refused) == ["failed"] * 2 + ["not-applicable"] * 2
    broken = [row for row in failed if "RuntimeError: out of memory" in row["error"]]
    assert (len(refused), len(broken)) == (4, 4)
    assert all(row["permanent"] and row["attempts"] == 1 for row in refused)
    assert all(not row["permanent"] and row["attempts"] == 3 for row in broken)


def test_a_picture_that_its_methods_left_alone_is_not_applicable(tmp_path: Path) -> None:
    """Whatever else is in its batch, and only where no method of the stack did anything."""
    outcomes = []
    for batch in (1, 4):
        plugins = ["syngen", "attend-and-excite+syngen"]
        run = fakes.planned(
            tmp_path / f"run{batch}", 2, 1, plugins, extra=["a red frog", "a red dog"]
        )
        generate.generate(run, Shard(), Options(batch=batch), lambda *_: fakes.noting)
        ledger = run.ledger()
        entries = list(run.manifest.entries())
        states = ledger.find([entry.job for entry in entries])
        outcomes.append(
            {entry.key: ledger.status(int(at)) for entry, at in zip(entries, states, strict=True)}
        )
    assert outcomes[0] == outcomes[1]
    idle = {key for key, status in outcomes[0].items() if status == "not-applicable"}
    assert idle == {"fake/i000/syngen/0", "fake/i001/syngen/0"}
    (row, _) = (row for row in run.ledger().records() if row["status"] == "not-applicable")
    assert "no noun has a modifier" in row["error"]


def test_a_new_run_tries_what_may_work_now(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", extra=["a refused picture", "a broken picture"])
    run_shards(run, 1)

    def mended(*_: object) -> object:
        return lambda requests: [fakes.picture(one, requests) for one in requests]

    again = generate.generate(run, Shard(), Options(), mended)
    assert (again.made, again.skipped) == (4, 24)
    forced = generate.generate(run, Shard(), Options(retry_failed=True), mended)
    assert (forced.made, forced.skipped) == (4, 24)
    assert run.done() == set(run.manifest.jobs())


def test_a_lost_picture_is_made_again(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 1)
    before = fakes.image_bytes(run)
    victim = sorted(run.path.glob("images/*/*.png"))[3]
    victim.unlink()
    (summary,) = run_shards(run, 1)
    assert summary.made == 1
    assert fakes.image_bytes(run) == before


def test_a_torn_log_line_is_passed_over(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 1)
    log = run.path / "done" / "1-of-1.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-30])
    assert len(run.done()) == 19
    run_shards(run, 1)
    assert len(run.done()) == 20
    assert len(list(rows(log.read_bytes()))) == 20


@pytest.mark.parametrize(
    ("place", "status"),
    [({"box": (0, 0, 0.5, 1)}, "not-applicable"), ({"mask": Mask(10, 30, (0, 300))}, "failed")],
)
def test_a_mask_made_for_another_picture_is_a_failure(place: Any, status: str) -> None:
    """A phrase that the prompt lacks gives a method nothing to do; such a mask is a fault."""
    layout = Layout((Region("a cat", **place),))
    request = Request("a photo", plugins=(PLUGINS["zestguide"](),), layout=layout)

    def make(requests: Sequence[Request]) -> Sequence[Picture]:
        for one in requests:
            assert one.layout is not None
            one.layout.check_masks((64, 64))
            one.layout.check(one.prompt)
        return []

    (outcome,) = generate.make_batch(make, (("job", request),), {"job"})
    assert outcome.record["status"] == status
    wanted = "save the mask in the picture's aspect" if status == "failed" else "fit the prompt"
    assert wanted in outcome.record["error"]


def test_full_disk_stops_with_a_reason_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fakes.planned(tmp_path / "run")
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EvaluationError, match=r"disk is full.*kept"):
        run_shards(run, 1)
    monkeypatch.setattr(files.os, "fsync", real)
    assert not list(run.path.glob("**/*.tmp"))
    done = len(run.done())
    assert 0 < done < 20
    (summary,) = run_shards(run, 1)
    assert summary.skipped == done
    assert list(run.problems()) == []


def test_two_processes_cannot_be_the_same_shard(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    with run.log("1-of-1"), pytest.raises(EvaluationError, match="shard of its own"):
        run_shards(run, 1)


def test_leftovers_of_the_dead_are_swept_and_of_the_living_kept(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    dead = run.path / "writing" / "x.png.1-of-3.123.tmp"
    alive = run.path / "writing" / "y.png.2-of-3.124.tmp"
    dead.parent.mkdir(exist_ok=True)
    dead.touch()
    alive.touch()
    with run.log("2-of-3"):
        run.sweep()
    assert (dead.exists(), alive.exists()) == (False, True)


def test_a_damaged_picture_is_found(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 1)
    first, second = sorted(run.path.glob("images/*/*.png"))[:2]
    first.write_bytes(first.read_bytes()[:50])
    second.unlink()
    stranger = run.path / "images" / "zz" / "stranger.png"
    stranger.parent.mkdir()
    stranger.touch()
    found = list(run.problems())
    assert len(found) == 3
    for word in (
        "is not the file that was written; `adhere eval generate",
        "is missing",
        "belongs to no job",
    ):
        assert sum(word in text for text in found) == 1


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    (model / "unet" / "config.json").write_text("{}")
    from adhere.eval.run import experiment, manifest, models

    suite = fakes.suite_file(tmp_path, 2)
    made = experiment.from_mapping({"model": str(model), "suites": [str(suite)]})
    run = Folder(tmp_path / "run")
    planned = models.fingerprint(str(model))
    run.plan(manifest.plan(made, planned))
    (model / "card.json").write_text("{}")  # beside the pipeline: changes no picture
    assert models.fingerprint(str(model)) == planned
    (model / "unet" / "config.json").write_text("{ }")
    assert models.fingerprint(str(model)) != planned
    with pytest.raises(EvaluationError, match=r"weights of .* changed"):
        run_shards(run, 1)


@pytest.mark.parametrize("index", [None, "{", "[]"])
def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path, index: str | None) -> None:
    from adhere.eval.run import models

    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(EvaluationError, match="holds no pipeline"):
        models.fingerprint(str(tmp_path))


# -- where pictures come from


def test_a_done_row_says_by_whom_when_and_with_what(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 1)
    row = next(run.ledger().records())
    assert set(row["made"]) == {"host", "time", "versions", "revision"}
    assert row["made"]["versions"]["torch"]
    assert row["settings"] == {"width": 16, "height": 16}
    assert row["bytes"] == (run.path / run.image(row["job"])).stat().st_size


def test_a_truncated_picture_is_made_again(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 1)
    before = fakes.image_bytes(run)
    victim = sorted(run.path.glob("images/*/*.png"))[5]
    victim.write_bytes(victim.read_bytes()[:-20])
    (summary,) = run_shards(run, 1)
    assert summary.made == 1
    assert fakes.image_bytes(run) == before


def test_code_that_changed_since_the_plan_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 2)[0]
    monkeypatch.setattr(provenance, "module_code", lambda module: "edited")
    (run.path / "images").rename(run.path / "gone")
    with pytest.raises(EvaluationError, match=r"code of plugin 'attend-and-excite' changed"):
        run_shards(Folder(run.path), 1)
    monkeypatch.setattr(provenance, "engine_code", lambda: "edited")
    with pytest.raises(EvaluationError, match=r"code of the engine changed"):
        run_shards(Folder(run.path), 1)


def test_a_plugins_code_is_its_file_and_what_it_imports_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "somebody"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "method.py").write_text("from somebody.formula import loss\n")
    (package / "formula.py").write_text("loss = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = []
    for text in ("loss = 1\n", "loss = 2\n"):
        (package / "formula.py").write_text(text)
        provenance.module_code.cache_clear()
        told.append(provenance.module_code("somebody.method"))
    assert told[0] != told[1]


def test_pictures_of_several_versions_are_told(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    run_shards(run, 1)
    log = run.path / "done" / "1-of-1.jsonl"
    first, *others = log.read_text().splitlines()
    changed = json.loads(first)
    changed["made"]["versions"]["torch"] = "1.0"
    log.write_text("\n".join([json.dumps(changed), *others]) + "\n")
    assert any("several versions of torch" in problem for problem in run.problems())


def test_black_pictures_are_failures(tmp_path: Path) -> None:
    def black(*_: object) -> object:
        image = Image.new("RGB", (16, 16))
        return lambda requests: [fakes.Picture(image, one, {}, 0.0) for one in requests]

    run = fakes.planned(tmp_path / "run", prompts=2, seeds=1)
    summary = generate.generate(run, Shard(), Options(), black)
    assert (summary.made, len(summary.failed)) == (0, 4)
    assert all("wholly black" in error for error in summary.failed.values())


def test_a_decoder_that_gives_nan_is_told(tmp_path: Path) -> None:
    from types import SimpleNamespace

    import torch

    from adhere.eval.run import models

    decoder = torch.nn.Conv2d(3, 3, 1)
    models.refuse_what_is_not_finite(SimpleNamespace(vae=SimpleNamespace(decoder=decoder)))
    decoder(torch.ones(1, 3, 4, 4))
    with torch.no_grad():
        decoder.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(EvaluationError, match="gave NaN or infinity"):
        decoder(torch.ones(1, 3, 4, 4))
    models.refuse_what_is_not_finite(SimpleNamespace(vae=None))


# -- file systems that lack something


def test_a_plan_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    run = fakes.planned(tmp_path / "run")
    assert fakes.planned(tmp_path / "run").manifest.fingerprint == run.manifest.fingerprint
    with pytest.raises(EvaluationError, match="other settings"):
        fakes.planned(tmp_path / "run", steps=7)


def test_without_locks_only_old_leftovers_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    run = fakes.planned(tmp_path / "run")
    fresh = run.path / "writing" / "x.png.1-of-3.123.tmp"
    old = run.path / "writing" / "y.png.1-of-3.124.tmp"
    log = run.path / "done" / "1-of-3.jsonl"
    fresh.parent.mkdir(exist_ok=True)
    log.parent.mkdir(parents=True)
    for path in (fresh, old, log):
        path.touch()
    os.utime(old, (0, 0))
    run.sweep()
    assert (fresh.exists(), old.exists()) == (True, False)
