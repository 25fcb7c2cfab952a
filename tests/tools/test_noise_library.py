"""Making noise libraries: statistics against loops, parts, shards, resuming, and the commands."""

from __future__ import annotations

import colorsys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from adhere.errors import ModelError, ParameterError
from adhere.guides import stored
from adhere.guides.stored import PROBE
from adhere.pipelines.families import family_of
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools import clip as clips
from adhere.pipelines.tools import noise_library
from adhere.pipelines.tools.clip import clip_of, end_embedding, own_texts, pooled_texts
from adhere.pipelines.tools.noise_library import Maker, Plan, Shard
from adhere.pipelines.tools.statistics import STATISTICS, rgb, statistics
from adhere.plugins.mathematics.noise_library import NoiseLibrary
from tests import tiny
from tests.command import adhere


def picture(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(values)


def slow_statistics(image: Image.Image) -> list[float]:
    """Pixel by pixel."""
    w, h = image.size
    rows = [[[v / 255 for v in image.getpixel((x, y))] for x in range(w)] for y in range(h)]  # type: ignore[union-attr]
    flat = [pixel for row in rows for pixel in row]
    grey = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in rows]
    one, other = [r - g for r, g, _ in flat], [(r + g) / 2 - b for r, g, b in flat]
    laplacian = [
        grey[y - 1][x] + grey[y + 1][x] + grey[y][x - 1] + grey[y][x + 1] - 4 * grey[y][x]
        for y in range(1, h - 1)
        for x in range(1, w - 1)
    ]
    spread = (np.var(one) + np.var(other)) ** 0.5
    return [
        float(np.mean(grey)),
        float(np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in flat])),
        float(spread + 0.3 * (np.mean(one) ** 2 + np.mean(other) ** 2) ** 0.5),
        float(np.mean([r - b for r, _, b in flat])),
        float(np.var(laplacian)),
    ]


def test_statistics_pixel_by_pixel() -> None:
    images = [picture(0), picture(1), Image.new("RGB", (7, 9)), Image.new("RGB", (7, 9), "red")]
    found = statistics(images)
    for row, image in zip(found.tolist(), images, strict=True):
        assert row == pytest.approx(slow_statistics(image), abs=1e-5)
    assert rgb(picture(0)).shape == (3, 7, 9)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny model in a folder, and parts of four seeds."""
    monkeypatch.setattr(noise_library, "PART", 4)
    tiny.sd1().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


PLAN = Plan(10, steps=2, width=32, height=32)


def make(studio: Studio, out: Path, shard: str = "1/1", plan: Plan = PLAN) -> bool:
    maker = Maker(studio, None, plan, out, batch=3)
    for seeds in maker.missing(Shard.read(shard)):
        maker.make(seeds, lambda amount: None)
    return maker.finish()


def test_shards_make_what_one_process_makes(model: str, tmp_path: Path) -> None:
    studio = Studio(model)
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    assert make(studio, one)
    assert not make(studio, two, "2/2")
    assert not two.exists()
    assert make(studio, two, "1/2")
    first, second = NoiseLibrary.read(one), NoiseLibrary.read(two)
    assert first.seeds.tolist() == second.seeds.tolist() == list(range(10))
    assert torch.equal(first.statistics, second.statistics)
    assert first.names == tuple(STATISTICS)
    assert first.stored.about == second.stored.about
    assert first.stored.about["latents"] == "4x16x16"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model", "one.safetensors", "two.safetensors",
    ]  # fmt: skip
    # The statistics are those of the pictures without a prompt.
    alone = tiny.latents(
        studio.pipe, "", seeds=(7,), steps=2, guidance_scale=1.0, output_type="pil"
    )
    assert statistics(alone)[0].tolist() == pytest.approx(first.statistics[7].tolist(), abs=2e-3)


def test_what_is_made_is_not_made_again(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, out, made = Studio(model), tmp_path / "one.safetensors", []
    plain = Maker._pictures

    def counted(self: Maker, seeds: tuple[int, ...]) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(seeds)
        return plain(self, seeds)

    monkeypatch.setattr(Maker, "_pictures", counted)
    with pytest.raises(KeyboardInterrupt):
        make(studio, out)
    assert made == [(0, 1, 2), (3,)]
    assert [path.name for path in (tmp_path / "one.safetensors.parts").iterdir()] == [
        "0000000-0000003.safetensors"
    ]
    made = [()]
    with pytest.raises(KeyboardInterrupt):
        make(studio, out)
    assert made[1] == (4, 5, 6)
    with pytest.raises(ParameterError, match=r"with steps '2', and this one is to have '3'"):
        make(studio, out, plan=Plan(10, steps=3, width=32, height=32))


def test_a_library_grows_and_never_shrinks(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, one, two = Studio(model), tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    make(studio, two, plan=Plan(14, steps=2, width=32, height=32))
    make(studio, one)
    held = one.read_bytes()
    fewer = Maker(studio, None, Plan(3, steps=2, width=32, height=32), one, batch=3)
    assert fewer.whole()
    assert fewer.missing(Shard()) == []
    assert one.read_bytes() == held

    drawn: list[int] = []
    plain = Maker._pictures

    def counted(self: Maker, seeds: tuple[int, ...]) -> Any:
        drawn.extend(seeds)
        return plain(self, seeds)

    monkeypatch.setattr(Maker, "_pictures", counted)
    assert make(studio, one, plan=Plan(14, steps=2, width=32, height=32))
    assert drawn == [8, 9, 10, 11, 12, 13]  # the parts of four that ten seeds do not fill
    first, second = NoiseLibrary.read(one), NoiseLibrary.read(two)
    assert first.seeds.tolist() == list(range(14))
    torch.testing.assert_close(first.statistics, second.statistics)
    assert first.stored.about == second.stored.about
    assert not (tmp_path / "one.safetensors.parts").exists()


def test_a_folder_that_is_not_there_is_no_clip_of_the_hubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Any]()
    monkeypatch.setattr(CLIPModel, "from_pretrained", lambda *given, **named: asked.append(given))
    with pytest.raises(ModelError, match="is no folder here; give toybox, or a folder with a CLIP"):
        clip_of("toybox", str(tmp_path / "nothing"))
    assert not asked


def test_a_library_that_could_not_be_read_is_not_made(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "library.txt"
    assert adhere("noise", "library", "-m", model, "--size", "2", "-o", out) == 2
    assert "is no name of a noise library; let it end in .safetensors" in capsys.readouterr().err
    assert not out.exists()


def test_commands_make_ask_and_use_a_library(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "library.safetensors"
    small = ("--width", "32", "--height", "32", "--steps", "2")
    words = ("noise", "library", "-m", model, "--size", "6", "-o", out, *small)
    assert adhere(*words, "--shard", "2/2") == 0
    assert "is written when all parts are" in capsys.readouterr().out
    assert adhere(*words) == 0
    said = capsys.readouterr()
    assert f"wrote {out}: 6 seeds" in said.out
    assert "has no CLIP of its own" in said.out
    assert "seeds: 4/4" in said.err
    assert adhere(*words) == 0
    assert "is there already" in capsys.readouterr().out

    assert adhere("noise", "pick", out, "brightness", "--top", "2") == 0
    first, second, hint = capsys.readouterr().out.splitlines()
    values = NoiseLibrary.read(out).statistics[:, 0]
    best = values.argmax().item()
    assert first == f"seed {best:>6}  {float(values[best]):.4f}"
    assert hint.endswith(f"--seeds {best},{int(second.split()[1])}")
    assert adhere("noise", "pick", out, "a red cat") == 2
    assert "texts need a library with a CLIP" in capsys.readouterr().err

    held, other = stored.opened(out, "library", ""), tmp_path / "of-no-clip.safetensors"
    about = {key: value for key, value in held.about.items() if key != "clip"}
    tensors = {**held.tensors, "features": torch.ones(6, 4)}
    stored.write(other, "noise library", tensors, about)
    assert adhere("noise", "pick", other, "a red cat", "--clip", "toybox") == 2
    assert "texts need its CLIP; give the CLIP it was made with" in capsys.readouterr().err

    plugin = f"noise-query:library={out},target=brightness,top=1"
    assert adhere("generate", "a cat", "-m", model, "-p", plugin, "-o", tmp_path / "o", *small) == 0
    assert adhere("generate", "a cat", "-p", plugin, "-o", tmp_path / "o", "--steps", "2") == 2
    assert "was made with the model" in capsys.readouterr().err


def test_a_library_of_an_earlier_version_learns_to_compare_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "library.safetensors"
    words = ("noise", "library", "--size", "2", "--steps", "1", "-o", out)
    assert adhere(*words) == 0
    whole = stored.opened(out, "library", "")
    held = {name: one for name, one in whole.tensors.items() if name not in ("projection", "probe")}
    stored.write(out, "noise library", held, whole.about)
    assert adhere(*words) == 0
    assert "with 2 seeds; it has learnt to compare texts" in capsys.readouterr().out
    mended = stored.opened(out, "library", "")
    assert mended.about == whole.about
    assert mended.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(one, mended.tensors[name]) for name, one in whole.tensors.items())
    assert adhere(*words) == 0
    assert capsys.readouterr().out == f"{out} is there already, with 2 seeds\n"


@pytest.mark.parametrize("shard", ["0/2", "3/2", "a", "1"])
def test_parts_that_are_none(shard: str) -> None:
    with pytest.raises(ParameterError, match="write i/n"):
        Shard.read(shard)


def test_a_folder_without_a_clip(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not load as a CLIP"):
        clip_of("toybox", str(tmp_path))
    assert clip_of(str(tmp_path), None) is None


def test_the_toyboxes_words_are_its_clips() -> None:
    """The library's way to the CLIP's space is that of the CLIP itself."""
    studio, clip = Studio("toybox"), clip_of("toybox", None)
    assert clip is not None
    words = own_texts(studio.pipe, clip)
    assert words is not None
    texts = ["a red cat", "two dogs on the grass"]
    for text, own in zip(texts, clip.texts(texts), strict=True):
        embed = end_embedding(studio.pipe, text)
        assert embed is not None
        found = embed @ words["projection"]
        assert torch.cosine_similarity(found, own, dim=0) > 0.999


def test_pooled_texts_are_its_clips_too() -> None:
    """Where encoders are joined, the CLIP's part of the pooled embedding is the CLIP's own."""
    pipe, clip = Studio("toybox-sd3").pipe, clip_of("toybox", None)
    assert clip is not None
    assert own_texts(pipe, clip) is None
    words = pooled_texts(pipe, clip)
    assert words is not None
    texts = ["a red cat", "two dogs on the grass"]
    family = family_of(pipe)
    pooled = family.pooled(family.encode(texts).values)
    assert pooled is not None
    found = pooled @ words["projection"]
    assert torch.cosine_similarity(found, clip.texts(texts), dim=-1).min() > 0.999
    other = clip_of("toybox", None)
    assert other is not None
    for parameter in other.model.text_model.parameters():
        parameter.data.neg_()
    assert pooled_texts(pipe, other) is None
    assert pooled_texts(Studio("toybox").pipe, clip) is None, "it is told none"


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_pooled_text_is_found_among_others(projected: bool, first: bool) -> None:
    """FLUX is told what its CLIP ends with before the projection, SDXL the last encoder's after."""
    clip = clip_of("toybox", None)
    assert clip is not None
    end = end_embedding(Studio("toybox").pipe, PROBE)
    assert end is not None
    mine = clip.texts([PROBE])[0] if projected else end
    joined = [mine, torch.full((3,), 0.3)]
    found = torch.cat(joined if first else joined[::-1])

    class Told:
        def encode(self, texts: list[str]) -> Any:
            assert texts == [PROBE]
            return SimpleNamespace(values={})

        def pooled(self, values: Any) -> Any:
            return found[None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "family_of", lambda pipe: Told())
        words = pooled_texts(None, clip)
    assert words is not None
    own = found @ words["projection"]
    assert torch.cosine_similarity(own, clip.texts([PROBE])[0], dim=0) > 0.999
    assert torch.equal(words["probe"], found)
