"""The files for containers: what they start is what the command line takes. No Docker is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main

from adhere.app.serving.cli import app_app
from adhere.app.serving.server import Address

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "assets" / "space"
DOCKERFILES = sorted(SPACE.glob("Dockerfile*"))


def started(home: Path, **given: str) -> list[str]:
    """What the start script calls, through an `adhere` that prints its arguments."""
    program = home / "adhere"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    environment = {"PATH": f"{home}:{os.environ['PATH']}", "HOME": str(home), **given}
    done = subprocess.run(
        ["sh", str(SPACE / "start.sh")], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_without_options_it_serves_the_toybox_to_all(tmp_path: Path) -> None:
    wanted = ["app", "--host", "0.0.0.0", "--mcp", "--model", "toybox"]
    assert started(tmp_path) == wanted


def test_options_become_arguments_and_passwords_a_file_of_their_own(tmp_path: Path) -> None:
    words = started(
        tmp_path,
        ADHERE_MODELS="toybox big=owner/name",
        ADHERE_LIMITS="passes=2000 seeds=4",
        ADHERE_GALLERY="/data/a gallery",
        ADHERE_PASSWORDS="ann:sec ret\nbob:$HOME",
    )
    pairs = list(pairwise(words))
    assert ("--model", "toybox") in pairs
    assert ("--model", "big=owner/name") in pairs
    assert ("--limit", "seeds=4") in pairs
    assert ("--gallery", "/data/a gallery") in pairs
    kept = tmp_path / "passwords"
    assert ("--auth-file", str(kept)) in pairs
    assert kept.read_text() == "ann:sec ret\nbob:$HOME\n"
    assert kept.stat().st_mode & 0o077 == 0


def test_the_command_line_has_every_option_of_the_script() -> None:
    used = set(re.findall(r"(--[a-z][a-z-]+)", (SPACE / "start.sh").read_text()))
    command = typer.main.get_command(app_app)
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    assert used
    assert used <= known


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_copies_what_is_there_and_runs_as_nobody_special(path: Path) -> None:
    lines = [line.split() for line in path.read_text().splitlines() if line and line[0] != "#"]
    copied = [[word for word in line[1:] if word[0] != "-"] for line in lines if line[0] == "COPY"]
    assert all((SPACE / source).exists() for *sources, _ in copied for source in sources)
    assert [f'["{target}"]' for *_, target in copied] == [
        line[1] for line in lines if line[0] == "CMD"
    ]
    assert [line[1] for line in lines if line[0] == "USER"][-1] not in ("root", "0")
    used = {line[0]: line[1:] for line in lines}
    assert set(used) <= {"FROM", "RUN", "ARG", "ENV", "COPY", "USER", "WORKDIR", "EXPOSE", "CMD",
                         "HEALTHCHECK"}  # fmt: skip
    port = re.search(r"app_port: (\d+)", (SPACE / "README.md").read_text())
    assert port
    assert used["EXPOSE"] == [port[1]] == [str(Address().port)]
    asked = re.search(r"CMD (\[.*\])", " ".join(used["HEALTHCHECK"]))
    assert asked
    program, option, code = json.loads(asked[1])
    assert (program, option) == ("python", "-c")
    assert f"http://127.0.0.1:{port[1]}'" in code
    compile(code, "healthcheck", "exec")
    extras = re.search(r"adhere\[([\w,]+)\]", path.read_text())
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras
    assert set(extras[1].split(",")) <= set(offered["optional-dependencies"])
