"""TIME against its paper's closed form, written into the projections of a copy of the model."""

from __future__ import annotations

import copy

import pytest
import torch

from adhere import Guidance
from adhere.errors import ModelError, ParameterError
from adhere.plugins.edit.time import Time
from adhere.plugins.mathematics.texts import aligned
from adhere.prompt.tokens import Piece, TokenisedPrompt
from tests import tiny
from tests.families.cases import CASES

# start 0 a 1 cat 2 end 3 ...;  start 0 a 1 red 2 cat 3 end 4 ... 76, and the last once more
CAT = [0, 1, 3, *range(4, 77), 76]
BLUE_CAR = [0, 1, 4, *range(5, 77), 76, 76]


def embedded(pipe, text):
    return pipe.encode_prompt(text, "cpu", 1, False)[0][0].double()


def slowly_edited(pipe, pairs, keep):
    """Every key and value projection W of text becomes (k W + sum W d c^T) (k 1 + sum c c^T)^-1."""
    texts = [(embedded(pipe, a), embedded(pipe, b)[places]) for a, b, places in pairs]
    unet = copy.deepcopy(pipe.unet)
    for name, layer in unet.named_modules():
        if not name.endswith(("attn2.to_k", "attn2.to_v")):
            continue
        weight = layer.weight.data.double()
        above, below = keep * weight, keep * torch.eye(weight.shape[1]).double()
        for said, meant in texts:
            for c, d in zip(said, meant, strict=True):
                above = above + torch.outer(weight @ d, c)
                below = below + torch.outer(c, c)
        layer.weight.data = (above @ torch.linalg.inv(below)).float()
    return unet


@pytest.mark.parametrize(
    ("edits", "pairs", "keep"),
    [
        (("a cat > a red cat",), [("a cat", "a red cat", CAT)], 0.1),
        (
            ("a cat > a red cat", "a car > a small blue car"),
            [("a cat", "a red cat", CAT), ("a car", "a small blue car", BLUE_CAR)],
            5.0,
        ),
    ],
)
def test_edited_texts_are_edited_projections(edits, pairs, keep):
    pipe, prompts = tiny.sd1(), ["a cat and a car", "a blue cat"]
    about = {"steps": 3, "prompt": prompts, "seeds": (0, 1), "negative_prompt": ["a car", ""]}
    plain = tiny.latents(pipe, **about)
    guided = tiny.latents(pipe, guidance=Guidance(Time(edits, keep=keep)), **about)
    pipe.unet = slowly_edited(pipe, pairs, keep)
    assert tiny.apart(guided, tiny.latents(pipe, **about)) < 1e-4
    assert tiny.apart(guided, plain) > 1e-2


def test_the_more_is_kept_the_less_is_moved():
    pipe = tiny.sd1()
    plain = tiny.latents(pipe, steps=2)
    moved = [
        tiny.apart(
            tiny.latents(pipe, steps=2, guidance=Guidance(Time(("a cat > a red cat",), keep=keep))),
            plain,
        )
        for keep in (1e-2, 1e2, 1e4)
    ]
    assert moved[0] > moved[1] > moved[2] > 0


def test_words_are_aligned_in_their_order(make_run):
    def track(text):
        return make_run(text).tracks[0].images[0]

    assert aligned(track("the axe"), track("the red axe"), 9) == [0, 1, 3, 4, 5, 6, 7, 8, 8]
    before_vowel = TokenisedPrompt("an axe", (Piece(1, 0, 2), Piece(2, 3, 6)), 9, (), None, "")
    other = TokenisedPrompt("a red axe", (Piece(1, 0, 1), Piece(3, 6, 9)), 9, (), None, "")
    assert aligned(before_vowel, other, 6) == [0, 1, 3, 4, 5, 5]
    with pytest.raises(ParameterError, match="'dog' of 'a dog' is not in 'a red cat'"):
        aligned(track("a dog"), track("a red cat"), 20)
    with pytest.raises(ParameterError, match="or in another order"):
        aligned(track("cat and dog"), track("dog and cat"), 20)


@pytest.mark.parametrize("edit", ["a rose", "", ">", "a rose >", "> a rose", "a > b > c"])
def test_what_is_no_edit_is_refused(edit):
    with pytest.raises(ParameterError, match="write a rose > a blue rose"):
        Time((edit,))


def test_an_edit_that_changes_nothing_is_refused():
    with pytest.raises(ParameterError, match="'a rose', is what is to be meant"):
        Time(("a rose > a rose ",))
    with pytest.raises(ParameterError, match="'a rose', is what is to be meant"):
        Time(("a rose > A  Rose",))


@pytest.mark.parametrize("other", ["a rose > a red rose", "A rose > a blue rose"])
def test_a_text_that_is_to_mean_two_things_is_refused(other):
    with pytest.raises(ParameterError, match=r"is to mean 'a blue rose' and .*; say one of them"):
        Time(("a rose > a blue rose", "a car > a red car", other))


def test_augmented_edits_are_of_photos_too(make_run):
    plugin = Time(("a cat > a red cat",), augmented=True)
    assert plugin.pairs()[1] == ("a photo of a cat", "a photo of a red cat")
    assert len(plugin.pairs()) == 4
    with pytest.raises(ParameterError, match="no edits"):
        Time().guide(make_run("a cat"))


def test_models_that_make_something_else_of_their_texts_refuse():
    """The closed form is one of projections of the text, and SD3 embeds it once more before."""
    case = CASES["sd3"]
    with (
        Guidance(Time(("a cat > a red cat",))).attach(case.pipe),
        pytest.raises(ModelError, match=r"^time edits what layers make keys and values of"),
    ):
        case(["a cat"], seeds=[0])
