"""The second denoiser: conditioned as diffusers' own pipeline does it, trained on its shape."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, nn

from adhere.guides.maps import Read
from adhere.pipelines.families import family_of
from adhere.pipelines.toybox import check_folder, load_clip, load_toybox, toybox_folder
from adhere.pipelines.toybox.card.attention import measure
from adhere.pipelines.toybox.model import transformer
from adhere.pipelines.toybox.model.unet import word_columns
from adhere.pipelines.toybox.training.grounding import GroundedTransformer, JointAttention
from adhere.pipelines.toybox.training.muon import Muon

SMALL = {"num_layers": 3, "num_attention_heads": 2, "caption_projection_dim": 64}


def conditioned(prompts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, text columns and pooled text of some prompts."""
    clip, tokenizer, _ = load_clip()
    ids = tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
    return ids, *transformer.embed(transformer.text_encoders(clip), ids)


def test_the_first_encoder_is_read_at_its_end_and_the_second_before() -> None:
    clip, _, _ = load_clip()
    ids, text, pooled = conditioned(["a red cat and a blue car", ""])
    known = clip.text_model(ids, output_hidden_states=True)
    assert text.shape == (2, 33, 256)
    torch.testing.assert_close(text[:, :32, :128], known.hidden_states[2])
    torch.testing.assert_close(text[:, :32, 128:], known.hidden_states[1])
    assert not text[:, 32].any()
    projected = clip.text_projection(known.pooler_output)
    torch.testing.assert_close(pooled, torch.cat([projected, projected], 1))


def test_one_heavy_column_stands_for_256_empty_ones() -> None:
    torch.manual_seed(0)
    model = transformer.build_transformer(**SMALL).eval()
    _, text, pooled = conditioned(["a red cat and a blue car", "a frog"])
    x, t = torch.randn(2, 8, 16, 16), torch.tensor([900.0, 300.0])
    empty = torch.zeros(2, transformer.EMPTY_T5, 256)
    with torch.no_grad():
        plain = model(x, torch.cat([text[:, :32], empty], 1), pooled, t).sample
        model.set_attn_processor(JointAttention())
        given = {"columns": transformer.column_bias(torch.ones(2, 32)), "maps": []}
        ours = model(x, text, pooled, t, joint_attention_kwargs=given).sample
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    light = {"columns": torch.zeros(2, 1, 1, 97), "maps": []}
    with torch.no_grad():
        other = model(x, text, pooled, t, joint_attention_kwargs=light).sample
    assert not torch.allclose(other, plain, atol=1e-3)


def test_hidden_columns_are_not_looked_at() -> None:
    torch.manual_seed(0)
    learner = GroundedTransformer(transformer.build_transformer(**SMALL))
    ids, text, pooled = conditioned(["a red cat"])
    words = word_columns(ids)
    columns = transformer.column_bias(words)
    x, t, nowhere = torch.randn(1, 8, 16, 16), torch.tensor([500.0]), torch.zeros(1, 32, 256)
    quiet = torch.zeros(1, 32)
    other = text.clone()
    other[:, :32][words == 0] += 1.0
    with torch.no_grad():
        one = learner(x, t, text, pooled, columns, nowhere, quiet)[0]
        two = learner(x, t, other, pooled, columns, nowhere, quiet)[0]
    torch.testing.assert_close(one, two)


def test_noise_levels_are_spread_around_six_tenths() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([transformer.spread_sigmas(16, generator) for _ in range(400)])
    assert float(drawn.median()) == pytest.approx(0.6, abs=0.01)
    assert 0 < float(drawn.min()) < 0.1
    assert 0.95 < float(drawn.max()) < 1


def test_a_flow_goes_from_the_picture_to_the_noise() -> None:
    latents, noise = torch.randn(2, 3, 8, 16, 16)
    sigmas = torch.tensor([0.0, 1.0, 0.25])
    found = transformer.flowed(latents, noise, sigmas)
    assert torch.equal(found[0], latents[0])
    assert torch.equal(found[1], noise[1])
    torch.testing.assert_close(found[2], latents[2] + 0.25 * (noise[2] - latents[2]))
    scheduler = transformer.build_flow_scheduler()
    theirs = scheduler.scale_noise(latents, scheduler.timesteps[[999, 0, 750]], noise)
    ours = transformer.flowed(latents, noise, scheduler.timesteps[[999, 0, 750]] / 1000)
    torch.testing.assert_close(ours, theirs)


def test_muon_trains_the_matrices_of_the_blocks() -> None:
    parameters = dict(transformer.build_transformer(**SMALL).named_parameters())
    chosen = [k for k in parameters if transformer.orthogonal(k)]
    assert all(parameters[k].ndim == 2 for k in chosen)
    assert any(k.endswith("to_q.weight") for k in chosen)
    assert not any("linear" in k or "embed" in k or "norm" in k for k in chosen)


def test_muon_by_shapes_is_muon() -> None:
    shapes = [(8, 16), (8, 16), (16, 8), (8, 8), (5, 7), (16, 8)]

    def matrices() -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in shapes]

    theirs, ours = matrices(), matrices()
    optimisers = (
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.01),
        Muon(ours, lr=0.02, weight_decay=0.01),
    )
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(theirs, ours, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for one, other, start in zip(theirs, ours, matrices(), strict=True):
        moved = (one - start).norm()
        assert moved > 0.5
        assert (one - other).norm() < 0.02 * moved  # its iterations are in bfloat16
    optimisers[1].load_state_dict(optimisers[0].state_dict())


def test_grounding_draws_attention_from_the_empty_columns_to_the_words() -> None:
    torch.manual_seed(0)
    model = transformer.build_transformer(**SMALL)
    learner = GroundedTransformer(model)
    _, text, pooled = conditioned(["a red cat and a blue car"] * 2)
    places = torch.zeros(2, 32, 256)
    places[:, 3, 34:38] = 1 / 4
    columns = transformer.column_bias(torch.ones(2, 32))
    x, t = torch.randn(2, 8, 16, 16), torch.full((2,), 500.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = learner(x, t, text, pooled, columns, places, torch.zeros(2, 32))[1]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    maps: list[Tensor] = []
    with torch.no_grad():
        model(x, text, pooled, t, joint_attention_kwargs={"columns": columns, "maps": maps})
    cells = [8 * y + x for y in (1,) for x in (1, 2)]  # rows 34 to 37 of 256, on the 8x8 grid
    there = torch.stack(maps).mean((0, 1))[cells].mean(0)
    assert there[3] > there[32]


# The shipped weights

FOLDER = toybox_folder("toybox-sd3")


def test_the_folder_is_whole_and_both_are_small() -> None:
    assert check_folder(FOLDER) == []
    files = [p for folder in (FOLDER, toybox_folder()) for p in folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 40 * 2**20


def test_plain_diffusers_loads_it() -> None:
    plain = StableDiffusion3Pipeline.from_pretrained(
        str(FOLDER), text_encoder_3=None, tokenizer_3=None
    )
    assert plain.transformer.dtype == plain.text_encoder.dtype == plain.vae.dtype == torch.float32
    assert plain("a cat", num_inference_steps=1).images[0].size == (64, 64)


def test_its_encoders_are_those_of_the_toybox() -> None:
    clip, tokenizer, _ = load_clip()
    pipe = load_toybox(name="toybox-sd3")
    ids = tokenizer(["a red cat"], padding="max_length", return_tensors="pt").input_ids
    expected, pooled = transformer.embed(transformer.text_encoders(clip), ids)
    found, _, shown, _ = pipe.encode_prompt(
        "a red cat", None, None, do_classifier_free_guidance=False
    )
    assert found.shape == (1, 32 + transformer.EMPTY_T5, 256)
    torch.testing.assert_close(found[:, :33], expected)
    torch.testing.assert_close(shown, pooled)


def test_its_words_look_at_their_things_in_the_layers_that_are_read() -> None:
    pipe = load_toybox(name="toybox-sd3")
    family = family_of(pipe)
    assert family.name == "toybox-sd3"
    prompts = ["a red cat and a blue car", "a yellow frog and a purple balloon"]
    found = measure(pipe, prompts, seed=3, steps=8)
    for spot in family.wanted(Read()):
        assert found[spot.name]["inside"] > 2
        assert found[spot.name]["other"] < 1


def test_its_card_has_its_figures() -> None:
    card = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
    for key in ("one_object", "two_object", "two_object_present", "skull_haunted"):
        assert 0 <= card[key] <= 1
    assert card["pipeline"] == "StableDiffusion3Pipeline"
    assert "transformer" in card["training"]
    assert (FOLDER / "README.md").read_text(encoding="utf-8").count("|") > 50
