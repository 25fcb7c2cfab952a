"""What a file that is written may take the place of."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

from adhere.errors import ParameterError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import write_atomic, write_once
from adhere.eval.places import Folder
from adhere.files import unfinished
from adhere.guides import stored
from adhere.pipelines.studio.output import writable, writable_file, write_image, write_text
from tests.nightly import first_by_day

WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "evaluation": lambda path: write_atomic(path, b"new"),
    "tensors": lambda path: stored.write(path, "test", {"a": torch.zeros(1)}, {}),
}


def told(path: Path) -> tuple[int, ...]:
    """What the system says of a place; not when it was looked at, which looking changes."""
    state = path.lstat()
    return state.st_ino, state.st_mode, state.st_mtime_ns


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["pipe", "circle", "folder"])
def test_what_is_no_file_stays(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "there"
    {"pipe": os.mkfifo, "folder": os.mkdir, "circle": lambda at: at.symlink_to(at)}[kind](path)
    before = told(path)
    with pytest.raises((OSError, EvaluationError)):
        WRITERS[name](path)
    assert told(path) == before
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


@contextmanager
def no_room() -> Iterator[None]:
    """Files of this process may have one byte: what is longer is refused as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_where_nothing_fits_a_sentence_says_what_was_not_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_text("o")
    said = f"{path}.*File too large"
    with pytest.raises((OSError, EvaluationError), match=said), no_room():
        WRITERS[name](path)
    assert path.read_text() == "o"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_of_tensors_is_for_whom_the_system_says(tmp_path: Path) -> None:
    text, tensors = tmp_path / "text", tmp_path / "tensors"
    WRITERS["text"](text)
    WRITERS["tensors"](tensors)
    assert tensors.stat().st_mode == text.stat().st_mode


@pytest.mark.parametrize("name", WRITERS)
def test_names_as_long_as_they_may_be_are_written_and_longer_ones_refused(
    name: str, tmp_path: Path
) -> None:
    longest, longer = (tmp_path / ("ü" * 124 + "a" * more + ".file") for more in (2, 3))
    writable_file(longest)
    WRITERS[name](longest)
    assert [*tmp_path.iterdir()] == [longest]
    with pytest.raises(ParameterError, match=r"cannot be written \(File name too long"):
        writable_file(longer)


def test_a_picture_may_tell_of_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", Image.new("RGB", (8, 8)), {"from": "caf\udce9.png, edited"})
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["from"] == r"caf\udce9.png, edited"


def test_where_a_link_leads_is_looked_at_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file" / "nowhere")
    with pytest.raises(ParameterError, match="is no folder that can be written to"):
        writable_file(link)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.core import test_files
os.replace = os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
test_files.KILLED_WRITERS[sys.argv[1]](Path(sys.argv[2]))
"""
"""Dies by `kill -9` with the new file written and not yet in its place."""


KILLED_WRITERS = WRITERS | {"once": lambda path: write_once(path, b"new")}


@pytest.mark.parametrize("name", first_by_day(KILLED_WRITERS))
def test_what_a_killed_program_leaves_goes_with_the_next_one(name: str, tmp_path: Path) -> None:
    path, other = tmp_path / "there", tmp_path / ".mine.part"
    for file in (path, other):
        file.write_text("old")
    died = subprocess.run([sys.executable, "-c", KILLED, name, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    left = set(tmp_path.iterdir()) - {path, other}
    assert len(left) == 1
    running = unfinished(path)  # this process's own, another machine's, and one of a day ago
    elsewhere = running.with_name(re.sub("adhere-.{8}", "adhere-00000000", running.name))
    forgotten = elsewhere.with_name(elsewhere.name.replace("there", "then"))
    for file in (running, elsewhere, forgotten):
        file.touch()
    os.utime(forgotten, (0, 0))
    writable(tmp_path)
    assert set(tmp_path.iterdir()) == {path, other, running, elsewhere}


IN_A_RUN = {
    "picture": lambda run: Folder(run).write("images/a.png", b"new", label="1-of-1"),
    "manifest": lambda run: Folder(run).create("manifest.jsonl", b"new"),
    "results": lambda run: Folder(run, alone=True).write("results.json", b"new"),
}
KILLED_IN_A_RUN = KILLED.replace("KILLED_WRITERS", "IN_A_RUN")


@pytest.mark.parametrize("name", first_by_day(IN_A_RUN))
def test_what_a_killed_evaluation_leaves_goes_with_the_next_one(name: str, tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED_IN_A_RUN, name, tmp_path], check=False)
    assert died.returncode == -signal.SIGKILL
    (left,) = (path for path in tmp_path.rglob("*") if path.is_file())
    if name == "picture":
        Folder(tmp_path).sweep()
    else:  # nobody sweeps a folder that is no run, but who writes there again
        IN_A_RUN[name](tmp_path)
    assert not left.exists()
    assert [*tmp_path.rglob("*.part")] == []


def test_a_folder_that_becomes_read_only_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the refusal to remove what was begun, which is refused then, too."""

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "there"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", refuses)
    monkeypatch.setattr(Path, "unlink", refuses)
    with pytest.raises(OSError, match=r"there was not written .Permission denied.; what was"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_a_file_that_may_grow_no_more_is_a_sentence(tmp_path: Path) -> None:
    """As under `ulimit -f`, which ends a program that does not see to it."""
    path = tmp_path / "there"
    path.write_text("old")
    script = (
        "import resource, sys; from pathlib import Path; from tests.core import test_files as t;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "t.write_text(Path(sys.argv[1]), 'x' * 10000)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)], check=False, capture_output=True, text=True
    )
    assert "there was not written (File too large); what was finished before is" in run.stderr
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"
