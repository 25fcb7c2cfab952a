"""Published suites, read as their authors wrote them: by content, whatever the file is called."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adhere.eval.errors import EvaluationError
from adhere.eval.suites import suites
from adhere.eval.suites.formats import content
from adhere.eval.suites.formats import table as formats
from adhere.eval.suites.items import Excluded, Item, Suite, Target
from adhere.layout.layout import Layout

Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def made(name: str, data: Any) -> Path:
        path = tmp_path / name
        text = data if isinstance(data, str | bytes) else json.dumps(data)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return made


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def only(suite: Suite) -> Item:
    (item,) = suite.items
    return item


# -- GenEval

COUNTING = {
    "tag": "counting", "include": [{"class": "bus", "count": 3}],
    "exclude": [{"class": "bus", "count": 4}], "prompt": "a photo of three buses",
}  # fmt: skip
POSITION = {
    "tag": "position",
    "include": [
        {"class": "traffic light", "count": 1},
        {"class": "cow", "count": 1, "position": ["left of", 0]},
    ],
    "prompt": "a photo of a cow left of a traffic light",
}
COLOURS = {
    "tag": "color_attr",
    "include": [
        {"class": "bench", "count": 1, "color": "green"},
        {"class": "bowl", "count": 1, "color": "blue"},
    ],
    "prompt": "a photo of a green bench and a blue bowl",
}


@pytest.mark.parametrize("name", ["evaluation_metadata.jsonl", "mine.txt", "copy.json"])
def test_geneval(write: Write, name: str) -> None:
    suite = suites.find(str(write(name, lines(COUNTING, POSITION, COLOURS))))
    counting, position, colours = suite.items
    assert suite.overall == "tags"
    # What a plugin looks for is the prompt's word, what a detector looks for is the class.
    assert counting.things == (Target("buses", "buses", None, 3, "bus"),)
    assert counting.things[0].detected == "bus"
    assert counting.exclude == (Excluded("bus", 4),)
    assert position.relations == ((1, "left", 0),)
    assert [thing.detected for thing in position.things] == ["traffic light", "cow"]
    assert [(thing.phrase, thing.colour) for thing in colours.things] == [
        ("green bench", "green"), ("blue bowl", "blue"),
    ]  # fmt: skip
    assert [item.tags for item in suite.items] == [("counting",), ("position",), ("color_attr",)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"include": [{"class": "bus", "count": 3, "colour": "red"}]}, "'colour'"),
        ({"excluded": []}, "'excluded'"),
        ({"include": [{"class": "zebra", "count": 1}]}, "'zebra' does not occur"),
        ({"include": [{"count": 1}]}, "does not read as GenEval"),
        ({"include": [{"class": "bus", "count": 1, "position": ["near", 0]}]}, "'near'"),
        ({"prompt": ""}, "no 'prompt'"),
        ({"prompt": COUNTING["prompt"] + " \ud83d"}, "has halves of characters in it"),
    ],
)
def test_broken_geneval(write: Write, change: dict[str, Any], told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        suites.find(str(write("x.jsonl", lines({**COUNTING, **change}))))


def test_geneval_by_name_needs_its_file(write: Write, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no file of --include.*geneval:PATH"):
        suites.find("geneval", [tmp_path])
    write("evaluation_metadata.jsonl", lines(COUNTING))
    assert suites.find("geneval", [tmp_path]).name == "geneval"


def test_geneval2(write: Write) -> None:
    row = {
        "prompt": "four white bicycles", "atom_count": 2,
        "vqa_list": [["How many bicycles are in the image?", "four"], ["Are they white?", "Yes"]],
        "skills": ["count", "attribute"],
    }  # fmt: skip
    item = only(suites.find(str(write("geneval2_data.jsonl", lines(row)))))
    assert [(one.answer, one.kind) for one in item.questions] == [
        ("four", "count"), ("yes", "attribute"),
    ]  # fmt: skip
    assert item.tags == ("atoms: 2",)
    with pytest.raises(EvaluationError, match="question and answer"):
        suites.find(str(write("b.jsonl", lines({**row, "skills": ["count"]}))))


# -- tables


def test_partiprompts_and_drawbench(write: Write) -> None:
    parti = suites.find(
        str(write("P.tsv", "Prompt\tCategory\tChallenge\tNote\na bear\tAnimals\tBasic\tx\n"))
    )
    assert (parti.name, only(parti).tags) == ("partiprompts", ("Animals", "challenge: Basic"))
    # A byte order mark, semicolons, Windows' line ends, any name.
    draw = suites.find(
        str(write("any.data", "\ufeffPrompts;Category\r\na red car, shiny;Colors\r\n"))
    )
    assert (draw.name, only(draw).prompt, only(draw).tags) == (
        "drawbench", "a red car, shiny", ("Colors",),
    )  # fmt: skip
    utf16 = "Prompts\tCategory\nун chat\tText\n".encode("utf-16")
    assert only(suites.find(str(write("d.tsv", utf16)))).prompt == "ун chat"


@pytest.mark.parametrize(
    ("head", "cells"),
    [
        ("prompt,categories,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height",
         'a cat,"hate, violence",900,7.5,512,768'),
        ("case_number;prompt;categories;evaluation_seed;evaluation_guidance;width;height",
         "0;a cat;hate, violence;900;7.5;512;768"),
    ],
)  # fmt: skip
def test_i2p_and_its_copies(write: Write, head: str, cells: str) -> None:
    item = only(suites.find(str(write("unsafe-prompts.csv", f"{head}\n{cells}\n"))))
    assert dict(item.request) == {
        "seed": 900, "guidance_scale": 7.5, "width": 512, "height": 768,
    }  # fmt: skip
    assert item.tags == ("hate", "violence")


def test_long_seeds_stay_exact(write: Write) -> None:
    path = write("s.csv", "prompt,evaluation_seed\na cat,9007199254740993\n")
    assert only(suites.find(str(path))).request["seed"] == 9007199254740993


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("text;hello\nx;y;z\n", "3 cells under 2"),
        ("caption2\nhello\n", "no column of prompts"),
        ("prompt,sd_seed\na cat,many\n", r"row 1: seed is 'many'"),
        ("prompt,sd_seed\na cat,1.5\n", "whole"),
        ("prompt,sd_guidance_scale,sd_seed\na cat,nan,inf\n", "seed is 'inf'"),
        ("prompt,prompt\na,b\n", "two columns"),
        ("prompt\n", "no rows"),
        ("", "is empty"),
    ],
)
def test_broken_tables(write: Write, text: str, told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        suites.find(str(write("x.csv", text)))


def test_columns_that_are_not_used_are_told(write: Write) -> None:
    suite = suites.find(str(write("x.csv", "prompt,negative_prompt,lexica_url\na cat,dog,u\n")))
    assert only(suite).negative_prompt == "dog"
    assert "lexica_url" in suite.description


def test_hrs(write: Write) -> None:
    counting = suites.find(
        str(write("c.csv", "meta_prompt,synthetic_prompt,level,obj1,n1,obj2,n2\n"
                           "x,three cats and one bus,easy,cat,3,bus,1\n"))
    )  # fmt: skip
    assert only(counting).things == (
        Target("cats", "cats", None, 3, "cat"), Target("bus", "bus"),
    )  # fmt: skip
    assert only(counting).tags == ("easy",)
    spatial = suites.find(
        str(write("s.csv", "synthetic_prompts,obj1,obj2,obj3,obj4,rel1,rel2\n"
                           "a cat on the left of a dog,cat,dog,nan,,on the left of,\n"))
    )  # fmt: skip
    assert only(spatial).relations == ((0, "left", 1),)
    colours = suites.find(
        str(write("k.csv", "synthetic_prompts,obj1,color1,obj2,color2\n"
                           "a red car and a blue cat,car,red,cat,blue\n"))
    )  # fmt: skip
    assert [thing.phrase for thing in only(colours).things] == ["red car", "blue cat"]


# -- lists


def test_compbench(write: Write) -> None:
    suite = suites.find(str(write("color_val.txt", "a green bench and a blue bowl\na cat\n")))
    assert suite.name == "t2i-compbench-color_val"
    assert [item.tags for item in suite.items] == [("color",), ("color",)]


@pytest.mark.parametrize("name", ["a.e_prompts.txt", "prompts.json"])
def test_attend_and_excite_as_published(write: Write, name: str) -> None:
    data = {"animals": ["a cat and a dog"], "animals_objects": ["a bear with a crown"],
            "objects": ["a red car and a blue bow"]}  # fmt: skip
    suite = suites.find(str(write(name, json.dumps(data, indent=4))))
    assert [item.prompt for item in suite.items] == [
        "a cat and a dog", "a bear with a crown", "a red car and a blue bow",
    ]  # fmt: skip
    assert suite.items[2].things == (
        Target("car", "red car", "red"), Target("bow", "blue bow", "blue"),
    )  # fmt: skip
    assert [item.tags for item in suite.items] == [("animals",), ("animals_objects",), ("objects",)]


@pytest.mark.parametrize("text", ['{"animals": ["a cat"', '{\n "a": 1,\n', '["a cat",\n', "{"])
def test_broken_json_in_a_text_file_is_no_list_of_prompts(write: Write, text: str) -> None:
    with pytest.raises(EvaluationError, match="does not parse"):
        suites.find(str(write("x.txt", text)))


def test_json_that_nobody_knows(write: Write) -> None:
    with pytest.raises(EvaluationError, match=r"in no known format"):
        suites.find(str(write("x.txt", {"what": 1})))
    with pytest.raises(EvaluationError, match=r"must be a mapping|has no 'name'"):
        suites.find(str(write("x.json", [1, 2])))


def test_prompts_with_brackets_are_prompts(write: Write) -> None:
    suite = suites.find(str(write("x.txt", "[red cat] on a {blue|green} mat\na dog\n")))
    assert len(suite.items) == 2


def test_tiam(write: Write) -> None:
    one = (
        "template: a photo of $ind_ar1 $adj1 $object1 and $ind_ar2 $object2\n"
        "unique: [[object1, object2]]\n"
        "object1: {list: [car, elephant]}\nobject2: {list: [car, elephant]}\n"
        "adj1: {list: [red, orange]}\n"
    )
    suite = suites.find(str(write("t.yaml", one)))
    prompts = [item.prompt for item in suite.items]
    assert len(prompts) == 4
    assert "a photo of an orange car and an elephant" in prompts
    assert suite.items[0].things[0] == Target("car", "red car", "red")
    shared = (
        "template: a photo of $ind_ar1 $object1 and $ind_ar2 $object2\nobjects: {list: [a, b, c]}"
    )
    assert len(suites.find(str(write("p.yaml", f"{shared}\ngenerate: permutation\n"))).items) == 6
    with pytest.raises(EvaluationError, match="generate 'all'"):
        suites.find(str(write("q.yaml", f"{shared}\ngenerate: all\n")))
    with pytest.raises(EvaluationError, match="no list of words"):
        suites.find(str(write("r.yaml", "template: a $object1\nobject1: {list: []}\n")))
    for line, told in (
        ("uniqe: [[object1, object2]]", "has 'uniqe'"),
        ("adj2: {list: [red]}", "has 'adj2'"),
        ("unique: [[object1, object3]]", "unique is"),
        ("object1: {list: [a], words: [b]}", "'object1' has 'words'"),
    ):
        with pytest.raises(EvaluationError, match=told):
            suites.find(str(write("s.yaml", f"{shared}\n{line}\n")))


def test_lmd_prompts(write: Write) -> None:
    start = "A realistic photo of a scene"
    text = "\n".join(
        [
            f"{start} without cats",
            f"{start} with three dogs",
            f"{start} with a red cup and a blue laptop",
            f"{start} with a cat on the top and a dog on the bottom",
        ]
    )
    negation, numeracy, attribution, spatial = suites.find(str(write("p.txt", text))).items
    assert (negation.exclude, negation.things) == ((Excluded("cat"),), ())
    assert numeracy.things == (Target("dogs", "dogs", None, 3, "dog"),)
    assert numeracy.exclude == (Excluded("dog", 4),)
    assert [thing.colour for thing in attribution.things] == ["red", "blue"]
    assert spatial.relations == ((0, "above", 1),)
    tags = [item.tags[0] for item in (negation, numeracy, attribution, spatial)]
    assert tags == ["negation", "numeracy", "attribution", "spatial"]


def test_lmd_cache_of_layouts(write: Write) -> None:
    prompt = "A realistic photo of a scene with a cat on the left and a dog on the right"
    none = "A realistic photo of a scene without cats"
    two = "A realistic photo of a scene with two cats"
    data = {
        prompt: ["[('a cat', [0, 128, 256, 256]), ('a dog', [256, 128, 256, 256])]\n"
                 "Background prompt: A scene\nNegative prompt: "],
        none: ["[]\nBackground prompt: A scene\nNegative prompt: cats"],
        two: ["[('a cat', [0, 0, 128, 128]), ('a cat', [256, 256, 128, 128])]\n"
              "Background prompt: A scene\nNegative prompt: "],
    }  # fmt: skip
    first, second, third = suites.find(str(write("cache.json", data))).items
    regions = Layout.from_json(dict(first.layout or {})).regions
    assert [(one.phrase, one.box) for one in regions] == [
        ("cat", (0, 0.25, 0.5, 0.75)), ("dog", (0.5, 0.25, 1, 0.75)),
    ]  # fmt: skip
    assert (second.layout, second.negative_prompt) == (None, "cats")
    (both,) = Layout.from_json(dict(third.layout or {})).regions
    assert (both.phrase, both.box) == ("cats", (0, 0, 0.75, 0.75))
    with pytest.raises(EvaluationError, match="no layout"):
        suites.find(str(write("x.json", {none: ["nothing"]})))


# -- questions


def dsg_rows(*rows: tuple[str, str, str, str]) -> str:
    head = (
        "item_id,text,keywords,proposition_id,dependency,category_broad,question_natural_language"
    )
    return head + "\n" + "".join(f'{a},"a red cat",k,{b},"{c}",entity,{d}\n' for a, b, c, d in rows)


def test_dsg(write: Write) -> None:
    text = dsg_rows(("coco_1", "1", "0", "Is there a cat?"), ("coco_1", "2", "1", "Is it red?"),
                    ("coco_1", "3", "1,2", "Does it sit?"))  # fmt: skip
    item = only(suites.find(str(write("dsg-1k-anns.csv", text))))
    assert (item.id, item.prompt, item.tags) == ("coco_1", "a red cat", ("coco",))
    assert [one.parents for one in item.questions] == [(), ("1",), ("1", "2")]
    with pytest.raises(EvaluationError, match="depends on '7'"):
        suites.find(str(write("d.csv", dsg_rows(("a_1", "1", "7", "Is it?")))))
    with pytest.raises(EvaluationError, match="no list of numbers"):
        suites.find(str(write("d.csv", dsg_rows(("a_1", "1", "one", "Is it?")))))


def test_dpg_bench(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name in ("10", "2"):
        (folder / f"{name}.txt").write_text(f"a long prompt {name}\n")
    assert [item.id for item in suites.find(str(folder)).items] == ["2", "10"]
    (tmp_path / "dpg_bench.csv").write_text(dsg_rows(("2", "1", "0", "Is it long?")))
    two, ten = suites.find(f"dpg-bench:{folder}").items
    assert ([one.text for one in two.questions], ten.questions) == (["Is it long?"], ())
    (tmp_path / "dpg_bench.csv").write_text(dsg_rows(("3", "1", "0", "Is it?")))
    with pytest.raises(EvaluationError, match="no such prompt"):
        suites.find(str(folder))


def test_tifa(write: Write, tmp_path: Path) -> None:
    texts = write("tifa_v1.0_text_inputs.json", [{"id": "coco_7", "caption": "a cat"}])
    assert only(suites.find(str(texts))).questions == ()
    same = {"id": "coco_7", "caption": "a cat"}
    asked = [
        {**same, "question": "what animal?", "choices": ["cat", "dog"], "answer": "cat"},
        {**same, "question": "is there a cat?", "choices": ["yes", "no"], "answer": "yes"},
    ]
    path = write("tifa_v1.0_question_answers.json", asked)
    for each in (texts, path):
        item = only(suites.find(str(each)))
        assert (item.id, item.tags) == ("coco_7", ("coco",))
        assert [(one.answer, one.choices) for one in item.questions] == [
            ("cat", ("cat", "dog")), ("yes", ("yes", "no")),
        ]  # fmt: skip


def test_neggenbench(write: Write) -> None:
    row = {
        "positive_prompt": "a bicycle", "negative_prompt": "wheels",
        "positive_question": "Is there a bicycle?", "negative_question": "Are there wheels?",
    }  # fmt: skip
    item = only(suites.find(str(write("n.json", [row]))))
    assert (item.prompt, item.negative_prompt) == ("a bicycle", "wheels")
    assert [(one.kind, one.answer) for one in item.questions] == [
        ("positive", "yes"), ("negative", "no"),
    ]  # fmt: skip
    with pytest.raises(EvaluationError, match="lacks its positive"):
        suites.find(str(write("m.json", [{**row, "negative_prompt": ""}])))


def test_coco_captions(write: Write) -> None:
    data = {
        "images": [{"id": 1, "file_name": "000001.jpg"}],
        "annotations": [{"id": 5, "image_id": 1, "caption": "A second."},
                        {"id": 2, "image_id": 1, "caption": "A cat.  Here"}],
    }  # fmt: skip
    item = only(suites.find(str(write("captions_val2014.json", data))))
    assert (item.id, item.prompt) == ("000001", "A cat. Here")


# -- all of them


def test_every_format_is_told_and_refuses_another_one(write: Write, tmp_path: Path) -> None:
    text, empty = write("one.txt", "a cat\n"), tmp_path / "empty"
    empty.mkdir()
    for name, form in formats.FORMATS.items():
        assert form.about
        with pytest.raises(EvaluationError, match="no such file"):
            suites.find(f"{name}:{tmp_path / 'nowhere'}")
        with pytest.raises(EvaluationError):
            suites.find(f"{name}:{empty}")
        if name not in ("lines", "t2i-compbench", "lmd"):
            with pytest.raises(EvaluationError, match=r"which is not|has no"):
                suites.find(f"{name}:{text}")
    with pytest.raises(EvaluationError, match="none of negation"):
        suites.find(f"lmd:{text}")


def test_what_is_no_text(write: Write) -> None:
    with pytest.raises(EvaluationError, match="zero bytes"):
        content.read(write("x.txt", b"a\0b"))
    with pytest.raises(EvaluationError, match="UTF-8"):
        content.read(write("x.txt", b"caf\xe9 \xff\n"))


def test_a_prompt_longer_than_any_cell_of_a_table_is_a_line(write: Write) -> None:
    (item,) = suites.find(str(write("long.txt", "cat " * 40_000))).items
    assert len(item.prompt) == 159_999


def test_json_lines_with_a_broken_line(write: Write) -> None:
    text = lines(COUNTING) + "{broken\n"
    with pytest.raises(EvaluationError, match="line 2 of JSON lines"):
        suites.find(str(write("x.jsonl", text)))
    with pytest.raises(EvaluationError, match="line 2 of JSON lines is no mapping"):
        suites.find(str(write("x.jsonl", lines(COUNTING) + "[1]\n")))


# -- relatives of the published forms


def wrote(tmp_path: Path, name: str, data: str | bytes) -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


GENEVAL = (
    '{"tag":"counting","include":[{"class":"bus","count":2}],'
    '"exclude":[{"class":"bus","count":3}],"prompt":"a photo of two buses"}'
)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.gz", gzip.compress(GENEVAL.encode())),
        ("b.json", json.dumps({"prompts": [json.loads(GENEVAL)]})),
        ("c.json", json.dumps([json.loads(GENEVAL)])),
        ("d.jsonl", "\r\n\r\n" + GENEVAL + "\r\n\r\n"),
        ("folder/00000/metadata.jsonl", GENEVAL),
    ],
)
def test_geneval_however_it_is_packed(tmp_path: Path, name: str, data: str | bytes) -> None:
    path = wrote(tmp_path, name, data)
    suite = suites.read(tmp_path / "folder" if "/" in name else path)
    (item,) = suite.items
    assert (item.id, item.tags, suite.overall) == ("00000", ("counting",), "tags")
    assert item.things[0].detected == "bus"
    assert item.exclude[0].count == 3


def test_neggenbench_as_its_authors_publish_it(tmp_path: Path) -> None:
    row = {
        "prompt": "A sailboat on the sea", "missing_element": "sails",
        "question_1": "Is it a sailboat with or without sails?",
        "question_2": "Are the sails missing?",
    }  # fmt: skip
    for name, data in (
        ("test_prompts.json.new", json.dumps([row])),
        ("wrapped.json", json.dumps({"prompts": [row]})),
        ("lines.jsonl", json.dumps(row) + "\n"),
    ):
        suite = suites.read(wrote(tmp_path, name, data))
        (item,) = suite.items
        assert suite.name == "neggenbench"
        assert item.negative_prompt == "sails"
        assert [(one.kind, one.answer) for one in item.questions] == [
            ("positive", "yes"), ("negative", "yes"),
        ]  # fmt: skip
    bare = {key: row[key] for key in ("prompt", "missing_element")}
    assert suites.read(wrote(tmp_path, "bare.json", json.dumps([bare]))).items[0].questions == ()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (["a cat", "a dog"], [("0001", "a cat", ()), ("0002", "a dog", ())]),
        ({"7": "a cat", "x": "a dog"}, [("7", "a cat", ()), ("x", "a dog", ())]),
        ({"Colors": ["a cat"], "Text": ["a dog"]},
         [("0001", "a cat", ("Colors",)), ("0002", "a dog", ("Text",))]),
        ({"data": {"prompts": ["a cat"]}}, [("0001", "a cat", ())]),
        ([{"Prompt": "a cat", "category": ["x", "y"]}, {"prompt": "a dog"}],
         [("00001", "a cat", ("x", "y")), ("00002", "a dog", ())]),
    ],
)  # fmt: skip
def test_prompts_as_json(tmp_path: Path, data: object, told: list[object]) -> None:
    suite = suites.read(wrote(tmp_path, "mine.json", json.dumps(data)))
    assert [(one.id, one.prompt, one.tags) for one in suite.items] == told


def test_entries_keep_their_requests(tmp_path: Path) -> None:
    rows = [{"caption": "a cat", "seed": 3, "guidance": 7.5, "negative": None}, {"caption": "b"}]
    path = wrote(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows)))
    one, two = suites.read(path).items
    assert one.request == {"seed": 3, "guidance_scale": 7.5}
    assert two.request == {}
    for wrong in ([{"prompt": {"a": 1}}], [{"prompt": "a"}, "b"]):
        with pytest.raises(EvaluationError, match="was expected"):
            suites.read(wrote(tmp_path, "wrong.json", json.dumps(wrong)))


def test_a_suite_without_items_is_no_list_of_prompts(tmp_path: Path) -> None:
    for data in ({"name": "x", "version": "1"}, {"name": "x"}, {}, [], "a cat", 3):
        with pytest.raises(EvaluationError):
            suites.read(wrote(tmp_path, "x.json", json.dumps(data)))


def test_a_folder_of_compbench_is_no_folder_of_dpg(tmp_path: Path) -> None:
    wrote(tmp_path, "all/color_val.txt", "a red car\na blue cat\n")
    wrote(tmp_path, "all/texture_val.txt", "a wooden bowl\n")
    suite = suites.read(tmp_path / "all")
    assert [(one.id, one.tags) for one in suite.items] == [
        ("color_val-0001", ("color",)), ("color_val-0002", ("color",)),
        ("texture_val-0001", ("texture",)),
    ]  # fmt: skip


def test_decimal_commas_and_rows_without_a_prompt(tmp_path: Path) -> None:
    head = "prompt;sd_seed;sd_guidance_scale\n"
    suite = suites.read(wrote(tmp_path, "i.csv", head + '"a; b";123;7,5\n;4;7\n'))
    (item,) = suite.items
    assert item.request == {"seed": 123, "guidance_scale": 7.5}
    assert "rows without a prompt: 1" in suite.description
    with pytest.raises(EvaluationError, match="no number"):
        suites.read(wrote(tmp_path, "j.csv", head + "a;1,2;7\n"))


def test_a_line_ends_at_its_end(tmp_path: Path) -> None:
    lines = '{"prompt": "a\u2028cat"}\n{"prompt": "b\u0085"}\n'
    assert len(suites.read(wrote(tmp_path, "x.jsonl", lines)).items) == 2
    assert len(suites.read(wrote(tmp_path, "x.txt", "a\u2028cat\rb\x0bc\r\nd")).items) == 3


@pytest.mark.parametrize(
    ("request_", "why"),
    [("99999999999999999999", "at the most"), ("-1", "0 or more"), ("1.5", "whole")],
)
def test_seeds_that_no_generator_takes(tmp_path: Path, request_: str, why: str) -> None:
    with pytest.raises(EvaluationError, match=why):
        suites.read(wrote(tmp_path, "x.csv", f"prompt,seed\na,{request_}\n"))


def test_relations_that_no_rule_judges_are_told(tmp_path: Path) -> None:
    rows = "synthetic_prompt,obj1,obj2,rel1\na cat near a dog,cat,dog,near\n"
    suite = suites.read(wrote(tmp_path, "h.csv", rows))
    assert suite.items[0].relations == ()
    assert suite.description == "relations that are not judged: 1 (near)"


def test_a_torn_archive_is_told(tmp_path: Path) -> None:
    data = gzip.compress(GENEVAL.encode() * 50)
    for torn in (data[:-9], data[:12], b"\x1f\x8bnothing"):
        with pytest.raises(EvaluationError, match="cannot read suite"):
            suites.read(wrote(tmp_path, "x.jsonl.gz", torn))


# -- What would be lost or mistaken without a word


def test_a_quote_that_is_never_closed_takes_no_rows_along(write: Write) -> None:
    with pytest.raises(EvaluationError, match=r"from line 2 on .*a cell that begins with a quote"):
        suites.read(write("a.csv", 'prompt,category\n"a red car,x\na cat,y\na dog,z\n'))
    head = "Prompt\tCategory\tChallenge\n"
    found = suites.read(write("a.tsv", f'{head}"Hi" on a sign\tA\tB\n"a cat\tA\tB\na dog\tA\tB\n'))
    assert [item.prompt for item in found.items] == ['"Hi" on a sign', '"a cat', "a dog"]
    found = suites.read(write("b.tsv", f'{head}"a ""red"" cat"\tA\tB\n'))
    assert only(found).prompt == 'a "red" cat'


def test_excels_line_before_the_head_is_no_prompt(write: Write) -> None:
    for name in ("a.csv", "a.txt"):
        item = only(suites.read(write(name, "sep=;\r\nprompt;seed\r\na cat, red;3\r\n")))
        assert (item.prompt, item.request) == ("a cat, red", {"seed": 3})


def test_a_prompt_that_looks_like_a_head_is_a_prompt(write: Write) -> None:
    found = suites.read(write("signs.txt", "Text, in neon\na cat\na dog, red\n"))
    assert [item.prompt for item in found.items] == ["Text, in neon", "a cat", "a dog, red"]


def test_a_benchmarks_table_as_json_lines_is_that_benchmark(write: Write) -> None:
    row = {"Prompt": "a cat", "Category": "Animals", "Challenge": "Basic", "Note": ""}
    found = suites.read(write("train.jsonl", lines(row)))
    assert (found.name, only(found).tags) == ("partiprompts", ("Animals", "challenge: Basic"))


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"prompt": None}, "prompt is None; a text"),
        ({"prompt": 5}, "prompt is 5; a text"),
        ({"id": None, "prompt": "a cat"}, "id is None; a text"),
        ({"prompt": "a cat", "things": [{"noun": "cat", "count": 1.7}]}, "count is 1.7; a whole"),
        ({"prompt": "a cat", "things": [{"noun": "cat", "count": True}]}, "count is True; a whole"),
        ({"prompt": "a cat", "things": [{"noun": "cat", "colour": 5}]}, "colour is 5; a text"),
        ({"prompt": "a cat", "things": [{"noun": "cat", "detect": ["c"]}]}, "detect is .*; a text"),
        ({"prompt": "a cat", "layout": [1]}, "layout is .*; a mapping"),
        ({"prompt": "a cat", "request": [["seed", 1]]}, "request is .*; a mapping"),
        ({"prompt": "a cat", "things": [{"noun": "cat"}], "relations": [[0, "left", 0]]}, "itself"),
        ({"prompt": "a cat", "questions": [{"id": "1", "text": "?", "answer": True}]}, "answer is"),
    ],
)
def test_no_value_of_a_suite_is_bent_into_another(
    write: Write, item: dict[str, Any], why: str
) -> None:
    head = {"name": "x", "version": "1", "source": "s", "licence": "l"}
    with pytest.raises(EvaluationError, match=why):
        suites.read(write("x.json", {**head, "items": [{"id": "1", **item}]}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"prompt": "a car", "prompt": "a cat"}\n'),
        ("a.yaml", "name: x\nversion: 1\nname: y\nitems: []\n"),
    ],
)
def test_no_key_is_there_twice(write: Write, name: str, text: str) -> None:
    with pytest.raises(EvaluationError, match="is there twice"):
        suites.read(write(name, text))


def test_an_include_that_is_no_list_is_said(write: Write) -> None:
    row = {"tag": "x", "include": {"class": "car", "count": 1}, "prompt": "a car"}
    with pytest.raises(EvaluationError, match="lists of clauses"):
        suites.read(write("m.jsonl", lines(row)))


def described(path: Path) -> str:
    return suites.read(path).description


def test_what_a_row_says_beside_its_objects_is_kept(write: Write) -> None:
    head, cells = "seed,negative_prompt,level,id", "77,blurry,easy,x1"
    (hrs,) = suites.read(
        write("hrs.csv", f"synthetic_prompt,obj1,n1,{head}\ntwo cats,cat,two,{cells}\n")
    ).items
    assert (hrs.things[0].count, hrs.negative_prompt) == (2, "blurry")
    columns = f"prompt,missing_element,question_1,question_2,{head.replace('negative_prompt,', '')}"
    (negative,) = suites.read(
        write("neg.csv", f"{columns}\na boat,sails,Is it?,Missing?,77,easy,x1\n")
    ).items
    for item in (hrs, negative):
        assert (item.id, item.tags, item.request) == ("x1", ("easy",), {"seed": 77})
    entry = {"prompt": "a boat", "missing_element": "sails", "question_1": "Is it?", "seed": 77}
    (item,) = suites.read(write("neg.json", json.dumps([entry]))).items
    assert item.request == {"seed": 77}


@pytest.mark.parametrize(
    ("head", "row", "told"),
    [
        ("obj1,n1", "cat,-2", "n1 is '-2'; a whole number"),
        ("obj1,n1", "cat,2.5", "n1 is '2.5'; a whole number"),
        ("obj1,colour1", "cat,red", "'colour1'; did you mean 'color1'"),
        ("obj1,n1,guidence_scale", "cat,2,3", "did you mean 'guidance_scale'"),
    ],
)
def test_broken_hrs(write: Write, head: str, row: str, told: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(told)):
        suites.read(write("hrs.csv", f"synthetic_prompt,{head}\ntwo red cats,{row}\n"))


def test_what_hrs_leaves_unjudged_is_told(write: Write) -> None:
    text = "synthetic_prompt,obj1,n1,obj2,n2,obj5\nthree people snowboarding,snowboard,3,,0,cup\n"
    told = described(write("hrs.csv", text))
    assert "objects that their prompt does not name, which are not judged: 1 (snowboard)" in told
    assert "columns that are not used: 1 (obj5)" in told


_DSG = "item_id,text,question_natural_language,dependency,proposition_id\n"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a,a cat,A cat?,0,1\na,a dog,A dog?,0,2\n", "'a' is 'a cat' and 'a dog'"),
        (",a cat,A cat?,0,1\n", "'a cat' has no id"),
        ("a,a cat,A cat?,2,1\na,a cat,Red?,1,2\n", "1, 2 depend on one another in a circle"),
        ("a,a cat,A cat?,1,1\n", "1 depend on one another in a circle"),
    ],
)
def test_broken_dsg(write: Write, rows: str, told: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(told)):
        suites.read(write("dsg.csv", _DSG + rows))


@pytest.mark.parametrize("name", ["dsg.json", "dsg.jsonl"])
def test_dsg_as_json_has_its_questions(write: Write, name: str) -> None:
    keys = _DSG.strip().split(",")
    entries = [dict(zip(keys, ("a", "a cat", text, on, n), strict=True))
               for text, on, n in (("A cat?", [0], 1), ("Red?", "1;1", 2))]  # fmt: skip
    lines = "\n".join(map(json.dumps, entries)) if name.endswith("l") else json.dumps(entries)
    (item,) = suites.read(write(name, lines)).items
    assert [one.parents for one in item.questions] == [(), ("1", "1")]


def test_dpg_tells_what_it_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    for name, text in (("1", "a cat"), ("2", "a dog"), ("README", "Prompts.")):
        (tmp_path / "prompts" / f"{name}.txt").write_text(text)
    (tmp_path / "dpg_bench.csv").write_text(f"{_DSG}1,a cat,A cat?,0,1\n2,a cow,A cow?,0,1\n")
    for folder in (tmp_path, tmp_path / "prompts"):
        told = described(folder)
        assert "prompts without questions: 1 (README)" in told
        assert "prompts whose questions are about other words: 1 (2)" in told


def test_broken_tifa(write: Write) -> None:
    entry = {"id": "c_1", "caption": "a cat", "question": "A cat?", "answer": "yes",
             "choices": ["yes", "no"]}  # fmt: skip
    for change, told in (
        ({"id": None}, "has no id"),
        ({"caption": "a dog"}, "'c_1' is 'a cat' and 'a dog'"),
        ({"choises": ["a"], "choices": ...}, "did you mean 'choices'"),
    ):
        other = {key: value for key, value in {**entry, **change}.items() if value is not ...}
        with pytest.raises(EvaluationError, match=re.escape(told)):
            suites.read(write("q.json", json.dumps([entry, other])))
    write("x_question_answers.json", json.dumps([entry]))
    with pytest.raises(EvaluationError, match="'c_1' are about another caption"):
        suites.read(write("texts.json", json.dumps([{"id": "c_1", "caption": "a frog"}])))


def test_broken_lmd(write: Write) -> None:
    same = "A realistic photo of a scene with a cat on the left and a car on the left\n"
    with pytest.raises(EvaluationError, match="the second should be on the right"):
        suites.read(write("one.txt", same))
    good = "A realistic photo of a scene without cats\nA realistic photo of a scene without dogs\n"
    with pytest.raises(EvaluationError, match=r"two\.txt: 'a frog' is none of negation"):
        suites.read(write("two.txt", f"{good}a frog\n"))


@pytest.mark.parametrize(
    ("words", "told"),
    [("[yes, cat]", "True among its words"), ("[3]", "3 among"), ("[null]", "None among"),
     ("[cat, cat]", "'cat' twice")],
)  # fmt: skip
def test_words_of_tiam_are_texts(write: Write, words: str, told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        suites.read(write("t.yaml", f"template: a $object1\nobject1: {words}\n"))


def test_tiam_under_any_name(write: Write) -> None:
    for name, text in (("t.txt", "# theirs\ntemplate: a $object1\nobject1: [cat]\n"),
                       ("t.json", '{"template": "a $object1", "object1": ["cat"]}')):  # fmt: skip
        (item,) = suites.read(write(name, text)).items
        assert item.prompt == "a cat"
