"""Every moment at which a guide may act, beside the same done by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adhere import Guidance, Memory
from adhere.guides.guide import Guide
from adhere.guides.maps import Read
from tests import slow, tiny
from tests.probes import Energetic, Probe, column, descending

SMALL = {"steps": 2, "size": (32, 24)}
LAYER = "up_blocks.2.attentions.1.transformer_blocks.0.attn2"


def guided(pipe: Any, *guides: Callable[[Any], Guide], **options: Any) -> Tensor:
    guidance = Guidance(*map(Probe, guides))
    return tiny.latents(pipe, guidance=guidance, **{**SMALL, **options})


def plain(pipe: Any, **options: Any) -> Tensor:
    return tiny.latents(pipe, **{**SMALL, **options})


def close(one: Tensor, other: Tensor, share: float = 1e-5) -> None:
    assert (one - other).norm() < share * other.norm()


# ---- Bias --------------------------------------------------------------------


class Biasing(Guide):
    """Adds to one column of the text in the upper half of the picture, at one kind of layer."""

    def __init__(self, strength: float = 3.0, heads: int = 1, only: str = "") -> None:
        self.strength, self.heads, self.only = strength, heads, only
        self.seen: dict[str, Tensor] = {}
        self.images: set[tuple[int, ...]] = set()

    def bias(self, step: Any, logits: Any) -> Tensor | None:
        self.images.add(logits.images)
        if logits.site.kind != "cross" or self.only not in logits.site.name:
            return None
        if step.index == 0:
            self.seen.setdefault(logits.site.name, logits.values())
        return upper_half(logits.site.grid, len(logits.images), self.heads, self.strength)


def upper_half(grid: tuple[int, int], batch: int, heads: int, strength: float) -> Tensor:
    h, w = grid
    bias = torch.zeros(batch, heads, h * w, 77)
    bias[:, :, : h // 2 * w, 2] = strength
    return bias


FACTORS = {
    "down_blocks.0": 1,
    "down_blocks.1": 2,
    "down_blocks.2": 4,
    "mid_block.att": 8,
    "up_blocks.1.a": 4,
    "up_blocks.2.a": 2,
    "up_blocks.3.a": 1,
}
"""Latent cells for each cell of a layer's maps, by the beginning of its name."""


def biased_by_hand(pipe: Any, strength: float) -> Tensor:
    """The same run with explicit softmaxes, biased in the conditional row only."""
    biases = {}
    for name in pipe.unet.attn_processors:
        layer = name.removesuffix(".processor")
        if layer.endswith(".attn2"):
            factor = FACTORS[layer[:13]]
            bias = upper_half((-(-16 // factor), -(-12 // factor)), 1, 1, strength)
            biases[layer] = torch.cat([torch.zeros_like(bias), bias])
    unet = pipe.unet

    class Slow(torch.nn.Module):
        config, dtype, device = unet.config, unet.dtype, unet.device

        def forward(self, *args: Any, **call: Any) -> Any:
            call.update(zip(("sample", "timestep"), args, strict=False))
            return slow.maps_of(unet, biases, **call)[0]

    pipe.unet = Slow()
    try:
        return plain(pipe)
    finally:
        pipe.unet = unet


def test_a_bias_is_added_to_the_conditional_rows_logits() -> None:
    pipe = tiny.sd1()
    expected = biased_by_hand(pipe, 3.0)
    close(guided(pipe, lambda run: Biasing()), expected)
    assert tiny.apart(expected, plain(pipe)) > 1e-3


def test_a_bias_leaves_fused_kernels_and_processors_in_use() -> None:
    """All layers still end in PyTorch's fused attention; the biased ones with an additive mask."""
    pipe = tiny.sd1()
    fused, masks = F.scaled_dot_product_attention, []

    class Counting(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is fused:
                masks.append((kwargs or {}).get("attn_mask"))
            return func(*args, **(kwargs or {}))

    processors = dict(pipe.unet.attn_processors)
    used: set[int] = set()
    pipe.unet.get_submodule(LAYER).register_forward_hook(
        lambda module, *_: used.add(id(module.processor))
    )
    with Counting():
        guided(pipe, lambda run: Biasing(only="up_blocks.2"), steps=1)
    assert len(masks) >= len(processors)
    biased = [
        mask for mask in masks if mask is not None and mask.shape[-1] == 77 and mask.shape[-2] == 48
    ]
    assert len(biased) == 2
    assert all(float(mask[0].abs().max()) == 0 and float(mask[1].max()) == 3 for mask in biased)
    assert used == {id(processors[f"{LAYER}.processor"])}
    assert dict(pipe.unet.attn_processors) == processors


def test_biases_of_several_guides_add_up() -> None:
    pipe = tiny.sd1()
    both = guided(pipe, lambda run: Biasing(1.0), lambda run: Biasing(2.0, heads=4))
    close(both, guided(pipe, lambda run: Biasing(3.0)))


def test_a_bias_sees_the_conditional_logits_and_acts_in_the_extra_pass_too() -> None:
    pipe = tiny.sd1()
    with slow.calls(pipe.unet) as seen:
        plain(pipe)
    _, maps = slow.maps_of(pipe.unet, **slow.conditional(seen[0], 1))
    guide = Biasing()
    guided(pipe, lambda run: guide)
    for name in ("down_blocks.0.attentions.0.transformer_blocks.0.attn2",):
        close(guide.seen[name].softmax(-1), maps[name])
    # The gradient pass reads maps with the bias in them.
    found: list[Tensor] = []

    def look(maps: Any) -> Tensor:
        found.append(maps.cross().detach())
        return column(2)(maps)

    guided(pipe, lambda run: Energetic(look, step_size=0.0))
    guided(pipe, lambda run: Energetic(look, step_size=0.0), lambda run: Biasing())
    half = found[0].shape[1] // 2
    calm, loud = found[0][:, :, :, 2], found[2][:, :, :, 2]
    assert (loud[:, :half] > 1.2 * calm[:, :half]).all()


def test_a_bias_knows_its_images_in_every_pass() -> None:
    pipe = tiny.sd1()
    guide = Biasing()
    guidance = Guidance(Probe(lambda run: guide), descending(), memory=Memory(sub_batch=1))
    prompts = ["a red cat", "a blue car"]
    tiny.latents(pipe, prompts, guidance=guidance, seeds=(0, 1), **SMALL)
    assert guide.images == {(0, 1), (0,), (1,)}


# ---- Embeddings --------------------------------------------------------------


def encoded(pipe: Any, text: str) -> Tensor:
    with torch.no_grad():
        return pipe.encode_prompt(text, "cpu", 1, False)[0]


class Saying(Guide):
    """Another text from a step on, for all layers or one."""

    def __init__(self, text: str, start: int = 0, layer: str = "", negative: bool = False) -> None:
        self.text, self.start, self.layer, self.negative = text, start, layer, negative

    def embed(self, step: Any, text: Any) -> Any:
        if step.index < self.start:
            return text
        other = text.encode([self.text] * len(text.cond))
        if self.layer:
            assert self.layer in {site.name for site in text.sites}
            return text.replace(layers={**text.layers, self.layer: other})
        return text.replace(uncond=other) if self.negative else text.replace(cond=other)


def test_another_text_at_every_step_is_another_prompt() -> None:
    pipe = tiny.sd1()
    found = guided(pipe, lambda run: Saying("a big green frog"))
    close(found, plain(pipe, prompt="a big green frog"))


def test_another_negative_text() -> None:
    pipe = tiny.sd1()
    found = guided(pipe, lambda run: Saying("a skull", negative=True))
    close(found, plain(pipe, negative_prompt="a skull"))
    assert tiny.apart(found, plain(pipe)) > 1e-3


def test_another_text_from_a_step_on() -> None:
    pipe = tiny.sd1()
    found = guided(pipe, lambda run: Saying("a frog", start=1))

    def swap(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        embeds = tensors["prompt_embeds"].clone()
        embeds[1:] = encoded(pipe, "a frog")
        return {"prompt_embeds": embeds}

    expected = plain(
        pipe, callback_on_step_end=swap, callback_on_step_end_tensor_inputs=["prompt_embeds"]
    )
    close(found, expected)
    assert tiny.apart(found, plain(pipe)) > 1e-4
    assert tiny.apart(found, plain(pipe, prompt="a frog")) > 1e-4


def test_another_text_in_one_layer() -> None:
    pipe = tiny.sd1()
    found = guided(pipe, lambda run: Saying("a frog", layer=LAYER))
    frog = encoded(pipe, "a frog")
    before = plain(pipe)

    def other(module: Any, args: Any, kwargs: Any) -> Any:
        text = kwargs["encoder_hidden_states"].clone()
        text[1:] = frog
        return args, {**kwargs, "encoder_hidden_states": text}

    hook = pipe.unet.get_submodule(LAYER).register_forward_pre_hook(other, with_kwargs=True)
    expected = plain(pipe)
    hook.remove()
    close(found, expected)
    assert tiny.apart(found, before) > 1e-4


@pytest.mark.parametrize("changes", [{}, {"layer": LAYER}])
def test_the_extra_pass_reads_the_changed_text(changes: dict[str, str]) -> None:
    pipe = tiny.sd1()
    read: list[Tensor] = []

    def note(maps: Any) -> Tensor:
        read.append(maps.cross().detach())
        return column(2)(maps)

    guided(pipe, lambda run: Energetic(note, step_size=0.0), steps=1)
    guided(
        pipe,
        lambda run: Saying("a big green frog", **changes),
        lambda run: Energetic(note, step_size=0.0),
        steps=1,
    )
    assert tiny.apart(*read) > 1e-3


# ---- Starting noise ----------------------------------------------------------


class Choosing(Guide):
    reads = frozenset({Read("cross")})

    def __init__(self, choose: Callable[[Tensor, Any], Tensor]) -> None:
        self.choose = choose

    def guides(self, step: Any) -> bool:
        return False

    def initial(self, noise: Tensor, look: Any) -> Tensor:
        return self.choose(noise, look)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_chosen_noise_is_what_the_run_starts_from(name: str) -> None:
    """Unit variance, also where a scheduler starts from noise of another size."""
    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    pipe = tiny.sd1(scheduler=getattr(diffusers, name)(**options))
    given = []

    def choose(noise: Tensor, look: Any) -> Tensor:
        given.append(noise)
        return noise.flip(-1)

    start = torch.randn(1, 4, 16, 12, generator=tiny.generators(0)[0])
    found = guided(pipe, lambda run: Choosing(choose))
    close(given[0], start)
    close(found, plain(pipe, latents=start.flip(-1)))
    unchanged = guided(pipe, lambda run: Choosing(lambda noise, look: noise))
    assert torch.equal(unchanged, plain(pipe))


def test_a_look_is_the_first_steps_maps_and_differentiable() -> None:
    pipe = tiny.sd1()
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        part.double()
    slopes = []

    def choose(noise: Tensor, look: Any) -> Tensor:
        assert look.step.index == 0
        with torch.enable_grad():
            leaf = noise.clone().requires_grad_(True)
            loss = column(2)(look(leaf)).sum()
            slopes.append(torch.autograd.grad(loss, [leaf])[0])
        return noise

    guided(pipe, lambda run: Choosing(choose))
    with slow.calls(pipe.unet) as seen:
        plain(pipe)
    call = slow.conditional(seen[0], 1)
    expected = slow.slope(pipe.unet, call, call["sample"], lambda maps: maps[..., 2].mean((1, 2)))
    close(slopes[0], expected, 1e-9)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_look_can_be_differentiated_by_callers_of_every_kind(
    mode: Any, checkpointing: bool
) -> None:
    pipe = tiny.sd1()

    def choose(noise: Tensor, look: Any) -> Tensor:
        with torch.enable_grad():
            leaf = noise.clone().requires_grad_(True)
            loss = column(2)(look(leaf)).sum()
            return (noise - 100 * torch.autograd.grad(loss, [leaf])[0]).detach()

    guidance = Guidance(
        Probe(lambda run: Choosing(choose)), memory=Memory(checkpointing=checkpointing)
    )
    with mode():
        found = tiny.latents(pipe, guidance=guidance, **SMALL)
    expected = tiny.latents(pipe, guidance=Guidance(Probe(lambda run: Choosing(choose))), **SMALL)
    close(found.clone(), expected)
    assert tiny.apart(expected, plain(pipe)) > 1e-4


def test_fresh_noise_depends_on_the_image_and_the_draw_alone() -> None:
    pipe = tiny.sd1()
    drawn: list[Tensor] = []

    def choose(noise: Tensor, look: Any) -> Tensor:
        images = range(len(noise))
        drawn.append(torch.stack([look.fresh(images, draw) for draw in (1, 2)]))
        return noise

    prompts = ["a cat", "a car"]
    guided(pipe, lambda run: Choosing(choose), prompt=prompts, seeds=(0, 1))
    guided(pipe, lambda run: Choosing(choose), prompt="a car", seeds=(1,))
    both, alone = drawn
    assert torch.equal(both[:, 1:], alone)
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[:, 0], both[:, 1])
    assert abs(float(both.std()) - 1) < 0.05


def test_noise_that_is_not_finite_is_left_as_it_was() -> None:
    pipe = tiny.sd1()
    guidance = Guidance(Probe(lambda run: Choosing(lambda noise, look: noise * torch.nan)))
    with guidance.attach(pipe) as attached:
        found = tiny.latents(pipe, **SMALL)
    assert torch.equal(found, plain(pipe))
    assert any("not finite" in note for note in attached.report.notes)


def test_image_to_image_chooses_no_noise() -> None:
    pipe = diffusers.StableDiffusionImg2ImgPipeline(
        **tiny.sd1_parts(), requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 32, 32)
    asked: list[bool] = []
    guidance = Guidance(
        Probe(lambda run: Choosing(lambda noise, look: asked.append(True) or noise))
    )
    tiny.latents(pipe, guidance=guidance, image=image, steps=2, size=None)
    assert asked == []


# ---- Predictions -------------------------------------------------------------


class Predicting(Guide):
    """Adds a multiple of (text's prediction - conditional prediction)."""

    def __init__(self, text: str, weight: float) -> None:
        self.texts, self.weight = (text,), weight
        self.seen: list[Any] = []

    def predict(self, step: Any, eps: Any) -> Tensor:
        self.seen.append(eps)
        return eps.cond + self.weight * (eps.extra[0] - eps.cond)


def test_a_guides_own_text_is_predicted_under() -> None:
    """Going all the way to the text's prediction is prompting with it."""
    pipe = tiny.sd1()
    found = guided(pipe, lambda run: Predicting("a big green frog", 1.0))
    close(found, plain(pipe, prompt="a big green frog"))


def test_several_guides_each_get_their_own_texts_in_any_order() -> None:
    pipe = tiny.sd1()
    one, other = Predicting("a skull", 0.5), Predicting("a frog", 0.25)
    found = guided(pipe, lambda run: one, lambda run: other)
    assert [len(eps.extra) for eps in (*one.seen, *other.seen)] == [1] * 4
    close(guided(pipe, lambda run: other, lambda run: one), found)
    # By hand, first step: cond + 0.5 (skull - cond) + 0.25 (frog - cond).
    texts = torch.cat([encoded(pipe, text) for text in ("", tiny.PROMPT, "a skull", "a frog")])
    x = torch.randn(1, 4, 16, 12, generator=tiny.generators(0)[0])
    pipe.scheduler.set_timesteps(2)
    for t in pipe.scheduler.timesteps:
        with torch.no_grad():
            eps = pipe.unet(torch.cat([x] * 4), t, texts).sample
        none, cond, skull, frog = eps.chunk(4)
        changed = cond + 0.5 * (skull - cond) + 0.25 * (frog - cond)
        x = pipe.scheduler.step(none + 7.5 * (changed - none), t, x).prev_sample
    close(found, x)


def test_predictions_of_a_batch_belong_to_their_images() -> None:
    pipe = tiny.sd1()
    prompts = ["a red cat", "a blue car"]
    call = {"num_images_per_prompt": 2, "generator": tiny.generators(0, 1, 2, 3)}
    both = guided(pipe, lambda run: Predicting("a skull", 0.5), prompt=prompts, **call)
    for k in range(4):
        alone = guided(
            pipe, lambda run: Predicting("a skull", 0.5), prompt=prompts[k // 2], seeds=(k,)
        )
        assert tiny.apart(both[k : k + 1], alone) < 1e-4


def test_an_untouched_prediction_changes_nothing() -> None:
    pipe = tiny.sd1()

    class Idle(Guide):
        def predict(self, step: Any, eps: Any) -> Tensor:
            return eps.cond

    assert torch.equal(guided(pipe, lambda run: Idle()), plain(pipe))


def test_zero_terminal_signal_stays_finite() -> None:
    """At alpha_bar = 0 a velocity says nothing of the noise; nothing may be divided by it."""
    scheduler = tiny.scheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    pipe = tiny.sd1(scheduler=scheduler)
    assert float(scheduler.alphas_cumprod[-1]) < 1e-7
    found = guided(pipe, lambda run: Predicting("a skull", 0.5))
    assert torch.isfinite(found).all()
    assert tiny.apart(found, plain(pipe)) > 1e-3


# ---- Recording ---------------------------------------------------------------


def test_recorded_maps_are_those_of_the_pipelines_own_pass() -> None:
    pipe = tiny.sd1()
    prompts = ["a red cat", "a blue car"]
    call = {"prompt": prompts, "seeds": (0, 1), **SMALL}
    with slow.calls(pipe.unet) as seen:
        before = tiny.latents(pipe, **call)
    with Guidance().attach(pipe, record=True) as attached:
        recorded = tiny.latents(pipe, **call)
    assert tiny.apart(recorded, before) < 1e-6
    assert attached.attention.shape == (2, 2, 8, 6, 77)
    for k, step in enumerate(seen):
        _, maps = slow.maps_of(pipe.unet, **step)
        halves = {name: found[2:] for name, found in maps.items()}
        expected = slow.cross(halves, slow.SEMANTIC, (8, 6))
        torch.testing.assert_close(attached.attention[:, k], expected, rtol=1e-4, atol=1e-6)


def test_recording_goes_together_with_plugins() -> None:
    pipe = tiny.sd1()
    guidance = Guidance(descending())
    found = tiny.latents(pipe, guidance=guidance, **SMALL)
    with guidance.attach(pipe, record=True) as attached:
        recorded = tiny.latents(pipe, **SMALL)
    assert tiny.apart(recorded, found) < 1e-5
    assert attached.attention.shape == (1, 2, 8, 6, 77)
    torch.testing.assert_close(attached.attention.sum(-1), torch.ones(1, 2, 8, 6))
