"""Pictures that people give are read as they are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adhere.errors import GuidanceWarning, ParameterError
from adhere.pipelines.tools import pictures

RED = (255, 0, 0)
TURN = 6
"""EXIF orientation of a picture that is shown turned clockwise."""


@pytest.fixture
def wide() -> Image.Image:
    """Red on its left."""
    image = Image.new("RGB", (16, 8), "white")
    image.paste(RED, (0, 0, 8, 8))
    return image


def test_a_picture_is_turned_as_its_exif_data_say(wide: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURN
    wide.save(tmp_path / "turned.png", exif=exif)
    found = pictures.read(tmp_path / "turned.png")
    assert found.size == (8, 16)
    assert [found.getpixel((4, y)) for y in (4, 12)] == [RED, (255, 255, 255)]


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert pictures.read(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0x4000, np.uint16)).save(tmp_path / "deep.png")
    assert pictures.read(tmp_path / "deep.png").getpixel((0, 0)) == (64, 64, 64)


def test_greys_that_are_floating_point_numbers_are_said(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "floats.tiff")
    with pytest.raises(ParameterError, match="floating-point numbers; save it with 8 or 16 bits"):
        pictures.read(tmp_path / "floats.tiff")


@pytest.mark.parametrize("mode", ["CMYK", "L", "1"])
def test_other_colours_are_rgb(mode: str, wide: Image.Image, tmp_path: Path) -> None:
    wide.convert(mode).save(tmp_path / "other.tiff")
    assert pictures.read(tmp_path / "other.tiff").mode == "RGB"


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png", "pages.tiff"])
def test_of_several_frames_the_first_is_read_and_that_is_said(
    name: str, wide: Image.Image, tmp_path: Path
) -> None:
    others = [Image.new("RGB", wide.size, colour) for colour in ("blue", "green")]
    wide.save(tmp_path / name, save_all=True, append_images=others)
    with pytest.warns(GuidanceWarning, match=f"{name}' has 3 frames or pages, and the first is"):
        found = pictures.read(tmp_path / name)
    assert found.getpixel((12, 4)) == pytest.approx((255, 255, 255), abs=8)


def test_what_cameras_put_behind_a_picture_is_no_frame(wide: Image.Image, tmp_path: Path) -> None:
    wide.save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=[wide.resize((8, 4))])
    assert pictures.read(tmp_path / "camera.jpg").size == wide.size


@pytest.mark.parametrize("made", ["nothing", "folder", "empty", "text", "half"])
def test_what_is_no_picture_is_said(made: str, wide: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "given.png"
    wide.resize((256, 256)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    content = {"empty": b"", "text": b"hello", "half": whole[: len(whole) // 2]}
    if made == "folder":
        path.mkdir()
    elif made in content:
        path.write_bytes(content[made])
    with pytest.raises(
        ParameterError, match=r"given\.png' does not read as a picture .*give a PNG"
    ):
        pictures.read(path)


def test_what_is_too_large_is_to_be_made_smaller(
    wide: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide.save(tmp_path / "wide.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ParameterError, match=r"too large to be read .* make a smaller copy"):
        pictures.read(tmp_path / "wide.png")
