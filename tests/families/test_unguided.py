"""Prediction methods where a call makes no prediction without the prompt of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Prediction, Step
from adhere.pipelines.families import family_of
from adhere.pipelines.search.costs import Rows, extra_passes
from adhere.pipelines.toybox import load_toybox
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families import pipes
from tests.families.cases import T5, Case, shown_calls
from tests.families.test_families import every
from tests.families.test_setups import flux_controlnet
from tests.probes import Probe

SLD: Any = PLUGINS["safe-latent-diffusion"]
SEGA: Any = PLUGINS["sega"]
Delayed: Any = PLUGINS["delayed-negative"]
Excite: Any = PLUGINS["attend-and-excite"]

SAFE = SLD(
    concept="a green frog", start=0.3, scale=50, threshold=0.1, momentum_scale=0.4, momentum=0.6
)
EDITS = SEGA(("+a red car", "-a big bird"), scale=3.0, start=0.3, threshold=0.7)
NEGATIVE = Delayed(negative="a green frog", start=0.3, stop=0.8, scale=1.5)
STEPS = 4


class Seeing(Guide):
    """Looks at the predictions, and says one of them in place of the prompt's."""

    unguided = True
    texts = ("a green car",)

    def __init__(self, said: Callable[[Prediction], Tensor]) -> None:
        self.said, self.seen = said, list[Prediction]()

    def predict(self, step: Step, eps: Prediction) -> Tensor:
        self.seen.append(eps)
        return self.said(eps)


# Every family


@every
def test_the_empty_texts_prediction_stands_in_for_the_pipelines_own(case: Case) -> None:
    """Exact: with it in the prompt's place the picture is an empty prompt's, or the own text's."""
    about = {"seeds": (1, 2), "guided": False}
    for said, text in ((lambda eps: eps.uncond, ""), (lambda eps: eps.extra[0], "a green car")):
        guide = Seeing(said)
        with Guidance(Probe(lambda run, guide=guide: guide)).attach(case.pipe) as attached:
            found = case(prompts=["a cat", "a red frog and a dog"], **about)
        bare = case.bare if text == "" else {}
        torch.testing.assert_close(found, case([text] * 2, **about, **bare), rtol=2e-3, atol=2e-3)
        assert [eps.scale for eps in guide.seen] == [1.0, 1.0]
        assert any("the empty text's is made for probe" in n for n in attached.report.notes)
    assert not torch.allclose(found, case(["a cat", "a red frog and a dog"], **about), atol=1e-2)


@every
def test_what_changes_nothing_is_plain_and_a_batch_is_its_pictures(case: Case) -> None:
    plain = case(guided=False)
    watching = Seeing(lambda eps: eps.cond)
    for plugins in (
        (SLD(scale=0),),
        (SEGA(("+a car",), scale=0),),
        (Delayed(negative="a car", scale=0), Delayed(negative="a car", start=1.0)),
    ):
        with Guidance(*plugins).attach(case.pipe):
            assert torch.equal(case(guided=False), plain)
    with Guidance(Probe(lambda run: watching)).attach(case.pipe):
        torch.testing.assert_close(case(guided=False), plain, rtol=1e-4, atol=1e-4)
    far = Delayed(negative="a green frog", start=0.0, scale=20.0)
    prompts, guidance = ["a cat", "a dog and a car"], Guidance(SAFE, EDITS, far)
    with guidance.attach(case.pipe):
        both = case(prompts, seeds=(1, 2), guided=False)
        alone = [case([one], seeds=[k], guided=False) for k, one in enumerate(prompts, 1)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=2e-3, atol=2e-3)
    assert not torch.allclose(both, case(prompts, seeds=(1, 2), guided=False), atol=1e-2)


@pytest.mark.parametrize("make", [tiny.sd1, tiny.sdxl])
def test_the_same_on_unets(make: Callable[[], Any]) -> None:
    pipe = make()
    for said, text in ((lambda eps: eps.uncond, ""), (lambda eps: eps.extra[0], "a green car")):
        found = tiny.latents(
            pipe,
            guidance=Guidance(Probe(lambda run, said=said: Seeing(said))),
            guidance_scale=1.0,
            num_images_per_prompt=2,
            seeds=(0, 1),
        )
        wanted = tiny.latents(pipe, text, guidance_scale=1.0, num_images_per_prompt=2, seeds=(0, 1))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


# Against the published formulas, written out: in double precision, where no rounding carries a
# value over a threshold of theirs. Diffusers' flow schedulers step in single precision whatever
# they are given, and this alone is what the two may differ by.


TEXTS = ("encoder_hidden_states", "pooled_projections", "added_cond_kwargs")


def sld(step: int, parts: Sequence[Tensor], memory: dict[str, Tensor]) -> Tensor:
    prompt = parts[0]
    values = [
        min(1.0, 50 * abs(p - s)) * (s - zero) if p - s < 0.1 else 0.0
        for p, zero, s in zip(*(part.flatten().tolist() for part in parts), strict=True)
    ]
    gamma = torch.tensor(values).view_as(prompt)
    nu = memory.get("nu", torch.zeros_like(gamma))
    gamma = gamma + 0.4 * nu
    memory["nu"] = 0.6 * nu + 0.4 * gamma
    return prompt - gamma if step / STEPS >= 0.3 else prompt


def sega(step: int, parts: Sequence[Tensor], memory: dict[str, Tensor]) -> Tensor:
    prompt, nothing, *edits = parts
    gamma = torch.zeros_like(prompt)
    for sign, edit in zip((1, -1), edits, strict=True):
        psi = sign * 3.0 * (edit - nothing)
        for channel in psi.flatten(0, 1):
            sizes = channel.abs().flatten().sort().values
            place = 0.7 * (len(sizes) - 1)
            low = int(place)
            least = sizes[low] + (place - low) * (sizes[low + 1] - sizes[low])
            channel[channel.abs() < least] = 0
        gamma += psi
    nu = memory.get("nu", torch.zeros_like(gamma))
    gamma = gamma + 0.1 * nu
    memory["nu"] = 0.4 * nu + 0.6 * gamma
    return prompt + gamma if step / STEPS >= 0.3 else prompt


def delayed(step: int, parts: Sequence[Tensor], memory: dict[str, Tensor]) -> Tensor:
    prompt, nothing, negative = parts
    return prompt + 1.5 * (nothing - negative) if 0.3 <= step / STEPS < 0.8 else prompt


FORMULAS = {
    "sld": (SAFE, sld, ("a green frog",)),
    "sega": (EDITS, sega, ("a red car", "a big bird")),
    "delayed": (NEGATIVE, delayed, ("a green frog",)),
}


@contextmanager
def rewritten(
    pipe: Any, call: Callable[..., Tensor], formula: Any, texts: Sequence[str]
) -> Iterator[None]:
    """The pipeline with a formula put on its denoiser's output, each text in a call of its own."""
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    said: list[dict[str, Any]] = []

    def listen(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        said.append({name: kwargs[name] for name in TEXTS if kwargs.get(name) is not None})

    listening = denoiser.register_forward_hook(listen, with_kwargs=True)
    for text in ("", *texts):
        count = len(said)
        call(text)
        del said[count + 1 :]
    listening.remove()
    memory: dict[str, Tensor] = {}
    steps = iter(range(STEPS))

    def change(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        forward = type(module).forward
        given = [output[0], *(forward(module, *args, **{**kwargs, **one})[0] for one in said)]
        latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        time = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        factors = as_noise(pipe, time)
        parts = [factors[0] * latents + factors[1] * part for part in given]
        packed = latents.ndim == 3
        if packed:  # to `Float[batch channels h w]`
            parts = [pipe._unpack_latents(part, 32, 24, 2) for part in parts]
        changed = formula(next(steps), parts, memory)
        if packed:
            changed = pipe._pack_latents(changed, *changed.shape)
        return ((changed - factors[0] * latents) / factors[1],)

    changing = denoiser.register_forward_hook(change, with_kwargs=True)
    try:
        yield
    finally:
        changing.remove()


def as_noise(pipe: Any, time: Any) -> tuple[float, float]:
    """The factors of latents and prediction that make the predicted noise of them."""
    if hasattr(pipe, "transformer"):  # a flow: x = (1 - s) x0 + s n, v = n - x0
        return 1.0, max(1 - float(time.flatten()[0]), 0.01)
    if pipe.scheduler.config.prediction_type == "epsilon":
        return 0.0, 1.0
    level = float(pipe.scheduler.alphas_cumprod[int(time)])
    return (1 - level) ** 0.5, level**0.5


def flux_call(pipe: Any, **more: Any) -> Callable[..., Tensor]:
    options = {"height": 32, "width": 24, "max_sequence_length": T5, "output_type": "latent"}

    def call(prompt: str = "a cat and a dog") -> Tensor:
        found: Tensor = pipe(
            prompt,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(0),
            **options,
            **more,
        ).images
        return found

    return call


def unet_call(pipe: Any, **more: Any) -> Callable[..., Tensor]:
    def call(prompt: str = "a cat and a dog") -> Tensor:
        return tiny.latents(pipe, prompt, steps=STEPS, guidance_scale=1.0, **more)

    return call


def from_picture() -> tuple[Any, Callable[..., Tensor]]:
    pipe = pipes.quiet(diffusers.FluxImg2ImgPipeline(**pipes.flux().components))
    picture = torch.rand(1, 3, 32, 24, generator=torch.Generator().manual_seed(1))
    return pipe, flux_call(pipe, image=picture, strength=1.0)


def flux() -> tuple[Any, Callable[..., Tensor]]:
    pipe = pipes.flux()
    return pipe, flux_call(pipe)


def unet() -> tuple[Any, Callable[..., Tensor]]:
    pipe = tiny.sd1()
    return pipe, unet_call(pipe)


def consistency() -> tuple[Any, Callable[..., Tensor]]:
    """A UNet that is told the guidance scale, with its sampler."""
    pipe = tiny.sd1(unet=tiny.unet(time_cond_proj_dim=8))
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)

    def call(prompt: str = "a cat and a dog") -> Tensor:
        return tiny.latents(pipe, prompt, steps=STEPS, guidance_scale=4.0)

    return pipe, call


def toybox() -> tuple[Any, Callable[..., Tensor]]:
    pipe = load_toybox()
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe, unet_call(pipe, size=None)


HOSTS = {
    "flux": flux,
    "flux from a picture": from_picture,
    "unet": unet,
    "lcm": consistency,
    "toybox": toybox,
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_written_out(name: str, host: Any) -> None:
    plugin, formula, texts = FORMULAS[name]
    pipe, call = host()
    pipe.to(torch.float64)
    plain = call()
    with rewritten(pipe, call, formula, texts):
        wanted = call()
    with Guidance(plugin).attach(pipe):
        found = call()
    assert tiny.apart(wanted, plain) > 5e-4
    assert tiny.apart(found, wanted) < 1e-6


def test_beside_an_energy_the_moved_latents_are_predicted() -> None:
    pipe, call = flux()
    pipe.to(torch.float64)
    plugin, formula, texts = FORMULAS["sld"]
    excite = Excite(refinements=0)
    with rewritten(pipe, call, formula, texts), Guidance(excite).attach(pipe):
        wanted = call()
    with Guidance(excite, plugin).attach(pipe):
        found = call()
    with Guidance(excite).attach(pipe):
        excited = call()
    assert tiny.apart(found, wanted) < 1e-6
    assert tiny.apart(found, excited) > 1e-3


def test_two_methods_add_up_and_share_the_empty_text() -> None:
    """In the last step alone, where neither has changed what the other sees."""
    pipe, call = flux()
    last = {"start": 0.75, "stop": 1.0}
    plugins = (SEGA(("+a car",), **last), Delayed(negative="a frog", **last))
    rows, found = [], []
    for some in ((), plugins[:1], plugins[1:], plugins):
        with shown_calls(pipe) as calls, Guidance(*some).attach(pipe):
            found.append(call())
        rows.append([len(one["hidden_states"]) for one in calls])
    assert rows == [[1] * 4, [3] * 4, [1, 1, 1, 3], [3, 3, 3, 4]]
    plain, one, other, both = found
    assert tiny.apart(one, plain) > 1e-4
    assert tiny.apart(other, plain) > 1e-4
    torch.testing.assert_close(both - plain, (one - plain) + (other - plain), rtol=0, atol=1e-5)


def test_with_a_controlnet_each_picture_keeps_its_own() -> None:
    """A ControlNet reads the prompt alone, and what it adds goes to the picture's further rows."""
    pipe, more = flux_controlnet()

    def call(rows: slice) -> Tensor:
        options = {"height": 32, "width": 32, "max_sequence_length": T5, "output_type": "latent"}
        own = {name: value[rows] for name, value in more.items()}
        found: Tensor = pipe(
            ["a cat", "a dog and a car"][rows],
            num_inference_steps=2,
            generator=tiny.generators(1, 2)[rows],
            **options,
            **own,
        ).images
        return found

    with Guidance(SAFE, replace(NEGATIVE, scale=20.0)).attach(pipe):
        both, alone = call(slice(2)), [call(slice(k, k + 1)) for k in range(2)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both, call(slice(2)), atol=1e-2)


# What it costs


@pytest.mark.parametrize("plugin", [SAFE, EDITS, NEGATIVE], ids=lambda plugin: plugin.name)
def test_rows_are_no_more_than_is_said(plugin: Any) -> None:
    pipe, call = flux()
    with Rows(family_of(pipe)) as rows, Guidance(plugin).attach(pipe):
        call()
    assert rows.own == STEPS
    added = rows.rows - rows.own
    assert 0 < added <= extra_passes((plugin,), STEPS)
    assert plugin is NEGATIVE or added == extra_passes((plugin,), STEPS)


# A negative text of the plugin's own


def test_with_guidance_its_own_text_is_the_negative_prompt() -> None:
    """On a model that has no pooled text, exactly; and what it takes the place of is said."""
    pipe = tiny.sd1()
    wanted = tiny.latents(pipe, guidance=Guidance(Delayed(start=0.5)), negative_prompt="a frog")
    for given in ({}, {"negative_prompt": "a dog"}):
        with Guidance(Delayed(negative="a frog", start=0.5)).attach(pipe) as attached:
            assert torch.equal(tiny.latents(pipe, **given), wanted)
        said = "left out for delayed-negative's own, 'a frog'"
        assert any(said in note for note in attached.report.notes) == bool(given)
    assert tiny.apart(wanted, tiny.latents(pipe)) > 1e-4


def test_an_empty_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="negative is empty; say what is unwanted"):
        Delayed(negative=" ")
