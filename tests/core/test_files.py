"""What a file that is written may take the place of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from adhere.errors import ParameterError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import write_atomic
from adhere.guides import stored
from adhere.pipelines.studio.output import writable_file, write_text

WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "evaluation": lambda path: write_atomic(path, b"new"),
    "tensors": lambda path: stored.write(path, "test", {"a": torch.zeros(1)}, {}),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["pipe", "circle", "folder"])
def test_what_is_no_file_stays(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "there"
    {"pipe": os.mkfifo, "folder": os.mkdir, "circle": lambda at: at.symlink_to(at)}[kind](path)
    before = path.lstat()
    with pytest.raises((OSError, EvaluationError)):
        WRITERS[name](path)
    assert path.lstat() == before
    assert [*tmp_path.iterdir()] == [path]
    with pytest.raises(ParameterError):
        writable_file(path)


@pytest.mark.parametrize("name", WRITERS)
def test_where_a_link_leads_is_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file, link = tmp_path / "folder" / "file", tmp_path / "link"
    link.symlink_to(file)
    for _ in range(2):  # where there is no file yet, and where there is one
        WRITERS[name](link)
        assert link.is_symlink()
        assert file.stat().st_size > 0
