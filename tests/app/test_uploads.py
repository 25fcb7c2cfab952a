"""Pictures from strangers: a short list of formats, bounded before decoding, one sentence else."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adhere.app.jobs import uploads
from adhere.app.jobs.limits import LIMITS
from adhere.errors import LayoutError


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("kind", uploads.FORMATS)
def test_listed_formats_open(kind: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "red")
    path = tmp_path / "x.bin"
    path.write_bytes(encoded(image, kind))
    assert uploads.decode(path).size == (20, 10)
    assert uploads.decode(path.read_bytes()).size == (20, 10)


def test_a_picture_is_turned_as_it_is_seen() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "JPEG", exif=turned)
    assert uploads.decode(buffer.getvalue()).size == (10, 20)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_pictures_are_refused(kind: str) -> None:
    first, *others = (Image.new("RGB", (20, 10), colour) for colour in ("red", "blue"))
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others)
    with pytest.raises(LayoutError, match="2 frames: send the one that is meant"):
        uploads.decode(buffer.getvalue())


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "PDF"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(LayoutError, match="PNG"):
        uploads.decode(encoded(Image.new("RGB", (32, 32)), kind))


@pytest.mark.parametrize("data", [b"", b"x", b"<svg onload='alert(1)'/>", b"%!PS", b"\x89PNG"])
def test_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(LayoutError):
        uploads.decode(data)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (5000, 5000), (2**31 - 1, 2)])
def test_bombs_are_refused_unopened(width: int, height: int) -> None:
    with pytest.raises(LayoutError):
        uploads.decode(huge_png(width, height))


def test_cut_off_picture_is_refused() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    with pytest.raises(LayoutError, match="damaged"):
        uploads.decode(encoded(noise, "PNG")[:3000])


def test_too_many_bytes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(b"\0" * (LIMITS.upload_bytes + 1))
    with pytest.raises(LayoutError, match="larger than"):
        uploads.decode(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="did not arrive"):
        uploads.decode(tmp_path / "nothing.png")
