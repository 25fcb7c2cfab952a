"""Studies that are stopped go on where they were: what a witness has said is not asked again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adhere.pipelines.toybox import Judge
from benchmarks import record
from benchmarks.effects import assumptions, edits, prototypes, subjects
from benchmarks.effects.witnesses import Row, heard, whole
from tests.nightly import first_by_day

HOW = {"device": "cpu", "steps": 2}


def test_witnesses_are_asked_once_and_the_torn_one_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def says(name: str) -> Iterator[Row]:
        asked.append(name)
        yield "seen", "plain", 0, True
        if name == "c" and asked.count("c") == 1:
            raise KeyboardInterrupt
        yield "seen", "edited", 0, None

    def all_heard(how: dict[str, Any]) -> Any:
        return list(heard(tmp_path / "found.json", how, ((n, lambda n=n: says(n)) for n in "abc")))

    with pytest.raises(KeyboardInterrupt):
        all_heard(HOW)
    rows = tmp_path / "found.rows.jsonl"
    rows.write_text(rows.read_text() + '{"witness": "c", "ro')  # a kill in the middle of a line
    *_, found = all_heard(HOW)
    assert asked == ["a", "b", "c", "c"]
    assert found == {
        "seen": {"plain": {("a", 0): 1, ("b", 0): 1, ("c", 0): 1}, "edited": {}},
    }
    all_heard({**HOW, "steps": 3})
    assert asked[4:] == ["a", "b", "c"]
    whole(tmp_path / "found.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("study", "words"),
    first_by_day(
        [
            (assumptions, ["--kinds", "apple", "--noises", "1"]),
            (prototypes, ["--count", "1"]),
            (subjects, ["--pairs", "1", "--noises", "1"]),
            (edits, ["p-plus", "scaling-concept", "--count", "1"]),
        ]
    ),
)
def test_a_study_that_is_stopped_goes_on(
    study: Any, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if study is subjects:
        monkeypatch.setattr(subjects, "STEPS", 2)
    else:
        words = [*words, "--steps", "2"]
    if study is assumptions:
        monkeypatch.setattr(assumptions, "KEEPS", (30.0,))
    if study is prototypes:
        monkeypatch.setattr(prototypes, "TEXTS", 2)
        monkeypatch.setattr(prototypes, "PLAN", replace(prototypes.PLAN, count=2, steps=2))
    out = tmp_path / "results" if study is edits else tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["study", *words, "--out", str(out)])

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(study, "whole", stopped)
        with pytest.raises(KeyboardInterrupt):
            study.main()
    files = sorted(out.glob("*.json")) if study is edits else [out]
    before = [json.loads(file.read_text())["results"] for file in files]
    with monkeypatch.context() as never:
        never.setattr(Judge, "__call__", stopped)
        study.main()
    assert [json.loads(file.read_text())["results"] for file in files] == before
    assert not list(tmp_path.rglob("*.rows.jsonl"))


def test_results_say_whether_the_code_was_changed_since_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed() -> object:
        return record.about("meta")["changed_since"]

    monkeypatch.setattr(record, "ROOT", tmp_path)
    assert changed() is None, "there is no commit"
    code = tmp_path / "code.py"
    code.write_text("a = 1\n", "utf-8")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "a")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert changed() is False
    code.write_text("a = 2\n", "utf-8")
    assert changed() is True
