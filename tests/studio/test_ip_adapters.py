"""IP-Adapters and their pictures from the command line, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from adhere import Guidance
from adhere.errors import ModelError, ParameterError
from adhere.pipelines.folders.ip_adapters import ENCODER, IPAdapter, put_on
from adhere.pipelines.toybox import load_toybox
from adhere.plugins.bind.subject_guidance import SubjectGuidance
from tests import tiny
from tests.command import adhere

PROMPT = "a cat and a car"
QUICK = ("--steps", "3", "--seed", "1", "--width", "64", "--height", "64")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter of the toybox, with its image encoder, and two pictures beside it."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16, projection_dim=16,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder / ENCODER)
    weights = tiny.ip_adapter(load_toybox().unet)
    named = {f"{part}.{n}": w for part, inner in weights.items() for n, w in inner.items()}
    save_file(named, folder / "adapter.safetensors")
    for name, colour in (("one", "red"), ("other", "blue")):
        Image.new("RGB", (40, 40), colour).save(folder / f"{name}.png")
    return folder


def made(out: Path) -> tuple[bytes, Any]:
    """The one picture of a folder, and its row in the report."""
    (row,) = json.loads((out / "report.json").read_text())["pictures"]
    return Image.open(out / row["file"]).tobytes(), row


def call(adapter: Path, out: Path, *more: str, names: tuple[str, ...] = ("one", "other")) -> int:
    shown = [word for name in names for word in ("--picture", str(adapter / f"{name}.png"))]
    file = f"{adapter / 'adapter.safetensors'}:0.7"
    return adhere("generate", PROMPT, *QUICK, "--ip-adapter", file, *shown, *more, "-o", str(out))


def test_the_command_draws_what_python_does(adapter: Path, tmp_path: Path) -> None:
    assert call(adapter, tmp_path, "-p", "subject-guidance:start=0.3") == 0
    pipe = load_toybox()
    put_on(pipe, IPAdapter(str(adapter / "adapter.safetensors"), 0.7))
    pictures = [Image.open(adapter / f"{name}.png") for name in ("one", "other")]
    with Guidance(SubjectGuidance(start=0.3)).attach(pipe):
        image = pipe(
            PROMPT,
            num_inference_steps=3,
            guidance_scale=4.0,
            width=64,
            height=64,
            generator=torch.Generator().manual_seed(1),
            ip_adapter_image=[pictures],
        ).images[0]
    drawn, row = made(tmp_path)
    assert drawn == image.tobytes()
    assert row["made"]["ip_adapter"]["scale"] == 0.7


def test_other_pictures_are_not_taken_for_made_already(adapter: Path, tmp_path: Path) -> None:
    for names in (("one", "other"), ("other", "one")):
        assert call(adapter, tmp_path, names=names) == 0
    assert len(json.loads((tmp_path / "report.json").read_text())["pictures"]) == 2
    assert len(list(tmp_path.glob("000-*.png"))) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ip-adapter", "a.bin", "--picture", "x.png"], "names no .safetensors file"),
        (["--ip-adapter", "a.safetensors"], "give some: --picture"),
        (["--ip-adapter", "a.safetensors:nan", "--picture", "x.png"], "ends in no strength"),
        (["--picture", "x.png"], "is shown by an IP-Adapter; give one, too"),
        (["--ip-adapter", "a.safetensors", "--picture", "x.png"], "does not read as a picture"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_loaded(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adhere("generate", PROMPT, *words, "-m", "toybox", "-o", str(tmp_path)) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_more_subjects_than_pictures(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(adapter, tmp_path, "-p", "subject-guidance", names=("one",)) == 2
    assert "2" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_what_does_not_fit_is_refused(adapter: Path, tmp_path: Path) -> None:
    file = str(adapter / "adapter.safetensors")
    with pytest.raises(ModelError, match="takes no IP-Adapter here"):
        put_on(load_toybox(name="toybox-sd3"), IPAdapter(file))
    with pytest.raises(ModelError, match="does not fit StableDiffusionPipeline"):
        put_on(tiny.sd1(), IPAdapter(file))
    with pytest.raises(ModelError, match="there is no such file"):
        put_on(tiny.sd1(), IPAdapter(str(tmp_path / "none.safetensors")))
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(Path(file).read_bytes())
    with pytest.raises(ModelError, match="no image encoder in a folder 'image_encoder'"):
        put_on(load_toybox(), IPAdapter(str(alone)))
    with pytest.raises(ParameterError, match="pickled"):
        IPAdapter.read("some/where/adapter.bin:0.5", ["x.png"])


def test_places() -> None:
    there = IPAdapter.read("h94/IP-Adapter/models/a.safetensors:0.6", ["x.png"])
    assert (there.scale, there.place) == (0.6, ("h94/IP-Adapter", "models", "a.safetensors"))
    assert IPAdapter("one/two/a.safetensors").place == ("one/two", "", "a.safetensors")
    assert IPAdapter.read("C:/a.safetensors", ["x.png"]).source == "C:/a.safetensors"
