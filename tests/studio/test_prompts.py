"""Prompt files: every format as people write it, and what is wrong with a line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from adhere.errors import GuidanceError, LayoutError, ParameterError, PromptError
from adhere.pipelines.studio import prompts
from adhere.pipelines.studio.request import seeds_of

CSV = (
    "Prompt,seed,Negative Prompt,subjects,steps,Category\n"
    '"a red cat, and a blue car",3,a dog,cat|car,7,animals\n'
    "\n"
    "a frog,,,,,\n"
    '"a cat\nand a frog",0-2,,,,\n'
    "a bird,1,,,,\n"
)


def read(tmp_path: Path, name: str, text: str) -> prompts.PromptFile:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return prompts.read(tmp_path / name)


def test_csv_has_columns_quotes_and_line_breaks(tmp_path: Path) -> None:
    found = read(tmp_path, "mine.csv", CSV)
    assert [line.prompt for line in found.lines] == [
        "a red cat, and a blue car",
        "a frog",
        "a cat\nand a frog",
        "a bird",
    ]
    assert [line.place.split()[-1] for line in found.lines] == ["2", "4", "5", "7"]
    assert [line.seeds for line in found.lines] == [(3,), None, (0, 1, 2), (1,)]
    assert found.lines[0].own == {
        "negative_prompt": "a dog",
        "steps": 7,
        "subjects": ("cat", "car"),
    }
    assert found.unread == ("Category",)


def test_a_spreadsheet_writes_whole_numbers_and_blanks_in_its_own_way(tmp_path: Path) -> None:
    text = "sep=;\n prompt ;seed;seeds;steps\na cat; 1.0;; 10.0\n ; ; ;\na frog; ;2.0;\n"
    found = read(tmp_path, "a.csv", text)
    assert [(one.prompt, one.seeds, one.place) for one in found.lines] == [
        ("a cat", (1,), "a.csv line 3"),
        ("a frog", (0, 1), "a.csv line 5"),
    ]
    assert found.lines[0].own == {"steps": 10}
    (one,) = read(
        tmp_path, "a.json", '[{"prompt": "a cat", "seed": [3.0, 5], "width": 64.0}]'
    ).lines
    assert (one.seeds, one.own) == ((3, 5), {"width": 64})


@pytest.mark.parametrize(
    "value", ['"seed": 1.5', '"seed": true', '"steps": 10.5', '"steps": true', '"width": "wide"']
)
def test_a_number_that_is_not_whole_is_never_cut(tmp_path: Path, value: str) -> None:
    (line,) = read(tmp_path, "a.json", f'[{{"prompt": "a cat", {value}}}]').lines
    assert isinstance(line.fault, ParameterError)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_a_file_is_written(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("prompt,seed\r\na café,1\r\n".encode(encoding))
    (line,) = prompts.read(tmp_path / "a.csv").lines
    assert (line.prompt, line.seeds) == ("a café", (1,))


def test_of_columns_that_mean_the_same_the_first_is_read_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, "a.csv", "prompt,caption,negative\na cat,a dog,\n,a frog,a hat\n")
    assert [line.prompt for line in found.lines] == ["a cat", "a frog"]
    assert found.lines[1].own == {"negative_prompt": "a hat"}
    assert found.unread == ("caption",)


def test_quotes_in_tabs_that_do_not_pair_are_letters(tmp_path: Path) -> None:
    found = read(tmp_path, "a.tsv", 'prompt\tseed\n"a red cat\t1\na 5" nail\t2\n')
    assert [line.prompt for line in found.lines] == ['"a red cat', 'a 5" nail']


@pytest.mark.parametrize("odd", ["\u2028", "\x0b", "\x0c", "\x85", "\x1e"])
def test_only_a_files_own_line_ends_end_a_prompt(tmp_path: Path, odd: str) -> None:
    prompt = f"a cat{odd}and a frog"
    (lined,) = read(tmp_path, "a.jsonl", json.dumps({"prompt": prompt}, ensure_ascii=False)).lines
    one, other = read(tmp_path, "a.txt", f"{prompt}\r\na dog\n").lines
    assert [lined.prompt, one.prompt, other.prompt] == [prompt, prompt, "a dog"]
    assert (one.place, other.place) == ("a.txt line 1", "a.txt line 2")


def test_half_a_character_is_the_fault_of_its_line(tmp_path: Path) -> None:
    rows = ['"a cat"', '"a \\ud800 cat"', '{"prompt": "a cat", "negative_prompt": "\\udce9"}']
    found = read(tmp_path, "a.jsonl", "\n".join(rows))
    assert found.lines[0].fault is None
    for line, name in zip(found.lines[1:], ("prompt", "negative_prompt"), strict=True):
        assert str(line.fault).startswith(f"{name}=")
        assert "write it in UTF-8" in str(line.fault)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_than_commas(tmp_path: Path, mark: str) -> None:
    text = mark.join(["seed", "prompt"]) + "\n" + mark.join(["4", "a cat, big"]) + "\n"
    (line,) = read(tmp_path, "mine.tsv" if mark == "\t" else "mine.csv", text).lines
    assert (line.prompt, line.seeds) == ("a cat, big", (4,))


def test_json_and_jsonl_are_the_same_prompts(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a cat", "seed": 5, "negative": "a dog", "guidance_scale": 3.5},
        {"prompt": "a cat and a car", "subjects": ["cat", "car"], "seeds": [7, 9]},
        "a frog",
    ]
    lined = read(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    listed = read(tmp_path, "a.json", json.dumps(rows, indent=1))
    inside = read(tmp_path, "b.json", json.dumps({"version": 1, "prompts": rows}))
    for found in (lined, listed, inside):
        assert [line.prompt for line in found.lines] == ["a cat", "a cat and a car", "a frog"]
        assert [line.seeds for line in found.lines] == [(5,), (7, 9), None]
        assert found.lines[0].own == {"negative_prompt": "a dog", "guidance_scale": 3.5}
        assert found.lines[1].own == {"subjects": ("cat", "car")}


def test_text_has_a_prompt_a_line_whatever_it_looks_like(tmp_path: Path) -> None:
    text = "\ufeff# comment\na cat\n\n[red|car] and {braces}, a, b\n"
    found = read(tmp_path, "mine.txt", text)
    assert [line.prompt for line in found.lines] == ["a cat", "[red|car] and {braces}, a, b"]
    assert [line.place for line in found.lines] == ["mine.txt line 2", "mine.txt line 4"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat\na dog, big\n", ["a cat", "a dog, big"]),
        ("[red|cat] and a dog\n", ["[red|cat] and a dog"]),
        ('{"prompt": "a cat"}\n{"prompt": "a dog"}\n', ["a cat", "a dog"]),
        ('{\n "prompt": "a cat"\n}', ["a cat"]),
        ('["a cat", "a dog"]', ["a cat", "a dog"]),
        ("seed,prompt\n1,a cat\n", ["a cat"]),
    ],
)
def test_a_stream_is_told_by_how_it_begins(
    text: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = SimpleNamespace(buffer=io.BytesIO(text.encode()))
    monkeypatch.setattr(prompts.sys, "stdin", stream)
    found = prompts.read(prompts.STREAM)
    assert [line.prompt for line in found.lines] == expected
    assert found.lines[0].place.startswith("standard input line")


@pytest.mark.parametrize(
    ("name", "text", "kind", "said"),
    [
        ("a.jsonl", '{"prompt": "a cat"', PromptError, "it is no JSON"),
        ("a.jsonl", '{"prompt": "a cat", "prompt": "a dog"}', PromptError, "is there twice"),
        ("a.jsonl", "3\n", PromptError, "neither a prompt nor an object"),
        ("a.jsonl", '{"seed": 3}', PromptError, "it has no prompt: it has 'seed'"),
        ("a.jsonl", '{"prompt": 3, "seed": 3}', PromptError, "its prompt 3 is no text"),
        ("a.csv", "prompt,seed\n,3", PromptError, "its prompt is empty"),
        ("a.jsonl", '{"prompt": "a cat", "seed": "x"}', ParameterError, "seeds 'x' do not read"),
        ("a.jsonl", '{"prompt": "a cat", "steps": "x"}', ParameterError, "is not a whole number"),
        ("a.jsonl", '{"prompt": "a cat", "steps": 1e9}', ParameterError, "from 1 to 1000"),
        ("a.csv", "prompt,guidance_scale\na cat,nan\n", ParameterError, "from 0 to 100"),
        ("a.csv", "prompt,width\na cat,100000\n", ParameterError, "from 16 to 4096"),
        ("a.jsonl", '{"prompt": "a cat", "subjects": 3}', ParameterError, "list of phrases"),
        ("a.jsonl", '{"prompt": "a", "layout": "../x.json"}', LayoutError, "outside the layout's"),
        ("a.csv", "prompt,seed\na cat, big,3\n", PromptError, "3 fields for 2 columns"),
    ],
)
def test_a_line_that_does_not_read_is_kept_with_its_fault(
    tmp_path: Path, name: str, text: str, kind: type[GuidanceError], said: str
) -> None:
    (line,) = read(tmp_path, name, text).lines
    assert isinstance(line.fault, kind)
    assert said in str(line.fault)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "text1,seed\na cat,3\n", "one of them must be 'prompt'"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", '[{"prompt": "a cat", "seed": 1, "seed": 2}]', "'seed' is there twice"),
        ("a.json", "3", "must be a list of prompts"),
        ("a.txt", "# only a comment\n", "has no prompt in it"),
        ("a.csv", "prompt\n", "has no prompt in it"),
        ("a.csv", 'prompt,seed\n"a red cat,1\na dog,2\n', "from line 2 on"),
        ("a.csv", f"prompt,seed\n{'cat ' * 40_000},1\n", "from line 2 on"),
        ("a.csv", "prompt,Seed,seed\na cat,1,2\n", "two columns 'Seed'"),
        ("a.txt", "a\0cat\n", "has zero bytes"),
    ],
)
def test_files_that_are_no_prompt_files(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        read(tmp_path, name, text)


def test_a_layout_beside_the_file(tmp_path: Path) -> None:
    scene = {"regions": [{"phrase": "a cat", "box": [0, 0, 0.5, 1]}]}
    (tmp_path / "scene.json").write_text(json.dumps(scene))
    rows = [{"prompt": "a cat", "layout": "scene.json"}, {"prompt": "a cat", "layout": scene}]
    found = read(tmp_path, "a.json", json.dumps(rows))
    assert found.lines[0].own["layout"] == found.lines[1].own["layout"]


def test_seeds() -> None:
    assert seeds_of("4") == (0, 1, 2, 3)
    assert seeds_of("0-3,7, 2") == (0, 1, 2, 3, 7)
    assert seeds_of("4-4") == (4,)
    for text, said in (("0", "--seed 0"), ("10001", "1 to 10000"), ("x", "do not read")):
        with pytest.raises(ParameterError, match=said):
            seeds_of(text)
