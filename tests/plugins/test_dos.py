"""DOS against its vectors and weights in NumPy, one pair at a time."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from adhere.errors import PromptError
from adhere.guides.guide import Text
from adhere.plugins.bind import dos
from adhere.plugins.bind.dos import Dos

# a 1 red 2 cat 3 and 4 a 5 dog 6; the 1 a 2 x 3 e 4 and 5 a 6 frog 7 and 8 a 9 bird 10
PROMPTS = ("a red cat and a dog", "the axe and a frog and a bird")
OBJECTS = ([("cat", [3]), ("dog", [6])], [("axe", [2, 3, 4]), ("frog", [7]), ("bird", [10])])
ENDS = (7, 11)


def encode(texts):
    """Other numbers for every text, the same for the same one."""
    rows = []
    for text in texts:
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        rows.append(torch.randn(60, 6, generator=generator))
    return torch.stack(rows)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Lists that fit the columns of the tests' tokenizer, whose unknown words fall into letters."""
    monkeypatch.setattr(dos, "ATTRIBUTES", ("blue", "green", "red"))
    monkeypatch.setattr(dos, "PLACES", ("on a car", "of the photo", "is a bird"))


def pool(texts):
    """Pooled embeddings, which have nothing to do with the others."""
    return encode([f"pooled {text}" for text in texts])[:, 0, :5].contiguous()


@pytest.fixture
def text_of(make_run):
    def make(*prompts, pooled=False):
        shown = encode(prompts)[:, :20]
        text = Text(shown, None, encode, tracks=lambda texts: make_run(*texts).tracks)
        return text.replace(pooled=pool(prompts), pool=pool) if pooled else text

    return make


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


SDXL = [(0.5550, 0.1592), (0.5474, 0.3862), (0.5366, 0.5835)]
SD3 = [(0.5536, 0.1705), (0.5473, 0.3877), (0.6168, 0.4325)]


def slow_shift(prompt, objects, end, strength, length, centres=SDXL):
    """What moves the tokens' embeddings, and the pooled one."""

    def words(text, name):
        n, pieces = length(text), length(f"a {name}") - 1
        return encode([text])[0].double().numpy()[n - pieces + 1 : n + 1].mean(axis=0)

    def ending(text):
        return encode([text])[0].double().numpy()[length(text) + 1]

    def pooling(text):
        return pool([text])[0].double().numpy()

    def standard(values):
        return (np.array(values) - np.mean(values)) / np.std(values)

    def profiles(name, texts):
        plain = f"a {name}"
        own = [cosine(words(plain, name), words(t, name)) for t in [plain, *texts]]
        ends = [cosine(ending(plain), ending(t)) for t in texts]
        pooled = [cosine(pooling(plain), pooling(t)) for t in texts]
        return standard(own), standard(ends), standard(pooled)

    looks = {n: profiles(n, [f"a {x} {n}" for x in dos.ATTRIBUTES]) for n, _ in objects}
    scene = {n: profiles(n, [f"{x}, there is a {n}" for x in dos.PLACES]) for n, _ in objects}

    def alpha(n, m, part):
        c1, c2 = centres[part]
        alike = 1 / (1 + math.exp(-(cosine(looks[n][part], looks[m][part]) - c1) / 0.6))
        apart = 1 / (1 + math.exp(-(1 - cosine(scene[n][part], scene[m][part]) - c2) / 0.6))
        return strength * max(alike, apart) / (len(objects) - 1)

    shift, whole = np.zeros((20, 6)), np.zeros(5)
    for n, columns in objects:
        for m, _ in objects:
            if m == n:
                continue
            far = words(f"a {n}", n) - words(f"a {m}", m)
            shift[columns] += alpha(n, m, 0) * far
            apart, mixed = f"a {n} separated from a {m}", f"a {n} mixed with a {m}"
            shift[end] += alpha(n, m, 1) * (ending(apart) - ending(mixed))
            whole += alpha(n, m, 2) * (pooling(apart) - pooling(mixed))
    return torch.from_numpy(shift).float(), torch.from_numpy(whole).float()


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_embeddings_of_two_images(make_run, make_step, text_of, strength):
    guide = Dos(strength=strength).guide(make_run(*PROMPTS))
    text = text_of(*PROMPTS)

    def length(one):
        return len(make_run(one).tracks[0].images[0].content)

    for index in (0, 30):
        found = guide.embed(make_step(index), text).cond
        for image, prompt in enumerate(PROMPTS):
            expected, _ = slow_shift(prompt, OBJECTS[image], ENDS[image], strength, length)
            torch.testing.assert_close(
                found[image], text.cond[image] + expected, rtol=1e-4, atol=1e-4
            )
    assert [len(one) for one in guide.report()["weights"]] == [2, 6]
    alone = Dos(strength=strength).guide(make_run(PROMPTS[1]))
    one = alone.embed(make_step(0), text_of(PROMPTS[1])).cond
    torch.testing.assert_close(one, found[1:])


@pytest.mark.parametrize(("family", "centres"), [("sdxl", SDXL), ("sd3", SD3)])
def test_the_pooled_embedding_and_the_models_own_constants(
    make_run, make_step, text_of, family, centres
):
    run, text = make_run(*PROMPTS), text_of(*PROMPTS, pooled=True)
    run.family = family

    def length(one):
        return len(make_run(one).tracks[0].images[0].content)

    guide = Dos().guide(run)
    for index in (0, 30):
        found = guide.embed(make_step(index), text)
        for image, prompt in enumerate(PROMPTS):
            shift, whole = slow_shift(prompt, OBJECTS[image], ENDS[image], 1.0, length, centres)
            torch.testing.assert_close(
                found.cond[image], text.cond[image] + shift, rtol=1e-4, atol=1e-4
            )
            torch.testing.assert_close(
                found.pooled[image], text.pooled[image] + whole, rtol=1e-4, atol=1e-4
            )
    # A later call of a step, of the negative prompt's, has none of it.
    assert guide.embed(make_step(0), text_of(*PROMPTS)).pooled is None


def test_one_object_is_left_alone_with_a_note(make_run, make_step, text_of):
    run, text = make_run("a red cat"), text_of("a red cat")
    assert torch.equal(Dos().guide(run).embed(make_step(0), text).cond, text.cond)
    assert "one object" in run.notes[0]
    with pytest.raises(PromptError, match="frog"):
        Dos(subjects=("frog",)).guide(run)
    with pytest.raises(PromptError, match="'red cat' and 'cat' share words of 'a red cat'"):
        Dos(subjects=("red cat", "cat")).guide(run)
