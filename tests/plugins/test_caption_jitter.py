"""Jitter of captions: what goes in, and that every image has a draw of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from adhere import Guidance
from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Text
from adhere.layout.layout import Layout, Region
from adhere.plugins.appear.attend_and_excite import AttendAndExcite
from adhere.plugins.bind.dos import Dos
from adhere.plugins.edit.concept_steering import ConceptSteering
from adhere.plugins.edit.time import Time
from adhere.plugins.place.paint_with_words import PaintWithWords
from adhere.plugins.safe.caption_jitter import CaptionJitter, changed
from adhere.plugins.safe.safree import Safree
from tests import tiny
from tests.stored import autoencoder

PROMPTS = ("a red cat", "a dog on the photo of a frog")


def text_of(batch):
    """Every text is encoded as its number of words."""

    def encode(texts):
        return torch.stack([torch.full((20, 3), float(len(one.split()))) for one in texts])

    return Text(torch.zeros(batch, 20, 3), torch.ones(batch, 20, 3), encode)


@pytest.mark.parametrize("way", ["repeats", "numbers"])
@pytest.mark.parametrize("seed", range(5))
def test_words_that_are_put_in(way, seed):
    given = PROMPTS[1].split()
    words = changed(PROMPTS[1], way, 4, seed).split()
    more = list((Counter(words) - Counter(given)).elements())
    assert len(words) == len(given) + 4
    assert len(more) == 4
    assert all(word in given if way == "repeats" else 0 <= int(word) < 100_000 for word in more)
    rest = iter(words)
    assert all(word in rest for word in given), "the prompt's own words keep their order"
    assert changed(PROMPTS[1], way, 0, seed) == PROMPTS[1]
    assert changed("", way, 4, seed) == ""


def test_places_and_words_are_spread():
    found = [changed("a b c", "repeats", 1, seed).split() for seed in range(400)]
    assert {tuple(one) for one in found} == {
        tuple([*"abc"[:k], word, *"abc"[k:]]) for word in "abc" for k in range(4)
    }
    assert min(Counter(one[0] for one in found).values()) > 20


@pytest.mark.parametrize("way", ["repeats", "numbers", "noise"])
def test_draws_are_the_images_own(make_run, make_step, way):
    plugin = CaptionJitter(way)
    prompts = (PROMPTS[1],) * 2
    both = plugin.guide(make_run(*prompts, seeds=(5, 6)))
    found = both.embed(make_step(0), text_of(2))
    shown = both.report()["prompts"]
    for k in range(2):
        alone = plugin.guide(make_run(prompts[k], seeds=(5 + k,)))
        one = alone.embed(make_step(0), text_of(1))
        assert torch.equal(found.cond[k : k + 1], one.cond)
        assert alone.report()["prompts"] == [shown[k]]
    if way == "noise":
        assert not torch.equal(found.cond[0], found.cond[1])
    else:
        assert shown[0] != shown[1]
        assert torch.equal(found.uncond, text_of(2).uncond)
    again = both.embed(make_step(1), text_of(2))
    assert torch.equal(again.cond, found.cond), "one draw a run"
    other = CaptionJitter(way, seed=1).guide(make_run(*prompts, seeds=(5, 6)))
    moved = other.embed(make_step(0), text_of(2))
    assert other.report()["prompts"] != shown or not torch.equal(moved.cond, found.cond)


def test_a_negative_prompt_may_have_another_length(make_run, make_step):
    """Its draw is its own, whatever the length of the prompt."""
    found = []
    for words in (7, 20):
        text = text_of(2).replace(uncond=torch.zeros(2, 5, 3), cond=torch.zeros(2, words, 3))
        noised = CaptionJitter("noise").guide(make_run(*PROMPTS)).embed(make_step(0), text)
        assert noised.uncond.shape == text.uncond.shape
        assert not torch.equal(noised.uncond, noised.cond[:, :5])
        found.append(noised.uncond)
    assert torch.equal(*found)


def test_noise_has_its_size_on_both_texts(make_run, make_step):
    guide = CaptionJitter("noise", noise=0.3).guide(make_run(*PROMPTS))
    found = guide.embed(make_step(0), text_of(2))
    for moved in (found.cond, found.uncond - 1):
        assert moved.std().item() == pytest.approx(0.3, rel=0.2)
        assert abs(moved.mean().item()) < 0.1
    without = text_of(2).replace(uncond=None)
    assert guide.embed(make_step(0), without).uncond is None


def test_an_empty_prompt_is_left_alone_with_a_note(make_run):
    run = make_run("a cat", "")
    CaptionJitter().guide(run)
    assert run.notes == ["caption-jitter left an empty prompt alone: there is no word in it"]
    noisy = make_run("a cat", "")
    CaptionJitter(way="noise").guide(noisy)
    assert not noisy.notes


def test_two_that_put_words_in_are_refused():
    """The second one's text would be heard alone."""
    with pytest.raises(ParameterError, match="caption-jitter and caption-jitter#2 each give"):
        tiny.latents(
            tiny.sd1(), guidance=Guidance(CaptionJitter(), CaptionJitter("numbers")), steps=1
        )
    tiny.latents(tiny.sd1(), guidance=Guidance(CaptionJitter(), CaptionJitter("noise")), steps=1)


READERS = {
    "words": AttendAndExcite(("cat",)),
    "regions": PaintWithWords(layout=Layout((Region("cat", box=(0.0, 0.0, 0.5, 1.0)),))),
    "own words": Safree(("a dog",)),
    "own objects": Dos(),
    "columns": ConceptSteering(autoencoder(tiny.sd1()), "a blue dog"),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("other", READERS.values(), ids=READERS.keys())
def test_beside_what_looks_for_the_prompts_words_it_is_refused(other, first):
    prompt = "a cat and a dog"
    plugins = (CaptionJitter(), other) if first else (other, CaptionJitter())
    with pytest.raises(
        ParameterError, match=r"caption-jitter gives the model another text .*way=noise"
    ):
        tiny.latents(tiny.sd1(), prompt, guidance=Guidance(*plugins), steps=1)
    quiet = [replace(one, way="noise") if one is not other else one for one in plugins]
    tiny.latents(tiny.sd1(), prompt, guidance=Guidance(*quiet), steps=1)


def test_attention_is_not_read_by_the_prompts_words():
    pipe = tiny.sd1()
    with Guidance(CaptionJitter()).attach(pipe, record=True) as attached:
        tiny.latents(pipe, "a cat and a dog", steps=1)
    assert attached.recorded[0].words == ()
    with pytest.raises(ModelError, match="cannot be read by words: caption-jitter gives the model"):
        attached.recorded[0].of("cat")


def test_what_edits_the_text_edits_the_one_with_words_put_in():
    plugins = CaptionJitter(), Time(("a cat > a red cat",))
    pipe = tiny.sd1()
    one, other = (
        tiny.latents(pipe, "a cat and a dog", guidance=Guidance(*some), steps=2)
        for some in (plugins, plugins[::-1])
    )
    assert torch.equal(one, other)
    assert not torch.equal(
        one, tiny.latents(pipe, "a cat and a dog", guidance=Guidance(plugins[0]), steps=2)
    )


def of_text(pipe, guidance, seeds):
    with guidance.attach(pipe) as attached:
        tiny.latents(pipe, PROMPTS[1], seeds=seeds, num_images_per_prompt=len(seeds), steps=2)
    return attached.report.plugins["caption-jitter"]["prompts"]


def of_picture(pipe, guidance, seeds):
    pipe = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    picture, draws = torch.full((1, 3, 32, 32), 0.5), {"generator": tiny.generators(*seeds)}
    with guidance.attach(pipe) as attached:
        pipe(PROMPTS[1], image=picture, strength=0.5, num_inference_steps=4,
             num_images_per_prompt=len(seeds), output_type="latent", **draws)  # fmt: skip
    return attached.report.plugins["caption-jitter"]["prompts"]


@pytest.mark.parametrize("made", [of_text, of_picture])
def test_pictures_of_one_prompt_are_jittered_each_by_itself(made):
    """In a run, where the text is asked for before any noise is chosen."""
    pipe, guidance = tiny.sd1(), Guidance(CaptionJitter())
    one, two = made(pipe, guidance, (1, 2))
    assert one != two
    assert made(pipe, guidance, (2,)) == [two]
