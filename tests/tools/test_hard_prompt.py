"""PEZ against a slow walk, and what `adhere invert` says."""

from __future__ import annotations

import copy
import itertools
import json
import shlex
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image

from adhere.cli import inverting
from adhere.errors import ParameterError
from adhere.pipelines.tools.clip import Clip, clip_of
from adhere.pipelines.tools.hard_prompt import Found, Search, allowed, search
from adhere.pipelines.toybox import caption, render, sample_scene
from tests.tools.test_noise_library import adhere


@pytest.fixture(scope="module")
def clip() -> Clip:
    found = clip_of("toybox", None)
    assert found is not None
    return found


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    render(sample_scene(Random(5), count=1)).save(tmp_path / "one.png")
    return tmp_path / "one.png"


def slow_walk(clip: Clip, target: torch.Tensor, how: Search) -> list[list[int]]:
    """The tokens of each step. The table has rows more, one a place, that the gradient is at."""
    model: Any = copy.deepcopy(clip.model)
    vocabulary = clip.tokenizer.get_vocab()
    table = model.text_model.embeddings.token_embedding
    words = sorted(
        number
        for token, number in vocabulary.items()
        if token.endswith("</w>") and token[:-4].isalpha()
    )
    generator = torch.Generator().manual_seed(how.seed)
    first = torch.randint(len(words), (how.length,), generator=generator)
    places = [table.weight[words[k]].clone() for k in first.tolist()]
    means = [torch.zeros_like(place) for place in places]
    squares = [torch.zeros_like(place) for place in places]
    known, path = table.weight.detach().clone(), []
    for step in range(1, how.steps + 1):
        tokens = []
        for place in places:
            cosines = [float(torch.cosine_similarity(place, known[word], dim=0)) for word in words]
            tokens.append(words[cosines.index(max(cosines))])
        path.append(tokens)
        rows = torch.cat([known, known[tokens]]).requires_grad_(True)
        table.weight = torch.nn.Parameter(rows)
        own = [len(known) + k for k in range(how.length)]
        end = vocabulary["<|endoftext|>"]
        ids = [vocabulary["<|startoftext|>"], *own, *[end] * (clip.length - 1 - how.length)]
        read = model.text_model(input_ids=torch.tensor([ids])).pooler_output
        seen = model.text_projection(read)[0]
        loss = 1 - torch.cosine_similarity(seen, target[0], dim=0)
        (slope,) = torch.autograd.grad(loss, [table.weight])
        for k, place in enumerate(places):
            g = slope[own[k]]
            means[k] = 0.9 * means[k] + 0.1 * g
            squares[k] = 0.999 * squares[k] + 0.001 * g * g
            move = means[k] / (1 - 0.9**step) / ((squares[k] / (1 - 0.999**step)).sqrt() + 1e-8)
            places[k] = (
                place * (1 - how.learning_rate * how.weight_decay) - how.learning_rate * move
            )
    return path


def test_it_walks_as_the_paper_does(
    clip: Clip, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Search(length=3, steps=25, learning_rate=0.01, seed=2)
    target = clip.pictures([Image.open(picture)])
    seen: list[list[int]] = []
    plain = Clip.of_tokens

    def watched(self: Clip, ids: Any, embeds: Any = None) -> Any:
        if embeds is not None:
            seen.append(ids[0, 1:4].tolist())
        return plain(self, ids, embeds)

    monkeypatch.setattr(Clip, "of_tokens", watched)
    found = list(search(clip, target, how))
    assert seen == slow_walk(clip, target, how)
    assert len({tuple(tokens) for tokens in seen}) >= 3, "it walks nowhere"
    best = [one.similarity for one in found]
    assert all(a <= b for a, b in itertools.pairwise(best))
    for one in found:
        real = float(clip.texts([one.text])[0] @ target[0])
        assert one.similarity == pytest.approx(real, abs=1e-5)
        tokens = clip.tokenizer(one.text, add_special_tokens=False).input_ids
        assert tokens in seen[: one.step], "the text is not what was found"


def test_what_it_finds_is_nearer_than_captions_of_other_pictures(clip: Clip) -> None:
    generator = Random(5)
    scenes = [sample_scene(generator, count=2) for _ in range(20)]
    captions = clip.texts([caption(scene, generator) for scene in scenes[1:]])
    target = clip.pictures([render(scenes[0])])
    *_, best = search(clip, target, Search(length=8, steps=80))
    assert best.similarity > float((captions @ target[0]).max())
    assert any(thing.kind in best.text for thing in scenes[0].things)


def test_the_same_seed_finds_the_same(clip: Clip, picture: Path) -> None:
    target = clip.pictures([Image.open(picture)])
    one, two, other = (
        list(search(clip, target, Search(length=3, steps=4, seed=seed))) for seed in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_special_tokens_and_parts_of_words_are_left_out(clip: Clip) -> None:
    whole, all_ = allowed(clip, True), allowed(clip, False)
    ids = clip.tokenizer.get_vocab()
    assert whole[ids["cat</w>"]]
    assert not whole[ids["c"]]
    assert all_[ids["c"]]
    assert not all_[ids["<|endoftext|>"]]
    assert all_.sum() == len(ids) - 2


def test_invert_says_a_prompt_as_text_and_as_json(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("invert", picture, "--steps", "3", "--length", "2")
    assert adhere(*words) == 0
    captured = capsys.readouterr()
    prompt, told = captured.out.splitlines()
    assert shlex.split(told.partition("draw it: ")[2]) == ["adhere", "generate", prompt]
    assert "steps: 3/3" in captured.err
    assert adhere(*words, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["prompt"] == prompt
    assert data["clip"] == "toybox"
    assert (data["search"]["steps"], data["search"]["length"]) == (3, 2)


def test_the_command_that_draws_a_found_prompt_says_it_to_a_shell_as_it_is() -> None:
    prompt, model = 'the $HOME of `cats` "né"', "my models/one"
    told = inverting._as_text(Found(prompt, 0.5, 1), model)
    command = shlex.split(told.partition("draw it: ")[2])
    assert command == ["adhere", "generate", prompt, "-m", model]


def test_ctrl_c_says_the_best_so_far(
    picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        for number, found in enumerate(search(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(inverting, "search", interrupted)
    assert adhere("invert", picture, "--steps", "30", "--length", "2") == 130
    assert "found at step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no.png"], "does not read as a picture"),
        (["one.png", "--length", "31"], "give 30 or less"),
        (["one.png", "--clip", "/nowhere"], "--clip '/nowhere' is no folder here"),
        (["one.png", "-m", "/nowhere"], "'/nowhere' is no folder here"),
        (["one.png", "-m", "."], "'.' has no CLIP of its own"),
    ],
)
def test_what_cannot_be_inverted(
    words: list[str], said: str, picture: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(picture.parent)
    assert adhere("invert", *words) == 2
    assert said in capsys.readouterr().err


def test_a_length_that_is_too_long_is_refused_in_python(clip: Clip) -> None:
    with pytest.raises(ParameterError, match="length=99"):
        next(search(clip, torch.zeros(1, 128), Search(length=99)))
