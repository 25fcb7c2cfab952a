"""Prepared files do not pile up: a slider that is dragged prepares one at every place."""

from __future__ import annotations

import os
from pathlib import Path

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
