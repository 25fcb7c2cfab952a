"""Looking noise up against loops, by statistics and by texts, and what is refused."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
import torch

from adhere import Guidance
from adhere.errors import ParameterError, PromptError
from adhere.guides import stored
from adhere.guides.run import NO_TEXT, Prompt
from adhere.guides.stored import PROBE
from adhere.pipelines.hooks.weights import fingerprint
from adhere.plugins.mathematics import noise_library
from adhere.plugins.mathematics.noise_library import LIBRARY, NoiseLibrary, noise_of
from adhere.plugins.noise.noise_query import NoiseQuery
from tests import tiny

SEEDS = 30


@pytest.fixture
def library(tmp_path):
    """Makes libraries of the tiny SD 1.x: two statistics, and features of 8 channels."""

    def make(pipe, *, words=True, **about):
        generator = torch.Generator().manual_seed(1)
        tensors = {
            "seeds": torch.randperm(1000, generator=generator)[:SEEDS],
            "statistics": torch.rand(SEEDS, 2, generator=generator),
            "features": torch.randn(SEEDS, 8, generator=generator),
        }
        if words:
            tensors["projection"] = torch.randn(32, 8, generator=generator)
            tensors["probe"] = end(pipe, PROBE)
        told = {
            "model": "tiny",
            "weights": fingerprint(pipe.unet),
            "clip": "",
            "latents": "4x16x16",
            "statistics": json.dumps(["brightness", "sharpness"]),
            **about,
        }
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        stored.write(path, LIBRARY, tensors, told)
        return str(path)

    return make


def end(pipe, text):
    embeds = pipe.encode_prompt(text, "cpu", 1, False)[0][0]
    return embeds[len(pipe.tokenizer(text).input_ids) - 1].float()


def queried(pipe, plugin, prompts, seeds, **options):
    with Guidance(plugin).attach(pipe) as attached:
        found = tiny.latents(pipe, prompt=prompts, seeds=seeds, **options)
    return found, attached.report.plugins.get("noise-query")


def from_seed(pipe, prompt, seed):
    return tiny.latents(pipe, prompt=prompt, seeds=(seed,))


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_the_picture_is_that_of_the_seed_with_the_statistic(library, level):
    pipe = tiny.sd1()
    path = library(pipe)
    table = NoiseLibrary.read(path)
    values = sorted(table.statistics[:, 1].tolist())
    wanted = values[round(level * (SEEDS - 1))]
    plugin = NoiseQuery(path, "sharpness", level=level, top=1)
    found, report = queried(pipe, plugin, ["a cat"], (5,))
    seed = int(table.seeds[table.statistics[:, 1].tolist().index(wanted)])
    assert report["wanted"] == pytest.approx(wanted)
    assert report["images"] == [{"seed": seed}]
    assert torch.equal(found, from_seed(pipe, "a cat", seed))


def slow_order(pipe, table, text):
    """Seeds from the likest to the least like."""
    words = end(pipe, text).tolist()
    projection = table.stored.tensors["projection"].tolist()
    mapped = [sum(w * row[k] for w, row in zip(words, projection, strict=True)) for k in range(8)]
    cosines = []
    for feature in table.features.tolist():
        product = sum(a * b for a, b in zip(feature, mapped, strict=True))
        cosines.append(product / math.hypot(*feature) / math.hypot(*mapped))
    order = sorted(range(SEEDS), key=lambda k: -cosines[k])
    return [int(table.seeds[k]) for k in order]


@pytest.mark.parametrize("target", ["prompt", "a small frog"])
def test_texts_are_compared_in_the_clips_space(library, target):
    pipe, prompts = tiny.sd1(), ["a red cat", "a photo of a blue car and a dog"]
    path = library(pipe)
    table = NoiseLibrary.read(path)
    _, report = queried(pipe, NoiseQuery(path, target, top=1), prompts, (0, 1))
    texts = prompts if target == "prompt" else [target, target]
    best = [{"seed": slow_order(pipe, table, text)[0]} for text in texts]
    assert report["images"] == best
    _, report = queried(pipe, NoiseQuery(path, target, top=4), prompts, (0, 1))
    for text, image in zip(texts, report["images"], strict=True):
        assert image["seed"] in slow_order(pipe, table, text)[:4]


@pytest.mark.parametrize("target", ["prompt", "a small frog"])
def test_pooled_texts_are_compared_where_the_library_is_of_them(library, target, tmp_path):
    """SDXL is told the projected end of its last encoder's text."""
    pipe, prompt = tiny.sdxl(), "a photo of a blue car and a dog"
    path = library(pipe, words=False, texts="pooled")
    table = NoiseLibrary.read(path)
    generator = torch.Generator().manual_seed(2)
    projection = torch.randn(32, 8, generator=generator)
    words = {"projection": projection, "probe": pooled(pipe, PROBE)}
    tensors, about = {**table.stored.tensors, **words}, table.stored.about
    right, wrong = (tmp_path / name for name in ("right.safetensors", "wrong.safetensors"))
    stored.write(right, LIBRARY, tensors, about)
    stored.write(wrong, LIBRARY, {**tensors, "probe": -words["probe"]}, about)
    report = queried(pipe, NoiseQuery(str(right), target, top=1), [prompt], (0,))[1]
    text = pooled(pipe, prompt if target == "prompt" else target) @ projection
    cosines = [float(torch.cosine_similarity(one, text, dim=0)) for one in table.features]
    assert report["images"] == [{"seed": int(table.seeds[cosines.index(max(cosines))])}]
    with pytest.raises(ParameterError, match="made with another text encoder"):
        queried(pipe, NoiseQuery(str(wrong), target), [prompt], (0,))


def test_a_model_without_pooled_embeddings_has_another_encoder_than_a_library_of_them(library):
    pipe = tiny.sd1()
    path = library(pipe, texts="pooled")
    with pytest.raises(ParameterError, match="made with another text encoder"):
        queried(pipe, NoiseQuery(path, any_model=True), ["a cat"], (0,))


def pooled(pipe, text):
    pooled = pipe.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)[2]
    return pooled[0].detach().float()


def test_of_the_best_every_one_is_as_likely():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4000, generator=generator).tolist()
    counts = Counter(noise_library.chosen([7, 3, 9, 1], draw) for draw in draws)
    assert set(counts) == {7, 3, 9, 1}
    assert all(abs(count / 4000 - 0.25) < 0.03 for count in counts.values())
    assert noise_library.chosen([7, 3], math.inf) == 3
    assert noise_library.chosen([7, 3], -math.inf) == 7


def test_of_equal_ones_the_earlier_is_better():
    assert noise_library.best(torch.tensor([0.5, 0.9, 0.5, 0.9]), 3) == [1, 3, 0]
    assert noise_library.best(torch.tensor([0.5]), 10) == [0]


def test_noise_is_what_pipelines_draw():
    pipe = tiny.sd1()
    drawn = pipe.prepare_latents(
        1, 4, 32, 32, torch.float32, "cpu", torch.Generator("cpu").manual_seed(12)
    )
    assert torch.equal(noise_of(12, tuple(drawn.shape[1:]))[None], drawn)


def test_the_fingerprint_tells_models_not_precisions():
    unet = tiny.unet()
    assert fingerprint(unet) == fingerprint(tiny.unet().to(torch.bfloat16))
    assert fingerprint(unet) == fingerprint(tiny.unet().half())
    assert fingerprint(unet) != fingerprint(tiny.unet(seed=1))
    assert fingerprint(unet.to("meta")) == ""


@pytest.mark.parametrize(
    ("about", "options", "said"),
    [
        ({"weights": "another"}, {}, "made with the model 'tiny' .* any_model=true"),
        ({"latents": "4x8x8"}, {}, "noise of 4x8x8 .* draws latents of 4x16x16"),
        ({}, {"target": "brightnes"}, "did you mean 'brightness'"),
        ({}, {"target": " "}, "' ' says nothing; give prompt, a statistic"),
        ({"words": False}, {"target": "prompt"}, "cannot compare texts"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_pass(library, about, options, said):
    pipe = tiny.sd1()
    plugin = NoiseQuery(library(pipe, **about), **{"target": "brightness", **options})
    pipe.unet.forward = lambda *_, **__: pytest.fail("denoised")
    with pytest.raises(ParameterError, match=said):
        queried(pipe, plugin, ["a cat"], (0,))


def test_a_model_whose_weights_are_not_in_memory_cannot_be_told(library):
    table = NoiseLibrary.read(library(tiny.sd1(), weights=""))
    with pytest.raises(ParameterError, match=r"weights unknown.* any_model=true"):
        table.check_model("")


def test_another_text_encoder_is_refused_and_another_model_may_do(library):
    one, other = (
        tiny.sd1(),
        tiny.sd1(unet=tiny.unet(seed=3), text_encoder=tiny.text_encoder(32, seed=8)),
    )
    path = library(one)
    with pytest.raises(ParameterError, match="another text encoder"):
        queried(other, NoiseQuery(path, any_model=True), ["a cat"], (0,))
    _, report = queried(other, NoiseQuery(path, "brightness", any_model=True), ["a cat"], (0,))
    assert report["images"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.safetensors", None, "No such file"),
        ("no.txt", b"a", "no file whose name ends in .safetensors"),
        ("bad.safetensors", b"\x00" * 40, "does not read"),
    ],
)
def test_files_that_are_no_library(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ParameterError, match=said):
        NoiseLibrary.read(tmp_path / name)
    stored.write(tmp_path / "other.safetensors", "helper", {"a": torch.ones(1)}, {})
    with pytest.raises(ParameterError, match="is a helper, and a noise library is expected"):
        NoiseLibrary.read(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "about", "said"),
    [
        ({"seeds": None}, {}, "lacks seeds, which a noise library has"),
        ({}, {"latents": None}, "lacks latents, which"),
        (
            {"statistics": torch.full((12, 2), torch.nan)},
            {},
            "numbers of statistics are not finite",
        ),
        ({"seeds": torch.zeros(0, dtype=torch.int64)}, {}, "do not fit together"),
        (
            {"statistics": torch.rand(12, 1)},
            {},
            "do not fit together",
        ),
        ({}, {"statistics": "junk"}, "do not fit together"),
        ({"seeds": torch.tensor(3)}, {}, "seeds of .* has 0 axes, and that of a noise library has"),
        ({"seeds": torch.zeros(SEEDS, 1)}, {}, "seeds of .* has 2 axes"),
        ({"seeds": torch.rand(SEEDS)}, {}, r"do not fit together \(seeds\)"),
        ({"features": torch.rand(SEEDS)}, {}, r"do not fit together \(features"),
        ({"features": torch.rand(SEEDS, 5), "projection": torch.rand(4, 3)}, {}, r"\(projection\)"),
        ({"probe": torch.rand(2, 2)}, {}, r"do not fit together \(probe"),
    ],
)
def test_libraries_that_are_not_whole(library, tmp_path, change, about, said):
    whole = NoiseLibrary.read(library(tiny.sd1())).stored
    tensors, told = {**whole.tensors, **change}, {**whole.about, **about}
    place = tmp_path / "damaged.safetensors"
    kept = ({k: one for k, one in each.items() if one is not None} for each in (tensors, told))
    stored.write(place, "noise library", *kept)
    with pytest.raises(ParameterError, match=said):
        NoiseLibrary.read(place)


def test_the_text_of_embeddings_is_asked_for(library, make_run):
    run = make_run("a cat")
    run.prompts = (Prompt(NO_TEXT),)
    with pytest.raises(PromptError, match="which text they are of is not known"):
        NoiseQuery(library(tiny.sd1()), any_model=True).guide(run)


def test_without_a_library_it_says_how_to_make_one():
    with pytest.raises(ParameterError, match="adhere noise library --model"):
        queried(tiny.sd1(), NoiseQuery(), ["a cat"], (0,))
