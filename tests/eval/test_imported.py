"""Pictures that somebody else made are scored like a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from adhere.errors import GuidanceWarning
from adhere.eval.cli import eval_app
from adhere.eval.run.folder import Folder
from tests.eval import fakes


def adhere(*words: object) -> Result:
    return CliRunner().invoke(eval_app, [str(word) for word in words])


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_genevals_folders(tmp_path: Path) -> None:
    clause = {"class": "cat", "count": 1}
    told = {"tag": "single_object", "include": [clause], "prompt": "a photo of a cat"}
    for place in ("00000", "00001"):
        folder = tmp_path / "made" / place
        for number in range(2):
            picture(folder / "samples" / f"{number:04d}.png", number)
        (folder / "metadata.jsonl").write_text(json.dumps(told))
        told = {**told, "prompt": "a photo of a cat here"}
    made = adhere("import", tmp_path / "out", tmp_path / "made")
    assert made.exit_code == 0, made.output
    run = Folder(tmp_path / "out")
    assert [(e.item.id, e.seed, e.variant) for e in run.manifest.entries()] == [
        ("00000", 0, "plain"), ("00000", 1, "plain"), ("00001", 0, "plain"), ("00001", 1, "plain"),
    ]  # fmt: skip
    assert next(run.manifest.entries()).item.things[0].noun == "cat"
    # Pixel for pixel.
    with Image.open(run.path / run.image(list(run.manifest.entries())[1].job)) as image:
        assert (
            image.tobytes()
            == Image.open(tmp_path / "made" / "00000" / "samples" / "0001.png").tobytes()
        )
    assert adhere("score", tmp_path / "out", "-m", "clip-score").exit_code == 0
    assert adhere("report", tmp_path / "out", "-m", "clip-score").exit_code == 0
    assert adhere("validate", tmp_path / "out").exit_code == 0
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {score["n"] for score in data["scores"]} == {4}
    # Summed as GenEval sums: the mean of the tasks' means.
    assert next(iter(run.manifest.header["suites"].values()))["overall"] == "tags"
    assert "already" not in adhere("import", tmp_path / "out", tmp_path / "made").output


def test_variants_are_compared_by_item_and_number(tmp_path: Path) -> None:
    suite = fakes.suite_file(tmp_path, 2)
    for variant in ("theirs", "ours"):
        for item in ("i000", "i001"):
            for number in (0, 1):
                picture(tmp_path / variant / f"{item}_{number}.png", len(variant) + number)
    given = [f"{variant}={tmp_path / variant}" for variant in ("theirs", "ours")]
    assert adhere("import", tmp_path / "out", *given, "-s", suite).exit_code == 0
    assert adhere("score", tmp_path / "out", "-m", "clip-score").exit_code == 0
    assert adhere("report", tmp_path / "out", "-m", "clip-score").exit_code == 0
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert data["baseline"] == "theirs"
    compared = [score for score in data["scores"] if "difference" in score]
    assert {(score["variant"], score["difference"]["n"]) for score in compared} == {("ours", 4)}


def test_a_table_says_which_prompt(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "x.png")
    (tmp_path / "made" / "all.csv").write_text("file_name;prompt;seed\nx.png;a red cat;7\n")
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    (entry,) = Folder(tmp_path / "out").manifest.entries()
    assert (entry.item.prompt, entry.seed) == ("a red cat", 7)


def test_genevals_folders_of_a_suite(tmp_path: Path) -> None:
    """Two prompts that are alike stay two; one that the suite has not is refused."""
    clause = {"class": "cat", "count": 1}
    line = {"tag": "single_object", "include": [clause], "prompt": "a photo of a cat"}
    suite = tmp_path / "evaluation_metadata.jsonl"
    suite.write_text("\n".join([json.dumps(line)] * 2))
    for place in ("00000", "00001"):
        picture(tmp_path / "made" / place / "samples" / "0000.png", int(place))
        (tmp_path / "made" / place / "metadata.jsonl").write_text(json.dumps(line))
    made = adhere("import", tmp_path / "out", tmp_path / "made", "-s", suite)
    assert made.exit_code == 0, made.output
    assert [e.item.id for e in Folder(tmp_path / "out").manifest.entries()] == ["00000", "00001"]
    other = {**line, "prompt": "a photo of one cat"}
    (tmp_path / "made" / "00001" / "metadata.jsonl").write_text(json.dumps(other))
    told = adhere("import", tmp_path / "other", tmp_path / "made", "-s", suite)
    assert told.exit_code == 2
    assert "is not in the suite" in " ".join(told.output.split())


def test_a_data_set_in_the_hubs_form(tmp_path: Path) -> None:
    rows = [{"file_name": f"images/{n}.png", "prompt": f"a cat {n}", "seed": 7} for n in range(2)]
    for n, row in enumerate(rows):
        picture(tmp_path / "made" / str(row["file_name"]), n)
    (tmp_path / "made" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = adhere("import", tmp_path / "out", tmp_path / "made")
    assert made.exit_code == 0, made.output
    entries = list(Folder(tmp_path / "out").manifest.entries())
    assert [(one.item.prompt, one.seed) for one in entries] == [("a cat 0", 7), ("a cat 1", 7)]


def test_a_picture_is_taken_as_it_is_shown(tmp_path: Path) -> None:
    pixels = fakes.noisy(32, 24)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "made").mkdir()
    pixels.save(tmp_path / "made" / "a cat.png", exif=exif)
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    run = Folder(tmp_path / "out")
    with Image.open(run.path / run.image(next(run.manifest.entries()).job)) as image:
        assert image.tobytes() == pixels.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_file_names_are_prompts(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a green bench and a blue bowl_000000.png", 1)
    picture(tmp_path / "made" / "a green bench and a blue bowl_000001.png", 2)
    picture(tmp_path / "made" / "a cat.jpg", 3)
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    entries = Folder(tmp_path / "out").manifest.entries()
    assert sorted((e.item.prompt, e.seed) for e in entries) == [
        ("a cat", 0), ("a green bench and a blue bowl", 0), ("a green bench and a blue bowl", 1),
    ]  # fmt: skip


def test_what_cannot_be_imported(tmp_path: Path) -> None:
    suite = fakes.suite_file(tmp_path, 2)
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "made" / "nobody.png")
    picture(tmp_path / "listed" / "y.png")
    (tmp_path / "listed" / "t.csv").write_text("file,prompt\nz.png,a cat\n")
    picture(tmp_path / "silent" / "y.png")
    (tmp_path / "silent" / "t.csv").write_text("file,prompt\ny.png,\n")
    for name in ("cat", "dog"):
        picture(tmp_path / name / "00000" / "samples" / "0000.png")
        clause = {"class": name, "count": 1}
        line = {"tag": "single_object", "include": [clause], "prompt": f"a {name}"}
        (tmp_path / name / "00000" / "metadata.jsonl").write_text(json.dumps(line))
    for words, told in (
        ([tmp_path / "empty"], "has no pictures"),
        ([tmp_path / "none"], "not a folder"),
        ([tmp_path / "made", "-s", suite], "neither an id nor a prompt"),
        ([tmp_path / "listed"], "row 1"),
        ([tmp_path / "made", tmp_path / "made"], "two folders are variant"),
        ([tmp_path / "silent"], "empty prompt"),
        ([f"a/b={tmp_path / 'made'}"], "variant name 'a/b'"),
        ([f"a={tmp_path / 'cat'}", f"b={tmp_path / 'dog'}"], "item '00000' is 'a dog'"),
    ):
        result = adhere("import", tmp_path / "out", *words)
        assert result.exit_code == 2
        assert told in " ".join(result.output.split())


def test_a_damaged_picture_is_a_recorded_failure(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a cat.png")
    (tmp_path / "made" / "a dog.png").write_bytes(b"\x89PNG\r\n")
    made = adhere("import", tmp_path / "out", tmp_path / "made")
    assert made.exit_code == 0
    assert "1 of them unreadable" in made.output
    assert adhere("score", tmp_path / "out", "-m", "clip-score").exit_code == 0


def test_sixteen_bits_are_not_white(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 24 * 32).astype(np.uint16).reshape(24, 32)
    (tmp_path / "made").mkdir()
    Image.fromarray(values).save(tmp_path / "made" / "a cat.png")
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    run = Folder(tmp_path / "out")
    with Image.open(run.path / run.image(next(run.manifest.entries()).job)) as image:
        found = np.asarray(image)
    assert (found == (values >> 8)[..., None]).all()


def test_a_picture_too_large_to_open_is_a_recorded_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "made" / "a cat.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    made = adhere("import", tmp_path / "out", tmp_path / "made")
    assert made.exit_code == 0, made.output
    assert "1 of them unreadable" in made.output
    (row,) = Folder(tmp_path / "out").ledger().records()
    assert "decompression bomb" in row["error"]


def test_a_changed_picture_is_another_run(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a cat.png", 1)
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    picture(tmp_path / "made" / "a cat.png", 2)
    told = adhere("import", tmp_path / "out", tmp_path / "made")
    assert told.exit_code == 2
    assert "its pictures differ" in " ".join(told.output.split())


def test_pictures_that_a_table_does_not_list_are_named(tmp_path: Path) -> None:
    for name in "xyz":
        picture(tmp_path / "made" / f"{name}.png")
    (tmp_path / "made" / "all.csv").write_text("file_name,prompt\nx.png,a red cat\n")
    told = adhere("import", tmp_path / "out", tmp_path / "made")
    assert told.exit_code == 0
    words = "".join(told.output.split())
    assert "2picturesareofnopromptandwereleftout" in words
    assert all(f"{name}.png" in words for name in "yz")
    assert "x.png" not in words


def test_nothing_can_be_added(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a cat.png")
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    told = adhere("grow", tmp_path / "out", "--seeds", "4")
    assert told.exit_code == 2
    assert "made elsewhere" in " ".join(told.output.split())
    # Another score of the same pictures can be.
    told = adhere("grow", tmp_path / "out", "-m", "clip-score")
    assert told.exit_code == 0, told.output
    assert Folder(tmp_path / "out").plans() == ["manifest.jsonl"]


def test_damaged_defaults_are_no_others(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a cat.png")
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    whole = '{"batch": 4, "evaluators": ["clip-score"]}'
    for text in (whole[:20], "{}", "[]", whole.replace("4", '"x"'), whole.replace("4", "0")):
        (tmp_path / "out" / "defaults.json").write_text(text)
        told = adhere("score", tmp_path / "out")
        assert told.exit_code == 2, text
        assert "does not read" in " ".join(told.output.split())
    (tmp_path / "out" / "defaults.json").write_text(whole)
    assert adhere("score", tmp_path / "out").exit_code == 0


def test_scoring_damaged_pictures_is_no_success(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a cat.png")
    assert adhere("import", tmp_path / "out", tmp_path / "made").exit_code == 0
    run = Folder(tmp_path / "out")
    picture(run.path / run.image(next(run.manifest.entries()).job), 5)
    told = adhere("score", tmp_path / "out", "-m", "clip-score")
    assert told.exit_code == 1
    assert "1 pictures are missing or damaged" in " ".join(told.output.split())


def test_a_store_with_a_slash_too_few_becomes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "made" / "a cat.png")
    assert adhere("import", "out", "made").exit_code == 0
    for words, told in (
        (["import", "s3:/bucket/run", "made"], "write s3://bucket/run"),
        (["export", "out", "memory:/data", "-m", "cost"], "write memory://data"),
        (["report", "out", "-m", "cost", "--keep", "s3:/b/kept.json"], "write s3://b/kept.json"),
        (["leaderboard", "s3:/b/kept.json"], "write s3://b/kept.json"),
    ):
        result = adhere(*words)
        assert result.exit_code == 2
        assert told in " ".join(result.output.split())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["made", "out"]


def test_only_the_same_prompts_are_compared(tmp_path: Path) -> None:
    for run, words in (("one", ("a cat", "a dog")), ("two", ("a cat", "a cow"))):
        for place, word in enumerate(words):
            folder = tmp_path / run / f"{place:05d}"
            picture(folder / "samples" / "0000.png", place)
            clause = {"class": word[2:], "count": 1}
            line = {"tag": "single_object", "include": [clause], "prompt": word}
            (folder / "metadata.jsonl").write_text(json.dumps(line))
        # A run's suite is called as its folder.
        out = tmp_path / run / "out" / "run"
        assert adhere("import", out, tmp_path / run).exit_code == 0
        assert adhere("score", out, "-m", "clip-score").exit_code == 0
    outs = [tmp_path / run / "out" / "run" for run in ("one", "two")]
    told = adhere("compare", *outs, "-m", "clip-score")
    assert told.exit_code == 0, told.output
    assert "1 items have the same id and another prompt" in " ".join(told.output.split())
    (row,) = (line for line in told.output.splitlines() if "| clip_full |" in line)
    assert row.endswith("| 1 |")


def test_of_animated_pictures_the_first_frames_are_taken_and_that_is_said(tmp_path: Path) -> None:
    for name in ("a cat.webp", "a dog.png"):
        first, *others = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
        (tmp_path / "made").mkdir(exist_ok=True)
        first.save(tmp_path / "made" / name, save_all=True, append_images=others)
    picture(tmp_path / "made" / "a bird.png")
    with pytest.warns(GuidanceWarning, match="2 files have several frames or pages") as told:
        made = adhere("import", tmp_path / "out", tmp_path / "made")
    assert made.exit_code == 0, made.output
    assert len(told) == 1
    assert "a cat.webp" in str(told[0].message)
