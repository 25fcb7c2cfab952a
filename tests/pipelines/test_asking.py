"""What a user says to `Guidance` and `attach`: misuse, data, and syntax that nobody reads."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import adhere
from adhere import Guidance, Memory
from adhere.errors import GuidanceError, GuidanceWarning, ParameterError
from adhere.layout.layout import Layout, Region
from tests import tiny

ONE = Region("cat", box=(0, 0, 1, 1))
SCENE: dict[str, Any] = {
    "regions": [
        {"phrase": "cat", "box": [0, 0, 0.5, 1]},
        {"phrase": "dog", "box": [0.5, 0, 1, 1]},
    ]
}
TOLD: dict[str, Any] = {
    "regions": [
        {"phrase": "cat", "text": "a cat, sitting", "feather": 0.1, "box": [0, 0, 0.5, 1]},
        {"phrase": "dog", "text": "dog", "strength": 0.5, "box": [0.5, 0, 1, 1]},
    ],
    "base": 0.2,
}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"subjects": [3, 7]}, "3 is not a text; write words of the prompt"),
        ({"subjects": 3}, "no list of phrases"),
        ({"subjects": {"cat": 1}}, "no list of phrases"),
        ({"subjects": [["cat", 3]]}, "3 is not a text"),
        ({"layout": "scene.json"}, "give a Layout, its JSON as a dict"),
        ({"layout": 3}, "give a Layout"),
        ({"layout": {"cat": [0, 0, 1, 1]}}, "regions"),
        ({"prompt": 3}, "not a text"),
        ({"prompt": [3]}, "not a text"),
        ({"record": "maps.npz"}, "neither True nor False"),
    ],
)
def test_misuse_of_attach_is_said_at_once(about: dict[str, Any], message: str) -> None:
    pipe = tiny.sd1()
    with pytest.raises(GuidanceError, match=message):
        Guidance().attach(pipe, **about)
    with pytest.raises(GuidanceError, match=message):
        Guidance().callback(pipe, **about)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Memory(layers="*.attn2"), "with the comma"),  # type: ignore[arg-type]
        (lambda: Memory(layers=(1,)), "tuple of patterns"),  # type: ignore[arg-type]
        (lambda: Memory(layers=5), "tuple of patterns"),  # type: ignore[arg-type]
        (lambda: Memory(sub_batch="2"), "number of images"),  # type: ignore[arg-type]
        (lambda: Memory(checkpointing="on"), "neither True nor False"),  # type: ignore[arg-type]
        (lambda: Guidance(memory={"sub_batch": 2}), "write for example"),  # type: ignore[arg-type]
        (lambda: Guidance(adhere.SynGen(), adhere.SynGen()), "syngen is there twice with the same"),
        (lambda: Guidance().attach(StableDiffusionPipeline), "is a class; load a pipeline"),
        (lambda: Layout(ONE), "with the comma"),  # type: ignore[arg-type]
        (lambda: Layout("cat"), "tuple of regions"),  # type: ignore[arg-type]
        (lambda: Guidance().attach(tiny.sd1(), interrupt=True), "cannot be called"),
    ],
)
def test_what_is_no_tuple_or_function_is_told_what_to_write(made: Any, says: str) -> None:
    with pytest.raises(GuidanceError, match=says):
        made()


def test_layers_may_be_a_list() -> None:
    assert Memory(layers=["*.attn2"]) == Memory(layers=("*.attn2",))  # type: ignore[arg-type]


def test_a_layout_as_a_dict_is_the_layout() -> None:
    pipe = tiny.sd1()
    guidance = Guidance(adhere.PaintWithWords(strength=5.0))
    made = []
    for layout in (Layout.from_json(SCENE), SCENE, [SCENE], json.loads(json.dumps(SCENE))):
        with guidance.attach(pipe, layout=layout):
            made.append(tiny.latents(pipe, "a cat and a dog", steps=1))
    assert not torch.equal(made[0], tiny.latents(pipe, "a cat and a dog", steps=1))
    assert all(torch.equal(made[0], other) for other in made)


@pytest.mark.parametrize("mode", ["attach", "callback"])
@pytest.mark.parametrize(
    "call",
    [
        {"prompt": "a (cat:1.3) and a dog"},
        {"prompt": ["a dog", "a (cat:1.3) and a dog"], "seeds": (0, 1)},
        {"prompt": "a dog", "negative_prompt": "a (cat:1.3)"},
        {"prompt": "a dog", "negative_prompt_2": "a (cat:1.3)"},
    ],
    ids=["prompt", "list", "negative", "second negative"],
)
def test_weights_that_nobody_reads_are_said(call: dict[str, Any], mode: str) -> None:
    pipe = tiny.sdxl() if "negative_prompt_2" in call else tiny.sd1()
    seen: list[Any] = []
    pipe.unet.register_forward_hook(lambda *one: seen.append(len(said)))
    guidance = Guidance(adhere.AttendAndExcite(subjects=("dog",), refinements=0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", GuidanceWarning)
        tiny.latents(pipe, guidance=guidance, mode=mode, steps=1, **call)
    assert "(cat:1.3)' has no effect" in str(said[0].message)
    assert seen[0] > 0  # said before anything is denoised


@pytest.mark.parametrize(
    ("plugins", "given", "unused"),
    [
        ((adhere.SynGen(),), {"layout": SCENE}, "layout"),
        ((adhere.ZestGuide(layout=Layout.from_json(SCENE)),), {"layout": SCENE}, "layout"),
        ((adhere.ZestGuide(),), {"layout": SCENE}, ""),
        ((adhere.ZestGuide(), adhere.SynGen()), {"layout": SCENE, "subjects": ["cat"]}, ""),
        ((adhere.ZestGuide(),), {"layout": SCENE, "subjects": ["cat"]}, "subjects"),
        ((), {"layout": SCENE, "subjects": ["cat"]}, ""),
        ((adhere.ZestGuide(),), {"layout": TOLD}, "regions' text, strength, base"),
        ((adhere.SynGen(),), {"layout": TOLD}, "layout"),
        ((adhere.ZestGuide(), adhere.RegionalPrompting()), {"layout": TOLD}, ""),
        ((adhere.MovedNoise(look_at=0.1),), {"layout": TOLD}, "regions' strength, base"),
        ((adhere.MovedNoise(look_at=0.1), adhere.RegionalPrompting()), {"layout": TOLD}, ""),
    ],
)
def test_what_no_plugin_follows_is_in_the_notes(
    plugins: tuple[adhere.Plugin, ...], given: dict[str, Any], unused: str
) -> None:
    pipe = tiny.sd1()
    with Guidance(*plugins).attach(pipe, **given) as attached:
        tiny.latents(pipe, "a red cat and a blue dog", steps=2)
    notes = [note for note in attached.report.notes if "had no effect" in note]
    assert len(notes) == bool(unused)
    assert all(note.startswith(f"the {unused} given with the call") for note in notes)


def test_a_weight_in_the_text_of_given_embeddings_is_said() -> None:
    """Compel's embeddings have no columns for it."""
    pipe = tiny.sd1()
    embeds, negative = pipe.encode_prompt("a cat and a dog", "cpu", 1, True)
    given = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
    guidance = Guidance(adhere.AttendAndExcite(subjects=("dog",), refinements=0))
    with pytest.warns(GuidanceWarning, match="their text without it"):
        tiny.latents(
            pipe, None, guidance=guidance, about={"prompt": "a cat++ and a dog"}, steps=1, **given
        )


def test_a_weight_in_a_guides_own_text_is_said() -> None:
    guidance = Guidance(adhere.Sega(edits=("a (cat:1.3)",)))
    with pytest.warns(GuidanceWarning, match="has no effect as a weight"):
        tiny.latents(tiny.sd1(), "a dog", guidance=guidance, steps=1)


def test_brackets_in_a_negative_prompt_are_said() -> None:
    guidance = Guidance(adhere.AttendAndExcite(subjects=("dog",), refinements=0))
    with pytest.warns(GuidanceWarning, match="around 'cat' in the negative prompt"):
        tiny.latents(tiny.sd1(), "a dog", guidance=guidance, negative_prompt="a [cat]", steps=1)


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a [red|cat and a dog", "'[red|cat and a dog'"),
        (["a [red|cat]", "a dog [cat"], "'[cat'"),
        ("a [cat:dog:0.5]", "cat:dog:0.5"),
    ],
)
def test_brackets_that_are_no_markup_are_said_once(prompt: Any, named: str) -> None:
    guidance = Guidance(adhere.AttendAndExcite(refinements=0))
    seeds = (0,) if isinstance(prompt, str) else (0, 1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", GuidanceWarning)
        tiny.latents(tiny.sd1(), prompt, guidance=guidance, seeds=seeds, steps=1)
    told = [str(one.message) for one in said if issubclass(one.category, GuidanceWarning)]
    assert len([text for text in told if named in text]) == 1


def test_escaped_brackets_are_read_in_silence() -> None:
    guidance = Guidance(adhere.AttendAndExcite(refinements=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", GuidanceWarning)
        tiny.latents(tiny.sd1(), r"a cat \[a dog", guidance=guidance, steps=1)


def test_a_plain_prompt_is_read_in_silence() -> None:
    pipe = tiny.sd1()
    with (
        Guidance(adhere.AttendAndExcite(refinements=0)).attach(pipe, prompt="a [cat]"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error", GuidanceWarning)
        tiny.latents(pipe, "a cat", steps=1)


GUIDANCES = [
    Guidance(),
    Guidance(adhere.AttendAndExcite(subjects=("cat",), stop=0.4), adhere.Sega(edits=("+red",))),
    Guidance(adhere.ZestGuide(layout=Layout.from_json(SCENE)), memory=Memory(sub_batch=2)),
    Guidance(adhere.SynGen(), memory=Memory(True, layers=("*.attn2",))),
]


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_guidance_is_data(guidance: Guidance) -> None:
    again = Guidance.from_json(json.loads(json.dumps(guidance.to_json())))
    assert again == guidance
    assert hash(again) == hash(guidance)
    assert sum(other == guidance for other in GUIDANCES) == 1
    assert guidance != "guidance"


def test_its_repr_says_what_is_not_usual() -> None:
    assert repr(GUIDANCES[0]) == "Guidance()"
    assert repr(GUIDANCES[1]) == (
        "Guidance(AttendAndExcite(subjects=('cat',), stop=0.4), Sega(edits=('+red',)))"
    )
    assert repr(GUIDANCES[3]).endswith("memory=Memory(checkpointing=True, layers=('*.attn2',)))")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "is not a guidance"),
        ([], "is not a guidance"),
        ({"plugins": [], "other": 1}, "is not a guidance"),
        ({"plugins": [{"plugin": "nothing"}]}, "no plugin is called"),
        ({"plugins": "syngen"}, "is no list"),
        ({"plugins": [3]}, "3"),
        ({"plugins": [{"plugin": "syngen", "until": 0.5}]}, "it is called 'stop' now"),
        ({"plugins": [], "memory": {"size": 1}}, "memory has no 'size'"),
    ],
)
def test_data_that_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Guidance.from_json(data)


OWN = Layout.from_json(TOLD)


@pytest.mark.parametrize(
    ("plugins", "unused"),
    [
        ((adhere.ZestGuide(layout=OWN),), "text, strength, base"),
        ((adhere.MovedNoise(OWN, look_at=0.1),), "strength, base"),
        ((adhere.ZestGuide(layout=OWN), adhere.RegionalPrompting(OWN)), ""),
    ],
)
def test_what_a_plugin_does_not_heed_of_its_own_layout_is_in_the_notes(
    plugins: tuple[adhere.Plugin, ...], unused: str
) -> None:
    pipe = tiny.sd1()
    with Guidance(*plugins).attach(pipe) as attached:
        tiny.latents(pipe, "a red cat and a blue dog", steps=2)
    notes = [note for note in attached.report.notes if "had no effect" in note]
    assert len(notes) == bool(unused)
    assert all(note.startswith(f"the regions' {unused} given with the plugin") for note in notes)
