"""Prepared files do not pile up: a slider that is dragged prepares one at every place."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from adhere.app.outcome import downloads
from adhere.app.serving.server import prepare


def test_a_visitor_has_a_few_looks_at_a_time() -> None:
    prepare()
    others = downloads.own_folder("somebody else")
    mine = [downloads.own_folder("a visitor") for _ in range(20)]
    for number, folder in enumerate(mine):
        assert folder.exists() == (number >= 20 - downloads.LOOKS), number
    assert others.exists()
    inside = Path(os.environ["GRADIO_TEMP_DIR"])
    assert all(inside in folder.parents and "visitor" not in str(folder) for folder in mine)


def test_two_at_a_time_do_not_trip_over_what_the_other_has_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare()
    old = [downloads.folder() for _ in range(3)]
    for one in old:
        os.utime(one, (0, 0))
    remove, others = shutil.rmtree, [threading.Thread(target=downloads.folder)]

    def removed(*given: Any, **more: Any) -> None:
        remove(*given, **more)
        if others:
            other = others.pop()
            other.start()
            other.join(0.5)  # as long as it gets through

    monkeypatch.setattr(downloads.shutil, "rmtree", removed)
    assert downloads.folder().exists()
    assert not any(one.exists() for one in old)
