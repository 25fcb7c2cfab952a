"""Pictures on the page are files that are written once: a reader never meets half of one."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops

from adhere.app.outcome.pictures import file_of
from adhere.app.serving.server import prepare
from tests.app.visit import SECONDS, TABS, Visit
from tests.nightly import first_by_day


@pytest.fixture(autouse=True)
def _folder() -> None:
    prepare()


def test_a_picture_that_is_there_is_left_alone() -> None:
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    path = Path(file_of(image))
    path.write_bytes(b"as it was")
    os.utime(path, (0, 0))
    assert file_of(image.copy()) == str(path)
    assert path.read_bytes() == b"as it was"
    assert path.stat().st_mtime > 0  # and the hourly clearing begins to count anew
    path.unlink()
    with Image.open(file_of(image)) as again:
        assert ImageChops.difference(again, image).getbbox() is None


def test_what_is_being_written_has_not_its_name_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (8, 8), (3, 2, 1))
    path = Path(file_of(image))
    path.unlink()
    save, seen = Image.Image.save, []

    def watched(self: Image.Image, *given: Any, **more: Any) -> None:
        save(self, *given, **more)
        seen.append(path.exists())

    monkeypatch.setattr(Image.Image, "save", watched)
    file_of(image)
    assert seen == [False]
    assert path.exists()


def test_nothing_is_left_of_a_picture_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / "shown"
    before = set(folder.glob("*")) if folder.exists() else set()
    with pytest.raises(OSError, match="no space"):
        file_of(Image.new("RGB", (8, 8), (9, 9, 9)))
    assert set(folder.glob("*")) == before


def test_pictures_that_differ_have_files_that_differ() -> None:
    wide, high = Image.new("L", (8, 2), 7), Image.new("L", (2, 8), 7)
    assert len({file_of(one) for one in (wide, high, wide.convert("RGB"))}) == 3


@pytest.mark.browser
@pytest.mark.parametrize("tab", first_by_day(TABS))
def test_a_picture_can_be_read_while_it_is_shown_again(visit: Visit, tab: str) -> None:
    """Made twice, as by somebody who presses Generate again, and read all the while."""
    page = visit.page
    visit.tab(TABS[tab])
    visit.generate(tab)
    sources = [
        str(one.get_attribute("src")) for one in page.locator(".tabitem img[src*='file=']").all()
    ]
    paths = [Path(re.sub(r"^.*?file=", "", source)) for source in sources]
    assert paths
    written = {path: path.stat().st_ino for path in paths}
    stop, cut = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            for source in sources:
                try:
                    assert httpx.get(source, timeout=SECONDS).status_code == 200
                except httpx.HTTPError as wrong:
                    cut.append(str(wrong))

    reader = threading.Thread(target=read)
    reader.start()
    visit.generate(tab)
    stop.set()
    reader.join()
    assert cut == []
    assert {path: path.stat().st_ino for path in paths} == written
