"""The shipped folder: whole, small, deterministic, loadable by plain diffusers and transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPModel, CLIPTokenizer
from typer.testing import CliRunner

from adhere.eval.evaluators import table as evaluators
from adhere.pipelines.toybox import (
    Judge,
    ToyboxError,
    check_folder,
    load_clip,
    load_toybox,
    toybox_folder,
)
from adhere.pipelines.toybox.card.figures import wilson
from adhere.pipelines.toybox.cli import export, toybox_app
from adhere.pipelines.toybox.judge.calibration import held_out
from adhere.pipelines.toybox.judge.judge import identity
from adhere.pipelines.toybox.model.vae import psnr, round_trip
from adhere.pipelines.toybox.training.stages import STAGES

FOLDER = toybox_folder()
CARD_KEYS = (
    "judge_render",
    "judge_vae",
    "judge_mask_iou",
    "vae_psnr",
    "one_object",
    "two_object",
    "two_object_present",
    "skull_haunted",
)


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    """The shipped model."""
    return load_toybox()


def test_the_folder_is_whole_and_small() -> None:
    assert check_folder(FOLDER) == []
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) <= 40 * 2**20
    assert not list(FOLDER.rglob("*.bin")) + list(FOLDER.rglob("*.pt"))


def test_plain_diffusers_and_transformers_load_it() -> None:
    plain = StableDiffusionPipeline.from_pretrained(str(FOLDER))
    assert plain.safety_checker is None
    assert plain.text_encoder.dtype == plain.unet.dtype == plain.vae.dtype == torch.float32
    assert plain("a cat", num_inference_steps=1).images[0].size == (64, 64)
    assert plain.vae_scale_factor == 4
    assert plain.unet.config.sample_size * plain.vae_scale_factor == 64
    clip = CLIPModel.from_pretrained(str(FOLDER / "clip"))
    assert CLIPTokenizer.from_pretrained(str(FOLDER / "clip")).model_max_length == 32
    ids = torch.tensor([[1, 2, 3]])
    ours = plain.text_encoder.get_input_embeddings()(ids).float()
    assert torch.equal(ours, clip.text_model.get_input_embeddings()(ids).float())


def test_same_seed_same_picture_and_batching_changes_little(pipe: StableDiffusionPipeline) -> None:
    def draw(
        prompts: list[str], seeds: list[int]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images = pipe(prompts, num_inference_steps=4, generator=generators).images
        return np.stack([np.asarray(image) for image in images])

    first = draw(["a red cat"], [5])
    assert np.array_equal(first, draw(["a red cat"], [5]))
    assert first.shape == (1, 64, 64, 3)
    pair = draw(["a blue car", "a red cat"], [1, 5])
    assert np.abs(pair[1].astype(int) - first[0].astype(int)).max() <= 2


def test_round_trip_is_near_lossless(pipe: StableDiffusionPipeline) -> None:
    _, images = held_out(4321, 40)
    assert float(psnr(images, round_trip(pipe.vae, images)).mean()) >= 26


def test_the_judge_survives_the_vae(pipe: StableDiffusionPipeline) -> None:
    from adhere.pipelines.toybox.judge.calibration import accuracy

    scenes, images = held_out(4321, 40)
    back = round_trip(pipe.vae, images).float() / 255
    assert accuracy(scenes, Judge.load().judge_tensor(back))["kind_and_colour"] >= 0.94


def test_clip_tells_pictures_apart() -> None:
    model, tokenizer, preprocess = load_clip()
    from adhere.pipelines.toybox import Scene, Thing, render

    kinds = ("cat", "car", "frog", "clock")
    images = [render(Scene((Thing(kind, "blue", "big", 16, 16),))) for kind in kinds]
    texts = tokenizer([f"a {kind}" for kind in kinds], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**texts, pixel_values=preprocess(images)).logits_per_text
    assert logits.argmax(1).tolist() == [0, 1, 2, 3]


def test_the_card_has_its_figures() -> None:
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    for key in CARD_KEYS:
        assert isinstance(card[key], (int, float))
        assert key == "vae_psnr" or 0 <= card[key] <= 1
    assert (FOLDER / "README.md").read_text(encoding="utf-8").count("|") > 50


def test_wrong_and_damaged_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ToyboxError, match="is not a folder"):
        load_toybox(folder=tmp_path / "nowhere")
    with pytest.raises(ToyboxError, match=r"no model_index\.json"):
        load_toybox(folder=tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(FOLDER, copy)
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ToyboxError, match="damaged"):
        load_toybox(folder=copy)
    shutil.rmtree(copy / "vae")
    assert any("vae is missing" in line for line in check_folder(copy))
    (copy / "judge.json").write_text("{}")
    with pytest.raises(ToyboxError, match="damaged"):
        Judge.load(copy)


def test_a_judge_of_another_world_is_refused(tmp_path: Path) -> None:
    told = json.loads((FOLDER / "judge.json").read_text(encoding="utf-8"))
    assert told["identity"] == identity()
    other = {**told, "identity": {**told["identity"], "world": 1}}
    (tmp_path / "judge.json").write_text(json.dumps(other))
    with pytest.raises(ToyboxError, match="scores do not compare"):
        Judge.load(tmp_path)
    judge = evaluators.evaluator("judge")
    here = evaluators.slug(judge)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adhere.pipelines.toybox.judge.judge.VERSION", 9)
        assert evaluators.slug(judge) != here


def test_the_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(toybox_app, ["check"]).exit_code == 0
    wrong = runner.invoke(toybox_app, ["check", str(tmp_path)])
    assert wrong.exit_code == 1
    drawn = runner.invoke(toybox_app, ["sheet", str(tmp_path / "world.png")])
    assert drawn.exit_code == 0
    assert (tmp_path / "world.png").stat().st_size > 1000
    odd = runner.invoke(toybox_app, ["train", "--stage", "gan", "--out", str(tmp_path)])
    assert isinstance(odd.exception, ToyboxError)
    assert "no stage 'gan'" in str(odd.exception)
    early = runner.invoke(
        toybox_app, ["train", "--stage", "unet", "--out", str(tmp_path), "--workers", "1"]
    )
    assert isinstance(early.exception, ToyboxError)
    assert "train the stage before" in str(early.exception)


@pytest.mark.parametrize(("stage", "model"), [("unet", "toybox"), ("transformer", "toybox-sd3")])
def test_training_exports_the_model_that_it_trained(
    stage: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setitem(STAGES, stage, lambda plan: plan.out / stage)
    monkeypatch.setattr(
        "adhere.pipelines.toybox.training.assembly.assemble", lambda *a: made.append(a)
    )
    asked = ["train", "--stage", stage, "--out", str(tmp_path), "--export", str(tmp_path / "to")]
    assert CliRunner().invoke(toybox_app, asked).exit_code == 0
    assert made == [(tmp_path, tmp_path / "to", model)]


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: 81 of 263
    low, high = wilson(81, 263)
    assert low == pytest.approx(0.2553, abs=2e-4)
    assert high == pytest.approx(0.3662, abs=2e-4)
    assert wilson(0, 10)[0] == 0


def test_a_toybox_of_another_name_is_refused(tmp_path: Path) -> None:
    said = "no toybox is called 'toybox-sd9'; there are toybox, toybox-sd3"
    with pytest.raises(ToyboxError, match=said):
        load_toybox(name="toybox-sd9")
    with pytest.raises(ToyboxError, match=said):
        export(out=tmp_path, folder=tmp_path / "new", model="toybox-sd9")
    with pytest.raises(ToyboxError, match="write name='toybox-sd3'"):
        load_toybox("toybox-sd3")  # type: ignore[arg-type]
