"""Benchmarks' command lines: help teaches, and what makes no sense is a sentence."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from adhere.errors import ModelError
from benchmarks.asked import answered


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("attached", ["--rounds", "0"]),
        ("cuda", ["--repeats", "-1"]),
        ("million", ["--jobs", "10", "1e3"]),
        ("overhead", ["--batches", "0"]),
        ("search_curves", ["report", "--prompts", "none"]),
    ],
)
def test_no_number_of_something_is_refused(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 2
    assert f"{words[-1]!r} is no whole number from 1 on" in capsys.readouterr().err


def test_a_benchmark_is_not_run_by_those_who_ask_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["joint_readout", "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module("benchmarks.joint_readout").main()
    assert ended.value.code == 0
    assert "Memory of reading a joint attention layer" in capsys.readouterr().out


def test_what_cannot_be_done_as_asked_is_a_sentence() -> None:
    def main() -> None:
        raise ModelError("there is no model 'nowhere'")

    with pytest.raises(SystemExit, match=r"^error: there is no model 'nowhere'$"):
        answered(main)
