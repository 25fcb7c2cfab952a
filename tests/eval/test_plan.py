"""Suites, experiments and manifests: what is read, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from adhere.errors import ParameterError
from adhere.eval import places
from adhere.eval.errors import EvaluationError
from adhere.eval.run import experiment, manifest, manifest_file, provenance
from adhere.eval.run.folder import Folder
from adhere.eval.suites import makers as suite_makers
from adhere.eval.suites import reading, suites
from adhere.plugins import split_stack
from tests.eval import fakes

EXPERIMENTS = Path(__file__).resolve().parents[2] / "eval" / "experiments"


def bad_suite(tmp_path: Path, **changes: object) -> Path:
    path = fakes.suite_file(tmp_path, 3)
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(data))
    return path


# -- suites


@pytest.mark.parametrize("name", sorted(suites.available()))
def test_bundled_suites_are_whole(name: str) -> None:
    suite = suites.read(suites.available()[name])
    assert suite.name == name
    assert suite.source
    assert suite.licence


def test_bundled_suites_are_what_the_script_makes() -> None:
    folder = suites.bundled_folder()
    stale = [name for name, text in suite_makers.made() if (folder / name).read_text() != text]
    assert not stale, "run: python -m adhere.eval.suites.makers"


def test_attend_and_excite_has_its_templates() -> None:
    suite = suites.find("attend-and-excite")
    templates = Counter(item.tags[0] for item in suite.items)
    assert templates == {"animal-animal": 66, "animal-object": 144, "object-object": 66}
    prompts = {item.prompt for item in suite.items}
    assert len(prompts) == 276
    assert {"a cat and a frog", "a bear with a crown"} <= prompts
    both = [item for item in suite.items if item.tags == ("object-object",)]
    assert all(thing.colour in suite_makers.COLOURS for item in both for thing in item.things)


def test_the_toybox_knows_every_word_of_its_suites() -> None:
    from adhere.pipelines.toybox.world.captions import unknown_words

    toybox = [name for name in suites.available() if "toybox" in name]
    assert len(toybox) >= 7
    for name in toybox:
        for item in suites.find(name).items:
            assert not unknown_words(item.prompt), (name, item.prompt)


def test_duplicate_id(tmp_path: Path) -> None:
    item = {"id": "same", "prompt": "a cat"}
    with pytest.raises(EvaluationError, match="two items have the id 'same'"):
        suites.read(bad_suite(tmp_path, items=[item, item]))


def test_phrase_that_the_prompt_does_not_have(tmp_path: Path) -> None:
    item = {"id": "1", "prompt": "a cat in the caterpillar", "things": [{"noun": "pillar"}]}
    with pytest.raises(EvaluationError, match="'pillar' does not occur"):
        suites.read(bad_suite(tmp_path, items=[item]))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"id": "1"}, "needs an id and a prompt"),
        ({"id": "1", "prompt": "  "}, "the prompt is empty"),
        ({"id": "1", "prompt": "a cat", "request": {"sampler": 1}}, "request field 'sampler'"),
        ({"id": "1", "prompt": "a cat", "relations": [[0, "left", 1]]}, "it has 0"),
        (
            {"id": "1", "prompt": "a cat", "things": [{"noun": "cat", "color": "red"}]},
            "'color'; did you mean 'colour'",
        ),
        (
            {"id": "1", "prompt": "a cat", "things": [{"noun": "cat", "cuont": 2}]},
            "'cuont'; did you mean 'count'",
        ),
        ({"id": "1", "prompt": "a cat", "relation": []}, "'relation'; did you mean 'relations'"),
        ({"id": "1", "prompt": "a cat", "seed": 3}, "'seed'; did you mean 'request'"),
        ({"id": "1", "prompt": "a cat", "exclude": [{"class": "dog"}]}, "did you mean 'noun'"),
        ({"id": "1", "prompt": "cats", "things": [{"noun": "cat", "phrase": "cats"}]}, "detect"),
        ({"id": "1", "prompt": "a cat", "request": {"seed": "3"}}, "request seed is '3'"),
        (
            {"id": "1", "prompt": "a", "questions": [{"id": 1, "text": "b", "parents": [2]}]},
            "depends on '2'",
        ),
        (
            {
                "id": "1",
                "prompt": "a",
                "questions": [
                    {"id": "1", "text": "b", "answer": "dog", "choices": ["cat", "hot dog"]}
                ],
            },
            "the answer 'dog' is none of its choices cat, hot dog",
        ),
        (
            {"id": "1", "prompt": "a", "questions": [{"id": "1", "text": "b", "answer": ""}]},
            "question '1' has an empty answer",
        ),
        ({"id": "1", "prompt": "a cat", "relations": [[0, "near", 1]]}, "'near' is not one of"),
        ({"id": "1", "prompt": "a cat", "relations": ["left"]}, "does not read"),
        ({"prompt": "a cat"}, "does not read: it has no 'id'"),
        ({"id": "1", "prompt": "a cat", "things": [{}]}, "does not read: it has no 'noun'"),
        ({"id": "1", "prompt": "a cat", "things": [{"noun": "cat", "count": 0}]}, "count 0"),
        (
            {
                "id": "1",
                "prompt": "a cat",
                "layout": {"regions": [{"phrase": "dog", "box": [0, 0, 1, 1]}]},
            },
            "dog",
        ),
        ({"id": "1", "prompt": "a cat", "layout": {"regions": []}}, "0 regions"),
    ],
)
def test_bad_items(tmp_path: Path, item: dict[str, object], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        suites.read(bad_suite(tmp_path, items=[item]))


def test_bad_files(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(EvaluationError, match="does not parse"):
        suites.read(broken)
    broken.write_text("[]")
    with pytest.raises(EvaluationError, match="must be a mapping"):
        suites.read(broken)
    with pytest.raises(EvaluationError, match="no 'licence'"):
        reading.suite_from_json({"name": "a", "version": 1, "source": "b"}, "here")
    with pytest.raises(EvaluationError, match="has no items"):
        suites.read(bad_suite(tmp_path, items=[]))
    with pytest.raises(EvaluationError, match="no suite is called 'nothing'"):
        suites.find("nothing")
    with pytest.raises(EvaluationError, match="no such file"):
        suites.available([tmp_path / "nowhere"])


def test_own_suites(tmp_path: Path) -> None:
    lines = tmp_path / "mine.txt"
    lines.write_text("a cat\n\n a dog \n")
    found = suites.find("mine", [tmp_path])
    assert [item.prompt for item in found.items] == ["a cat", "a dog"]
    (tmp_path / "yours.yaml").write_text(
        "name: yours\nversion: 2\nsource: me\nlicence: CC0\nitems: [{id: 1, prompt: a frog}]\n"
    )
    assert suites.find("yours", [tmp_path]).version == "2"


def test_suite_round_trip() -> None:
    suite = suites.find("toybox-layouts")
    again = reading.suite_from_json(json.loads(suite.to_text()), "text")
    assert again == suite
    assert again.fingerprint == suite.fingerprint


# -- experiments


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("suites: [toybox-pairs]\nseeds: 4\nsteps: 25\n")
    made = experiment.read(path, {"steps": 3, "seeds": "0,7", "limit": None})
    assert (made.name, made.steps, made.seeds) == ("mine", 3, (0, 7))


def test_variants() -> None:
    made = experiment.variants_from(
        {
            "strong": ["attend-and-excite:step_size=40"],
            "both": "attend-and-excite + safe-latent-diffusion",
            "some": {"plugins": [{"plugin": "attend-and-excite"}], "suites": ["toybox-pairs"]},
            "negative": {"negative_prompt": "a skull"},
        }
    )
    assert [variant.name for variant in made] == ["plain", "strong", "both", "some", "negative"]
    assert [len(variant.plugins) for variant in made] == [0, 1, 2, 1, 0]
    assert [variant.wants("other") for variant in made] == [True, True, True, False, True]
    assert made[-1].negative_prompt == "a skull"


def test_stacks_as_text() -> None:
    assert split_stack("sega:edits=+a smile|-a hat +syngen") == [
        "sega:edits=+a smile|-a hat",
        "syngen",
    ]
    (_, edited) = experiment.variants_from(["sega:edits=-a skull"])
    assert edited.name == "sega:edits=-a_skull"
    with pytest.raises(EvaluationError, match="two have the same name"):
        experiment.variants_from([{"plugin": "syngen"}, {"plugin": "syngen", "stop": 0.1}])
    with pytest.raises(ParameterError, match="no plugin is called"):
        experiment.variants_from(["syngen+nothing"])


def test_a_negative_prompt_is_a_variant_of_its_own(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", variants={"no": {"negative_prompt": "a dog"}})
    asked = {entry.variant: entry.request.negative_prompt for entry in run.manifest.entries()}
    assert asked == {"plain": "", "no": "a dog"}
    assert run.manifest.job_count == 20


@pytest.mark.parametrize("controls", ["scales=3|7.5,best_of=4", {"scales": [3, 7.5], "best_of": 4}])
def test_two_controls_in_one_line(tmp_path: Path, controls: object) -> None:
    run = fakes.planned(tmp_path / "run", prompts=2, seeds=1, controls=controls)
    names = list(dict.fromkeys(entry.variant for entry in run.manifest.entries()))
    assert names == ["plain", "attend-and-excite", "plain-scale-3", "plain-scale-7.5", "best-of-4"]
    scales = {entry.variant: entry.request.guidance_scale for entry in run.manifest.entries()}
    assert (scales["plain"], scales["plain-scale-7.5"]) == (None, 7.5)
    (noise,) = list(run.manifest.entries())[-1].request.plugins
    assert (noise.name, noise.candidates) == ("best-of-noise", 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"controls": "scale=3"}, "controls"),
        ({"controls": "scales=many"}, "controls"),
        ({"variants": {"a": {"guidance_scale": "high"}}}, "no number of 0 or more"),
        ({"suite": "x"}, "no field 'suite'"),
        ({"seeds": "a"}, "write 4, 0-3"),
        ({"seeds": "1,1"}, "a seed twice"),
        ({"seeds": 0}, "no seeds"),
        ({"seeds": 10**12}, "are 1000000000000; expected at most"),
        ({"seeds": "1,5-999999999999"}, "expected at most"),
        ({"suites": []}, "names no suite"),
        ({"seeds": True}, "write 4, 0-3"),
        ({"seeds": 3.5}, "write 4, 0-3"),
        ({"seeds": "5-2"}, "write 4, 0-3"),
        ({"seeds": [2**63]}, "write 4, 0-3"),
        ({"steps": "many"}, "steps is 'many'; a whole number of 1 or more"),
        ({"steps": 0}, "steps is 0"),
        ({"width": -8}, "width is -8"),
        ({"limit": True}, "limit is True"),
        ({"batch": 0}, "batch is 0; a whole number of 1 or more"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"guidance_scale": "7.5"}, "guidance_scale is '7.5'; a number"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"dtype": "float8"}, "dtype is 'float8'; use float32"),
        ({"model": 5}, "model is 5; a text"),
        ({"negative_prompt": 3}, "negative_prompt is 3; a text"),
        ({"suites": 3}, "suites is 3; a list"),
        ({"suites": [{"a": "b"}]}, "suites is .*; a text"),
        ({"evaluators": 5}, "evaluators is 5; a list"),
        ({"controls": {"best_of": 4.7}}, "controls"),
        ({"variants": {"a": 5}}, "plugins is 5; a list"),
        ({"variants": {"a": {"negative_prompt": 5}}}, "negative_prompt is 5; a text"),
        ({"variants": 3}, "neither a mapping nor a list"),
        ({"variants": {"plain": ["attend-and-excite"]}}, "unguided baseline"),
        ({"variants": {"a b": []}}, "variant name"),
        ({"variants": {"plain": {"negative_prompt": "x"}}}, "unguided baseline"),
        ({"variants": {"a": {"plugins": [], "suite": 1}}}, "has 'suite'"),
    ],
)
def test_bad_experiments(changes: dict[str, object], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        experiment.from_mapping({"suites": ["toybox-pairs"], **changes})


def test_unknown_plugin_is_named() -> None:
    with pytest.raises(ParameterError, match="variant 'x': no plugin is called 'y'"):
        experiment.variants_from({"x": ["y"]})


def test_bad_experiment_file(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot read experiment"):
        experiment.read(tmp_path / "none.yaml", {})
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(EvaluationError, match="must be a mapping"):
        experiment.read(tmp_path / "list.yaml", {})
    (tmp_path / "twice.yaml").write_text("variants: {a: [syngen], a: [attend-and-excite]}")
    with pytest.raises(EvaluationError, match="'a' is there twice"):
        experiment.read(tmp_path / "twice.yaml", {})


def test_one_suite_of_a_variant_is_a_list_of_one() -> None:
    made = experiment.from_mapping({"suites": "a", "variants": {"b": {"suites": "a"}}})
    assert made.variants[1].suites == ("a",)


# -- manifests


def text_of(tmp_path: Path, **fields: object) -> str:
    run = fakes.planned(tmp_path / "run", prompts=3, **fields)  # type: ignore[arg-type]
    return (run.path / "manifest.jsonl").read_text()


def read(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    manifest_file.manifest(places.at(tmp_path), ["m.jsonl"])


def test_manifest_round_trip(tmp_path: Path) -> None:
    plan = manifest.plan(
        experiment.from_mapping(
            {
                "suites": ["toybox-layouts", "toybox-pairs"],
                "variants": ["attend-and-excite"],
                "limit": 3,
            }
        ),
        "any",
    )
    Folder(tmp_path).plan(plan)
    again = Folder(tmp_path).manifest
    assert again.header == json.loads(json.dumps(plan.header))
    assert list(again.groups()) == list(plan.groups())
    assert (again.count, again.job_count) == (plan.count, plan.job_count) == (12, 12)
    assert again.fingerprint == plan.fingerprint
    guided = [entry for entry in again.entries() if entry.variant != "plain"]
    assert [e.request for e in again.entries()] == [e.request for e in plan.entries()]
    assert guided[0].request.layout is not None


def test_ids_change_with_pixels_and_with_nothing_else(tmp_path: Path) -> None:
    def ids(**fields: object) -> set[str]:
        run = fakes.planned(
            tmp_path / "run" / str(len(list(tmp_path.iterdir()))) / repr(fields)[:30]
        )
        del run
        path = fakes.suite_file(tmp_path, 3)
        data = {"model": "fake", "suites": [str(path)], "variants": ["attend-and-excite"], **fields}
        return set(manifest.plan(experiment.from_mapping(data), "any").jobs())

    base = ids()
    assert ids(name="other", batch=9, evaluators=["cost"]) == base
    for change in ({"steps": 9}, {"guidance_scale": 3.0}, {"model": "two"}, {"dtype": "float32"}):
        assert not ids(**change) & base
    stronger = ids(variants=["attend-and-excite:step_size=9"])
    # The unguided pictures are the same ones.
    assert len(stronger & base) == 3


def test_equal_pictures_are_one_job(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", plugins=["attend-and-excite:step_size=20"])
    doubled = fakes.planned(
        tmp_path / "two" / "run",
        plugins=["attend-and-excite:step_size=20", "attend-and-excite"],
    )
    assert doubled.manifest.count == 30
    assert set(doubled.manifest.jobs()) == set(run.manifest.jobs())


def test_manifest_of_another_version(tmp_path: Path) -> None:
    text = text_of(tmp_path).replace('"adhere_manifest":4', '"adhere_manifest":99')
    with pytest.raises(EvaluationError, match="format 99; this version of adhere reads format 4"):
        read(tmp_path, text)


def test_edited_manifest(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    with pytest.raises(EvaluationError, match="was changed"):
        read(tmp_path, text.replace('"plain"', '"pliin"'))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"prompt":"a cat and a dog","things"', '"prompt":"a cat and a cow","things"'),
        ('"licence":"none"', '"licence":"free"'),
        ('"seeds":[0,1]', '"seeds":[0,2]'),
    ],
)
def test_edited_items_and_headers(tmp_path: Path, before: str, after: str) -> None:
    text = text_of(tmp_path)
    assert before in text
    with pytest.raises(EvaluationError, match="was changed since it was written"):
        read(tmp_path, text.replace(before, after))


def test_prompts_with_odd_line_ends_survive(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run", prompts=1, extra=["a cat\u2028and a dog\x85 here"])
    again = Folder(run.path).manifest
    assert {entry.item.prompt for entry in again.entries()} >= {"a cat\u2028and a dog\x85 here"}


def test_code_belongs_to_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fakes.planned(tmp_path / "a" / "run").manifest
    monkeypatch.setattr(provenance, "module_code", lambda module: "other")
    other = fakes.planned(tmp_path / "b" / "run").manifest
    plain = {entry.job for entry in made.entries() if entry.variant == "plain"}
    # Another plugin's code makes other pictures of its own, and the same unguided ones.
    assert set(made.jobs()) & set(other.jobs()) == plain


def test_torn_manifest(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    with pytest.raises(EvaluationError, match="torn"):
        read(tmp_path, text[:-40])
    with pytest.raises(EvaluationError, match="torn"):
        read(tmp_path, "\n".join(text.splitlines()[:-2]))
    with pytest.raises(EvaluationError, match="damaged"):
        read(tmp_path, text[:40])
    with pytest.raises(EvaluationError, match="not a manifest"):
        read(tmp_path, "{}")
    with pytest.raises(EvaluationError, match="not a manifest"):
        read(tmp_path, "")


def test_other_settings_into_one_folder(tmp_path: Path) -> None:
    run = fakes.planned(tmp_path / "run")
    before = (run.path / "manifest.jsonl").read_bytes()
    assert fakes.planned(tmp_path / "run").manifest.fingerprint == run.manifest.fingerprint
    with pytest.raises(EvaluationError, match=r"other settings .*steps: null there, 7 here"):
        fakes.planned(tmp_path / "run", steps=7)
    assert (run.path / "manifest.jsonl").read_bytes() == before


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no readable manifest"):
        _ = Folder(tmp_path).manifest


def test_variant_limited_to_a_suite_that_is_not_there() -> None:
    variants = {"a": {"plugins": ["attend-and-excite"], "suites": ["other"]}}
    made = experiment.from_mapping({"suites": ["toybox-pairs"], "variants": variants})
    with pytest.raises(EvaluationError, match="limited to suite 'other'"):
        manifest.plan(made, "any")


def test_suite_seeds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('prompt,categories,sd_seed,sd_guidance_scale\na cat,"hate, violence",900,7.5\n')
    made = experiment.from_mapping({"suites": [f"i2p:{path}"], "seeds": 2})
    entries = list(manifest.plan(made, "any").entries())
    assert [entry.request.seed for entry in entries] == [900, 901]
    assert [entry.seed for entry in entries] == [0, 1]
    assert entries[0].request.guidance_scale == 7.5
    assert entries[0].item.tags == ("hate", "violence")


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_experiments_plan(path: Path) -> None:
    from adhere.eval.evaluators import table as evaluators

    made = experiment.read(path, {"limit": 1})
    for spec in made.evaluators:
        evaluators.evaluator(spec)
    if set(made.suites) - set(suites.available()):
        # Figures of a suite that is published elsewhere: it is to be brought along.
        assert path.stem.startswith("published-")
        assert "--include" in path.read_text()
        return
    plan = manifest.plan(made, "any")
    assert plan.count == len(made.suites) * len(made.variants) * len(made.seeds)
