"""Models as people have them: LoRA, single files, parts that are not whole, where they run."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adhere.errors import GuidanceError, ModelError, ParameterError
from adhere.pipelines.folders import hub, single_file
from adhere.pipelines.studio import loading
from adhere.pipelines.studio.loading import Lora, load
from adhere.pipelines.studio.request import Request
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools.clip import clip_of
from tests import tiny

ASKED = Request("a cat and a frog", steps=2, width=64, height=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny.sd1().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low-rank weights that change every picture."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = tiny.sd1()
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    path = tmp_path_factory.mktemp("lora")
    pipe.save_lora_weights(path, unet_lora_layers=get_peft_model_state_dict(pipe.unet))
    return path / "pytorch_lora_weights.safetensors"


def picture(model: Path, **more: Any) -> bytes:
    (made,) = Studio(str(model), "cpu", **more).generate([ASKED])
    return made.image.tobytes()


def test_a_lora_counts_as_strongly_as_it_is_told_to(folder: Path, lora: Path) -> None:
    plain = picture(folder)
    assert picture(folder, loras=[Lora(str(lora), 0.0)]) == plain
    whole = picture(folder, loras=[Lora.read(str(lora))])
    half = picture(folder, loras=[Lora.read(f"{lora}:0.5")])
    assert len({plain, whole, half}) == 3
    assert picture(folder, loras=[Lora(str(lora.parent), 1.0)]) == whole


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("lacking", r"lacks 1 weights"),
        ("renamed", r"lacks \d+ weights"),  # as releases of libraries have done
        ("of another shape", r"shape"),
        ("cut off", r"could not be loaded"),
        ("empty", r"could not be loaded"),
        ("gone", r"could not be loaded"),
    ],
)
def test_a_part_that_is_not_whole_is_refused(
    folder: Path, tmp_path: Path, part: str, how: str, said: str
) -> None:
    broken = tmp_path / "model"
    shutil.copytree(folder, broken)
    (file,) = (broken / part).glob("*.safetensors")
    weights, whole = load_file(file), file.read_bytes()
    name = sorted(weights)[len(weights) // 2]
    if how == "lacking":
        del weights[name]
    elif how == "renamed":
        weights = {f"other.{key}": value for key, value in weights.items()}
    else:
        weights[name] = torch.ones(3, 3)
    save_file(weights, file, metadata={"format": "pt"})
    if how in ("cut off", "empty"):
        file.write_bytes(whole[: -len(whole) // 3] if how == "cut off" else b"")
    elif how == "gone":
        file.unlink()
    with pytest.raises(ModelError, match=said):
        load(str(broken), "cpu", None)


def test_what_a_lora_text_means() -> None:
    assert Lora.read("style:0.8") == Lora("style", 0.8)
    assert Lora.read("owner/style") == Lora("owner/style", 1.0)
    assert Lora.read(r"C:\loras\style.safetensors") == Lora(r"C:\loras\style.safetensors", 1.0)
    with pytest.raises(ParameterError, match="names no file"):
        Lora.read(":0.8")
    for strength in ("nan", "-inf", "1e400"):
        with pytest.raises(ParameterError, match="has no finite strength"):
            Lora.read(f"style:{strength}")


def test_loras_that_do_not_fit(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence about each, at once: nothing waits for a pipe or asks the hub for a path."""

    def asked(url: str, **_: Any) -> None:
        raise AssertionError(f"the hub is asked for {url}")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", asked)
    whole = lora.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    (tmp_path / "text.safetensors").write_text("a style, in words")
    (tmp_path / "nothing.safetensors").touch()
    save_file({"nothing.of.this.model": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": torch.zeros(2, 32)}, tmp_path / "half.safetensors")
    torch.save({}, tmp_path / "style.pt")
    torch.save({}, tmp_path / "style")
    for name in ("none", "two"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        shutil.copyfile(lora, tmp_path / "two" / f"{name}.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    pipe = tiny.sd1()
    for name, said in (
        ("other.safetensors", "does not fit"),
        ("cut.safetensors", "does not fit"),
        ("text.safetensors", "does not fit"),
        ("nothing.safetensors", "does not fit"),
        ("half.safetensors", "does not fit"),
        ("style.pt", "is no .safetensors file; pickled"),
        ("style", "is no .safetensors file; pickled"),
        ("none", "is a folder with 0 .safetensors files"),
        ("two", "is a folder with 2 .safetensors files"),
        *((name, "is no file") for name in ("missing.safetensors", "./missing", "/dev/null")),
        *((name, "is no file") for name in ("pipe.safetensors", "pipe", "~/missing.safetensors")),
        ("~of.nobody/missing.safetensors", "is no file"),
        *((name, "does not fit") for name in ("no hub id", "-", "style:")),
    ):
        with pytest.raises(ModelError, match=rf"^--lora '{re.escape(name)}' {said}"):
            loading.add_loras(pipe, [Lora(name)])


def test_a_home_of_nobody_is_a_folder_that_is_not_there() -> None:
    with pytest.raises(ModelError, match=r"~of\.nobody/model"):
        Studio("~of.nobody/model", "cpu")
    with pytest.raises(ModelError, match=r"~of\.nobody/clip"):
        clip_of("toybox", "~of.nobody/clip")


def test_the_one_file_of_a_folder_is_its_lora(folder: Path, lora: Path, tmp_path: Path) -> None:
    shutil.copyfile(lora, tmp_path / "style.safetensors")
    named = picture(folder, loras=[Lora(str(lora))])
    assert picture(folder, loras=[Lora(str(tmp_path))]) == named


def test_the_toyboxes_are_whole_and_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from adhere.pipelines.toybox import ToyboxError, load_toybox, toybox_folder

    shutil.copytree(toybox_folder("toybox"), tmp_path / "toybox")
    for part in ("text_encoder/model", "unet/diffusion_pytorch_model"):
        file = tmp_path / "toybox" / f"{part}.safetensors"
        whole = load_file(file)
        save_file(dict(sorted(whole.items())[1:]), file, {"format": "pt"})
        with pytest.raises((ToyboxError, ModelError), match="lacks 1 weights"):
            load_toybox(folder=tmp_path / "toybox")
        save_file(whole, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["cond_stage_model.transformer.x", "model.diffusion_model.y"], "StableDiffusionPipeline"),
        (["conditioner.embedders.1.model.x"], "StableDiffusionXLPipeline"),
        (["model.diffusion_model.joint_blocks.0.x"], "StableDiffusion3Pipeline"),
        (["double_blocks.0.img_attn.x"], "FluxPipeline"),
        (["distilled_guidance_layer.x", "double_blocks.0.img_attn.x"], "ChromaPipeline"),
        (["lora_unet_down.x"], None),
    ],
)
def test_the_kind_of_a_single_file_is_told_by_its_weights(
    names: list[str], kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(1) for name in names}, path)
    if kind is None:
        with pytest.raises(ModelError, match="no whole model of a known kind"):
            single_file.load(path, torch.float32)
        return
    seen = []

    def from_single_file(path: str, **options: Any) -> str:
        seen.append((path, options))
        return "the pipeline"

    monkeypatch.setattr(getattr(diffusers, kind), "from_single_file", from_single_file)
    assert single_file.load(path, torch.float16) == "the pipeline"
    assert seen == [(str(path), {"torch_dtype": torch.float16})]


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_single_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="model"):
        load(str(tmp_path / name), "cpu", None)
    (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"pickled|damaged"):
        load(str(tmp_path / name), "cpu", None)


def test_settings_that_a_machine_or_model_lacks(folder: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"offload": "model"}, "this run is on the CPU"),
        ({"offload": "some"}, "not one of model, sequential"),
    ]
    for options, said in cases:
        with pytest.raises(GuidanceError, match=said):
            load(str(folder), "cpu", None, **options)
    with pytest.raises(ParameterError, match="leave out --variant and --revision"):
        load("toybox", "cpu", None, variant="fp16", revision="main")


def test_offload_is_asked_of_the_pipeline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import DiffusionPipeline

    seen = []
    monkeypatch.setattr(loading, "_check_device", lambda device: None)
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        monkeypatch.setattr(
            DiffusionPipeline, name, lambda pipe, device, name=name: seen.append((name, device))
        )
    load(str(folder), "cuda", "float32", offload="model")
    load(str(folder), "cuda", "float32", offload="sequential")
    assert seen == [("enable_model_cpu_offload", "cuda"), ("enable_sequential_cpu_offload", "cuda")]


def test_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert loading.best_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading.best_device() == "cuda"


def test_a_variant_is_read(folder: Path, tmp_path: Path) -> None:
    pipe = tiny.sd1()
    pipe.save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(ModelError, match="could not be loaded"):
        load(str(tmp_path), "cpu", None)
    assert picture(tmp_path, variant="fp16") == picture(folder)


def test_a_silent_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own loaders ask six times and wait between: minutes for a name that is misspelt."""
    from huggingface_hub import constants

    asked: list[str] = []

    def silent(url: str, **_: Any) -> None:
        asked.append(url)
        raise ConnectionError("no network")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", silent)
    with pytest.raises(ModelError, match=r"'nope/nope' is no folder here .*\(no network\)"):
        load("nope/nope", "cpu", None, revision="main")
    with pytest.raises(ModelError, match="'nope/style' is no folder here"):
        loading.add_loras(tiny.sd1(), [Lora("nope/style")])
    assert len(asked) == 2
    assert "nope/nope" in asked[0]

    (tmp_path / "models--nope--nope" / "snapshots" / "0").mkdir(parents=True)
    (tmp_path / "models--nope--nope" / "snapshots" / "0" / "config.json").touch()
    hub.check_answers("nope/nope")
    assert len(asked) == 2  # fetched before: the loader falls back on it


def test_what_a_studio_says_of_itself(folder: Path, lora: Path) -> None:
    about = Studio(str(folder), "cpu", "bfloat16", loras=[Lora(str(lora), 0.5)]).about
    json.dumps(about)
    assert about["dtype"] == "bfloat16"
    assert about["loras"] == [{"source": str(lora), "weight": 0.5}]
    assert {"model", "weights", "adhere", "torch", "diffusers", "transformers"} <= set(about)


def test_a_picture_of_numbers_that_are_none_is_said(folder: Path) -> None:
    studio = Studio(str(folder), "cpu")
    (good,) = studio.generate([ASKED])
    assert good.report["notes"] == []
    next(studio.pipe.vae.decoder.parameters()).data.fill_(torch.nan)
    (black,) = studio.generate([ASKED])
    assert "wholly black" in black.report["notes"][0]
